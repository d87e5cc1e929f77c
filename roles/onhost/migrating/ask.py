"""Ask the release which migrations its databases lack, and what each means. Reads only.

Arguments: env, databases [alias], overrides {"app.name": phase}, heavy_bytes; for the SQL as well,
sql; for what going back takes instead, back {alias: [[app, name or "zero"]]}. Prints, after the
sentinel, {"plans": {alias: as ``plan.read_plan``}, "decision": as ``deciding.decide_together``,
"hash", "sql": {alias: {"app.name": [lines]}}}, or {"back": {alias: as ``reverse.read_reverse``}}.
Exit 3: Django or the database cannot answer; the reason is on standard error.
"""

from . import deciding, plan, project, reverse, sql


def main(arguments):
    def question():
        project.set_up(arguments["env"])
        connections = project.databases(arguments["databases"])
        overrides = arguments["overrides"]
        if "back" in arguments:
            return {"back": {alias: reverse.read_reverse(connections[alias], targets, overrides)
                             for alias, targets in arguments["back"].items()}}
        plans = {alias: plan.read_plan(connection, overrides, arguments["heavy_bytes"])
                 for alias, connection in connections.items()}
        found = {"plans": plans, "decision": deciding.decide_together(plans),
                 "hash": plan.whole_hash(plans)}
        if arguments.get("sql"):
            found["sql"] = {alias: sql.statements(connection)
                            for alias, connection in connections.items()}
        return found

    project.answer(question)
