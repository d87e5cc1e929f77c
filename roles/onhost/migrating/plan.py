"""The pending migrations of one database, in order, judged. Only reads."""

import hashlib
import json

from .judging import judged_operations, never_run
from .markers import marker
from .migration import file_hash, judged_migration
from .server import server_version, table_bytes
from .words import PHASES, blocking

HEAVY_BYTES = 50 * 1000 * 1000


def read_plan(connection, overrides=None, heavy_bytes=HEAVY_BYTES):
    """The pending migrations of one database, in order, judged. Needs only SELECT.

    overrides: {"app.name": phase}. ->
    {"alias", "vendor", "server_version", "transactional": DDL rolls back, "first": no migration
    ever ran here (markers are not asked then), "tools": [installed apps with markers or commands
    of their own], "conflicts": {app: [names]}, "inconsistent": words or None, "ahead": ["app.name"
    applied but not in this code], "applied": ["app.name"], "leaves": {app: its last migration},
    "heavy_bytes", "unused_overrides": [names], "pending": [as judged_migration], "hash"}
    """
    from django.db.migrations.executor import MigrationExecutor

    overrides = dict(overrides or {})
    for name, phase in overrides.items():
        if phase not in PHASES:
            raise ValueError("overrides.%s: %r is none of %s" % (name, phase, ", ".join(PHASES)))
    executor = MigrationExecutor(connection)
    loader = executor.loader
    first = not executor.recorder.has_table()
    steps = [each for each, _ in executor.migration_plan(loader.graph.leaf_nodes())]
    transactional = bool(connection.features.can_rollback_ddl)
    judged = judged_steps(steps, executor, first)
    pending = [
        judged_migration(migration, operations, parents_of(migration, loader, steps),
                         None if first else marker(migration, overrides), transactional)
        for migration, operations in zip(steps, judged)
    ]
    names = {each["migration"] for each in pending}
    weigh(close(pending), lambda table: table_bytes(connection, table), heavy_bytes)
    return {
        "alias": connection.alias,
        "vendor": connection.vendor,
        "server_version": server_version(connection),
        "transactional": transactional,
        "first": first,
        "tools": tools(),
        "conflicts": {app: sorted(found) for app, found in loader.detect_conflicts().items()},
        "inconsistent": inconsistency(loader, connection),
        "ahead": ahead(loader),
        "applied": sorted("%s.%s" % tuple(each) for each in loader.applied_migrations),
        "leaves": leaves(loader),
        "heavy_bytes": heavy_bytes,
        "unused_overrides": sorted(set(overrides) - names),
        "pending": pending,
        "hash": plan_hash(pending),
    }


def judged_steps(steps, executor, first):
    """The judged operations of each step: [[as `classify`]]."""
    if first:
        return [[never_run(each) for each in migration.operations] for migration in steps]
    state, created, found = state_now(executor), set(), []
    for migration in steps:
        operations, state = judged_operations(
            migration.app_label, migration.operations, state, executor.connection, created)
        found.append(operations)
    return found


def state_now(executor):
    """Django's project state with what is applied, as the executor itself makes it."""
    from django.db.migrations.state import ProjectState

    loader = executor.loader
    state = ProjectState(real_apps=loader.unmigrated_apps)
    for migration, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True):
        if (migration.app_label, migration.name) in loader.applied_migrations:
            migration.mutate_state(state, preserve=False)
    return state


def parents_of(migration, loader, steps):
    """The pending migrations that must run before this one: dependencies, and run_before's."""
    pending = {(each.app_label, each.name) for each in steps}
    node = loader.graph.node_map[(migration.app_label, migration.name)]
    return sorted("%s.%s" % each.key for each in node.parents if each.key in pending)


def inconsistency(loader, connection):
    """Why the history cannot be, in Django's words; None where it can."""
    from django.db.migrations.exceptions import InconsistentMigrationHistory

    try:
        loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        return str(error)
    return None


def ahead(loader):
    """Applied, but not on disk: the database is ahead of this code. Only apps that it has."""
    known = set(loader.disk_migrations)
    known.update(replaced for each in loader.replacements.values() for replaced in each.replaces)
    apps = {app for app, _ in loader.disk_migrations}
    return sorted("%s.%s" % each for each in loader.applied_migrations
                  if tuple(each) not in known and each[0] in apps)


def leaves(loader):
    """{app: the name of its last migration}, for going back to this code."""
    return dict(loader.graph.leaf_nodes())


def pending_steps(connection):
    """[("app.name", sha256 of its file, [pending ones that it needs])] in the order in which they
    would run."""
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    loader = executor.loader
    steps = [each for each, _ in executor.migration_plan(loader.graph.leaf_nodes())]
    return [("%s.%s" % (each.app_label, each.name), file_hash(each),
             parents_of(each, loader, steps)) for each in steps]


def applied_names(connection):
    from django.db.migrations.loader import MigrationLoader

    return {"%s.%s" % tuple(each) for each in MigrationLoader(connection).applied_migrations}


def tools():
    """Installed apps that have markers, or a `migrate` of their own."""
    from django.apps import apps

    names = ("django_safemigrate", "syzygy", "deferred_migrations")
    return [name for name in names if apps.is_installed(name)]


def close(pending):
    """Order among migrations: what waits for one that runs after, runs after too.

    `dependencies` hold run_before already. any behind after -> after; before behind after ->
    blocked: it must run before the new code, and cannot.
    """
    waiting = {}
    for each in pending:
        behind = sorted({name for parent in each["dependencies"]
                         for name in [parent, *waiting.get(parent, [])] if name in waiting})
        if behind and each["phase"] == "any":
            each["phase"] = "after"
        elif behind and each["phase"] == "before":
            each["blocked_by"] = behind
        each["behind"] = behind
        if behind or each["phase"] == "after":
            waiting[each["migration"]] = behind
    return pending


def weigh(pending, size, heavy_bytes):
    """Fill in `sizes`, {table: bytes} of every locked table, and `heavy`: work on a big one while
    others cannot write to it.

    size(table) -> bytes, or None where the database does not say; that counts as big. Each table
    is asked for once. An index built concurrently or a validation (SUX) blocks nobody, so it is
    never heavy.
    """
    sizes = {}
    for each in pending:
        for table in each["locks"]:
            if table not in sizes:
                sizes[table] = size(table)
        each["sizes"] = {table: sizes[table] for table in sorted(each["locks"])}
        for table, cost in sorted(each["work"].items()):
            if cost == "brief" or not blocking(each["locks"].get(table, "none")):
                continue
            if sizes[table] is None or sizes[table] > heavy_bytes:
                each["heavy"].append({"table": table, "bytes": sizes[table], "cost": cost,
                                      "lock": each["locks"][table]})
    return pending


def whole_hash(plans):
    """{alias: plan} -> one hash over all databases; a single one's hash is its own."""
    if len(plans) == 1:
        return next(iter(plans.values()))["hash"]
    rows = "".join("%s:%s\n" % (alias, plans[alias]["hash"]) for alias in sorted(plans))
    return hashlib.sha256(rows.encode("utf-8")).hexdigest()


def plan_hash(pending):
    """sha256 over the ordered (app, name, sha256 of the file, phase)."""
    rows = [[each["app"], each["name"], each["sha256"], each["phase"]] for each in pending]
    return hashlib.sha256(json.dumps(rows).encode("utf-8")).hexdigest()
