"""How the connections that migrate are set: never a long queue behind a lock, never a silent end.

One ALTER TABLE that waits for its lock makes every later query wait behind it, so it gives up after
``lock_timeout``. It is set on the connection and read back, as PGOPTIONS is silently ignored where
the project has options of its own.
"""


class NotSet(Exception):
    """The server did not take a setting."""


def beside(alias):
    """A connection of our own, beside those that Django has: no transaction that stays open, and
    none that comes from a pool and goes back to it."""
    from django.db import connections

    connection = connections.create_connection(alias)
    options = connection.settings_dict.get("OPTIONS") or {}
    connection.settings_dict = dict(
        connection.settings_dict, AUTOCOMMIT=True,
        OPTIONS={name: value for name, value in options.items() if name != "pool"})
    connection.fabfleet = True
    return connection


def without_pool(aliases):
    """A pool keeps sessions that nobody looks after, and gives no third one where it is small."""
    from django.db import connections

    for alias in aliases:
        connection = connections[alias]
        options = connection.settings_dict.get("OPTIONS") or {}
        if options.get("pool"):
            connection.close()
            if alias in connection._connection_pools:  # else it would be made now
                connection.close_pool()
            options.pop("pool")


def guard(seconds, aliases, mark):
    """Every connection that Django opens from now on has these settings, and those to databases
    that we migrate are marked as at work."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    def opened(connection, **_):
        prepare(connection, seconds)
        if connection.alias in aliases and not hasattr(connection, "fabfleet"):
            mark(connection)

    connection_created.connect(opened, weak=False, dispatch_uid="fabfleet")
    for connection in connections.all():
        if connection.connection is not None:
            opened(connection)


def prepare(connection, seconds):
    ways = {"postgresql": postgresql, "mysql": mysql, "sqlite": sqlite}
    if connection.vendor in ways:
        ways[connection.vendor](connection, seconds)


def postgresql(connection, seconds):
    """statement_timeout and its like are made for web requests; an index may take an hour."""
    wait = milliseconds(seconds)
    wanted = {"lock_timeout": "%dms" % wait, "statement_timeout": "0",
              "idle_in_transaction_session_timeout": "0"}
    optional = {
        "idle_session_timeout": "0",  # PostgreSQL 14; our lock's session is idle for hours
        # A server busy with a statement notices that its client is gone; PostgreSQL 14.
        "client_connection_check_interval": "2s",
        "transaction_timeout": "0",  # PostgreSQL 17
        "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3",
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_settings WHERE name = ANY(%s)", [list(optional)])
        wanted.update((name, optional[name]) for name, in cursor.fetchall())
        for name, value in wanted.items():
            cursor.execute("SELECT set_config(%s, %s, false)", [name, value])
        cursor.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout'")
        found = cursor.fetchone()[0]
    if found != wait:
        raise NotSet("lock_timeout is %s ms after it was set to %d ms" % (found, wait))


def milliseconds(seconds):
    """Never 0, which would be no limit at all."""
    return max(1, round(seconds * 1000))


def mysql(connection, seconds):
    whole = max(1, round(seconds))
    with connection.cursor() as cursor:
        for name in ("lock_wait_timeout", "innodb_lock_wait_timeout"):
            cursor.execute("SET SESSION %s = %d" % (name, whole))
        # Made for web requests: MariaDB's limit for a statement, and for a session between two.
        cursor.execute("SHOW SESSION VARIABLES LIKE 'max_statement_time'")
        if cursor.fetchone():
            cursor.execute("SET SESSION max_statement_time = 0")
        cursor.execute("SET SESSION wait_timeout = 28800")
        cursor.execute("SELECT @@SESSION.lock_wait_timeout")
        found = cursor.fetchone()[0]
    if found != whole:
        raise NotSet("lock_wait_timeout is %s s after it was set to %d s" % (found, whole))


def sqlite(connection, seconds):
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = %d" % milliseconds(seconds))


def is_lock_timeout(error):
    """Whether a lock was not to be had in time, or only at the price of a deadlock: 55P03 and 40P01
    on PostgreSQL, 1205 and 1213 on MySQL."""
    cause = error.__cause__ or error
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state in ("55P03", "40P01"):
        return True
    if type(cause).__module__.partition(".")[0] in ("MySQLdb", "pymysql"):
        return bool(cause.args) and cause.args[0] in (1205, 1213)
    return "database is locked" in str(error) or "database table is locked" in str(error)


# --- who stands in the way -----------------------------------------------------------------------

POSTGRESQL = (
    "SELECT pid, coalesce(usename, '?'), coalesce(nullif(application_name, ''), 'no name'), "
    "coalesce(host(client_addr), 'local'), coalesce(state, backend_type, 'its state is hidden'), "
    "coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::int "
    "FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(%s)) ORDER BY xact_start")

MYSQL = (
    "SELECT p.id, p.user, p.host, lower(p.command), "
    "timestampdiff(SECOND, t.trx_started, now()) FROM information_schema.innodb_trx t "
    "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
    "WHERE p.id <> %s ORDER BY t.trx_started")


def session_id(connection):
    """What the server calls this connection; None where there are none."""
    asked = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
    if connection.vendor not in asked:
        return None
    with connection.cursor() as cursor:
        cursor.execute(asked[connection.vendor])
        return cursor.fetchone()[0]


def blockers(connection, session):
    """In words, who keeps this connection waiting; no query's text, as that may hold anything."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(POSTGRESQL, [session])
            return ["pid %s (%s, %s, from %s): %s, in its transaction for %s s" % tuple(row)
                    for row in cursor.fetchall()]
        cursor.execute("SELECT state FROM information_schema.processlist "
                       "WHERE id = %s AND state LIKE 'Waiting for %%lock%%'", [session])
        if not cursor.fetchall():
            return []
        # The server does not say who has it; whoever has a transaction open may.
        cursor.execute(MYSQL, [session])
        return ["connection %s (%s from %s): %s, perhaps, in its transaction for %s s" % tuple(row)
                for row in cursor.fetchall()] or ["somebody: the server does not say who"]
