"""What people, extensions and libraries do by hand."""

from .scene import is_postgresql
from .words import MARK, OK, effect, nothing, unknown


def run_python(operation, scene):
    from django.db import router

    if operation.code is type(operation).noop:
        return [nothing("RunPython.noop")]
    if not router.allow_migrate(scene.connection.alias, scene.app, **operation.hints):
        return [nothing("the router keeps it from the database %r" % scene.connection.alias)]
    name = getattr(operation.code, "__qualname__", repr(operation.code))
    return [dict(unknown("what the function %s does is unknown" % name, MARK),
                 facts={"by_hand": True, "note": "locks the rows that it changes until the "
                                                 "transaction ends"})]


def run_sql(operation, scene):
    from django.db import router

    sql = operation.sql
    if not (sql.strip() if isinstance(sql, str) else list(sql)):
        return [nothing("no SQL")]
    if not router.allow_migrate(scene.connection.alias, scene.app, **operation.hints):
        return [nothing("the router keeps it from the database %r" % scene.connection.alias)]
    return [dict(unknown("what the SQL does is unknown", MARK), facts={"by_hand": True})]


def create_extension(operation, scene):
    if not is_postgresql(scene):
        return [nothing("not PostgreSQL")]
    return [effect("before", OK, "fails where it uses the extension",
                   loses_back="columns and indexes of the extension's types")]


def create_collation(operation, scene):
    if not is_postgresql(scene):
        return [nothing("not PostgreSQL")]
    return [effect("before", OK, "fails where it uses the collation")]


def remove_collation(operation, scene):
    if not is_postgresql(scene):
        return [nothing("not PostgreSQL")]
    return [effect("after", "fails where it uses the collation", OK)]


def deferred(operation, scene):
    """django-deferred-migrations: relaxes the old schema now, drops after the deploy. By its docs.

    Removals drop the constraints and NOT NULL first; a rename leaves a view under the old name.
    """
    name = getattr(operation, "model_name", None) or operation.name \
        if hasattr(operation, "name") else operation.old_name
    table = scene.before.apps.get_model(scene.app, name)._meta.db_table
    return [effect("before", OK, "not measured: run it before the new code starts",
                   locks={table: "AX"}, subject=table,
                   facts={"queued": "the drop waits for `migrate_post_deploy`"})]
