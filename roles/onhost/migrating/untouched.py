"""Whether the databases are still as they were before a job: exit 1, with the reason, where not.

ARGUMENTS: env, only {alias: ["app.name"]} in the order in which they run, back (they are taken
back).
A migration that is no single transaction may have done a part of its work before it failed.
"""

import sys

from . import project


def reasons(arguments):
    from django.db.migrations.loader import MigrationLoader

    back = arguments["back"]
    for alias, connection in project.databases(list(arguments["only"])).items():
        names = arguments["only"][alias]
        loader = MigrationLoader(connection)
        known = {"%s.%s" % key: migration for key, migration in loader.graph.nodes.items()
                 if migration is not None}
        applied = {"%s.%s" % key for key in loader.applied_migrations}
        done = [name for name in names if (name in applied) != back]
        if done:
            yield "%s in %s: %s" % ("taken back" if back else "applied", alias, ", ".join(done))
        elif names and names[0] in known:
            whole = known[names[0]].atomic and connection.features.can_rollback_ddl
            if not whole:
                yield ("%s in %s is no single transaction, so a part of it may be done"
                       % (names[0], alias))


def main(arguments):
    def question():
        project.set_up(arguments["env"])
        found = list(reasons(arguments))
        if found:
            sys.stderr.write("the database is not as it was (%s), so the old code is not started\n"
                             % "; ".join(found))
            sys.exit(1)
        return {"untouched": True}

    project.answer(question, exits=True)
