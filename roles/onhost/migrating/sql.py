"""The SQL of pending migrations, for a person who wants to read it first. Only reads."""


def statements(connection):
    """{"app.name": [lines]} as ``sqlmigrate`` has them, one transaction each where they are atomic.

    What cannot be told before the migrations in front of it ran (the name of a constraint) is a
    comment that says so.
    """
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    loader = executor.loader
    found = {}
    for migration, _ in executor.migration_plan(loader.graph.leaf_nodes()):
        try:
            lines = loader.collect_sql([(migration, False)])
        except Exception as error:  # noqa: BLE001 - any backend may fail in a way of its own
            lines = ["-- cannot be written before the ones above ran: %s" % error]
        if migration.atomic and connection.features.can_rollback_ddl:
            ops = connection.ops
            lines = [ops.start_transaction_sql(), *lines, ops.end_transaction_sql()]
        found["%s.%s" % (migration.app_label, migration.name)] = lines
    return found
