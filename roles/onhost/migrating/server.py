"""What the database's server says of itself and of its tables."""


def server_version(connection):
    """e.g. "15.14" or "10.11.6"; None where the backend does not say."""
    version = getattr(connection, "pg_version", None) or getattr(connection, "mysql_version", None)
    if isinstance(version, int):
        return "%d.%d" % (version // 10000, version % 10000)
    if version is None and connection.vendor == "sqlite":
        version = connection.Database.sqlite_version_info
    return ".".join(map(str, version)) if version else None


MYSQL_SIZE = ("SELECT data_length + index_length FROM information_schema.tables "
              "WHERE table_schema = DATABASE() AND table_name = %s")


def table_bytes(connection, table):
    """What a table takes with its indexes; 0 where it is not there, None where nobody says.

    SQLite knows only its whole file; InnoDB's figures lag behind (MySQL 8: up to a day).
    """
    from django.db import Error

    questions = {
        "postgresql": ("SELECT pg_total_relation_size(to_regclass(%s))",
                       [connection.ops.quote_name(table)]),
        "mysql": (MYSQL_SIZE, [table]),
        "sqlite": ("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", []),
    }
    if connection.vendor not in questions:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(*questions[connection.vendor])
            row = cursor.fetchone()
    except Error:
        return None
    return int(row[0] or 0) if row else 0


def has_rows(connection, table):
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return False
        cursor.execute("SELECT 1 FROM %s LIMIT 1" % connection.ops.quote_name(table))  # noqa: S608
        return cursor.fetchone() is not None
