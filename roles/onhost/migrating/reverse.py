"""What going back would take, before any step. Only reads."""

from .judging import judge, judged_as, judged_operations, reversible
from .markers import marker
from .migration import file_hash
from .scene import Scene
from .server import has_rows
from .words import join, unique


def read_reverse(connection, targets, overrides=None):
    """What going back to `targets` takes, checked as a whole before any step; changes nothing.

    targets: [("app", "name")] or ["app.name"], with None or "zero" for the very beginning. Run it
    with the NEW code on disk: only that code knows how to go back. "phase" is what it is to code
    that knows none of them: with before and any it lives. ->
    {"alias", "migrations": [{"migration", "phase", "reversible", "irreversible": [descriptions],
    "loses": [words], "fails": [words], "atomic", "sha256"}] in the order in which Django would go
    back, "complete": bool, "first_irreversible": {"migration", "operation"} or None,
    "loses": [words], "problems": [words]}
    """
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan, problems = reverse_plan(executor, [as_target(each) for each in targets])
    inside = states_inside({each for each, _ in plan}, executor)
    phases = phases_of(inside, overrides or {}, connection)
    migrations = [dict(reversed_migration(each, inside[each], connection), phase=phases[each])
                  for each, _ in plan]
    stuck = [(each["migration"], each["irreversible"][0]) for each in migrations
             if each["irreversible"]]
    fails = [words for each in migrations for words in each["fails"]]
    return {
        "alias": connection.alias,
        "migrations": migrations,
        "complete": not (stuck or fails or problems),
        "first_irreversible": (
            {"migration": stuck[0][0], "operation": stuck[0][1]} if stuck else None),
        "loses": unique(words for each in migrations for words in each["loses"]),
        "problems": problems + fails,
    }


def as_target(target):
    app, name = target.split(".", 1) if isinstance(target, str) else target
    return app, None if name == "zero" else name


def reverse_plan(executor, targets):
    """([(migration, True)], problems) where every step goes back."""
    loader = executor.loader
    known = {target for target in targets
             if target[1] is None or target in loader.graph.nodes}
    problems = ["%s.%s is not a migration of this release" % each
                for each in targets if each not in known]
    plan = executor.migration_plan([each for each in targets if each in known])
    problems += ["%s.%s is not applied: going back cannot apply it" % (each.app_label, each.name)
                 for each, backwards in plan if not backwards]
    return [step for step in plan if step[1]], problems


def states_inside(migrations, executor):
    """{migration: [(operation, state before, state after)]}, in forward order."""
    from django.db.migrations.state import ProjectState

    loader = executor.loader
    state, found = ProjectState(real_apps=loader.unmigrated_apps), {}
    for migration, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True):
        if (migration.app_label, migration.name) not in loader.applied_migrations:
            continue
        if migration not in migrations:
            migration.mutate_state(state, preserve=False)
            continue
        found[migration] = []
        for operation in migration.operations:
            after = state.clone()
            operation.state_forwards(migration.app_label, after)
            found[migration].append((operation, state, after))
            state = after
    return found


def phases_of(inside, overrides, connection):
    """{migration: phase}; what concerns only tables that these migrations made is safe."""
    created, found = set(), {}
    for migration, steps in inside.items():
        judged = [judged_operations(migration.app_label, [operation], before, connection, created)
                  for operation, before, _ in steps]
        mark = marker(migration, overrides)
        found[migration] = mark["phase"] if mark else join(
            [each["phase"] for operations, _ in judged for each in operations])
    return found


def reversed_migration(migration, inside, connection):
    """One step back: what stops it, and what it takes away."""
    irreversible, loses, fails = [], [], []
    for operation, before, after in reversed(inside):
        scene = Scene(migration.app_label, before, after, connection, frozenset())
        if not reversible(operation):
            irreversible.append(operation.describe())
        if is_noop_backwards(operation):
            loses.append("%s: going back restores nothing" % operation.describe())
        for each in judge(operation, scene):
            if each["loses_back"]:
                loses.append(each["loses_back"])
            fails += cannot_come_back(each, connection)
    return {
        "migration": "%s.%s" % (migration.app_label, migration.name),
        "reversible": not irreversible, "irreversible": irreversible, "loses": unique(loses),
        "fails": unique(fails), "atomic": bool(migration.atomic), "sha256": file_hash(migration),
    }


def is_noop_backwards(operation):
    """By-hand steps that have a way back which does nothing."""
    name = judged_as(type(operation))
    if name == "RunPython":
        noop = type(operation).noop
        return operation.reverse_code is noop and operation.code is not noop
    return name == "RunSQL" and operation.reverse_sql == "" and bool(operation.sql)


def cannot_come_back(each, connection):
    """A removed column that was NOT NULL cannot be made again where the table has rows."""
    facts = each["facts"]
    if not each["loses"] or "column" not in facts:
        return []
    if facts["null"] or facts["db_default"] or facts["generated"]:
        return []
    table = each["subject"]
    if not has_rows(connection, table):
        return []
    return ["%s is NOT NULL without a default in the database, and %s has rows: "
            "it comes back only if Django knows a default" % (facts["column"], table)]
