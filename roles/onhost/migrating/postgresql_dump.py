"""PostgreSQL: pg_dump's custom format, read back and restored by pg_restore.

Everything that the tools have to know of the connection comes from the one that Django has open,
wherever its parameters came from (settings, a service file, a password file), and goes into their
environment, which only this user can read.
"""

import glob
import os
import re
import sys
from contextlib import contextmanager

from . import stored

SUFFIX = ".dump"
# libpq's parameters that matter for reaching the server, and the variables that stand for them.
VARIABLES = {
    "application_name": "PGAPPNAME",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssencmode": "PGGSSENCMODE",
    "gsslib": "PGGSSLIB",
    "hostaddr": "PGHOSTADDR",
    "krbsrvname": "PGKRBSRVNAME",
    "options": "PGOPTIONS",
    "require_auth": "PGREQUIREAUTH",
    "requirepeer": "PGREQUIREPEER",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslrootcert": "PGSSLROOTCERT",
    "sslsni": "PGSSLSNI",
}


def database(connection):
    return one(connection, "SELECT current_database()")


def size(connection):
    return one(connection, "SELECT pg_database_size(current_database())")


def marker(connection):
    """Where in its write-ahead log the server was; None where this user may not know."""
    from django.db import DatabaseError

    statement = ("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
                 "ELSE pg_current_wal_lsn() END::text")
    try:
        return {"lsn": one(connection, statement)}
    except DatabaseError:
        connection.close()
        return {"lsn": None}


def refusal(connection):
    """Why no dump can be made here, or ""."""
    server = major(connection)
    found = versions("pg_dump")
    if fitting(found, server):
        return ""
    install = "install it there: apt install postgresql-client-%d" % server
    if not found:
        return ("pg_dump is not on this host; %s (where the host's own release has that version: "
                "apt install postgresql-client)" % install)
    return ("pg_dump is of version %d and the server of %d, which it cannot dump; %s"
            % (max(found), server, install))


def dump(connection, path):
    stored.run("pg_dump", [
        program(connection, "pg_dump"), "-Fc", "--no-owner", "--no-password",
        "--lock-wait-timeout=5s", "-f", path, "-d", words_for(database(connection)),
    ], environment(connection))


def read_back(connection, path):
    """The whole of it, as a restore would; pg_restore --list reads no more than the beginning."""
    stored.run("%s cannot be read back" % path,
               [program(connection, "pg_restore"), "-f", "/dev/null", path])


@contextmanager
def restored(connection, path, scratch):
    """The dump in a database of its own, which is gone afterwards."""
    try:
        create(connection, scratch)
        stored.run("pg_restore", [
            program(connection, "pg_restore"), "--exit-on-error", "--no-owner", "--no-privileges",
            "--no-password", "-d", words_for(scratch), path,
        ], environment(connection))
        yield
    finally:
        drop(connection, scratch)


def create(connection, scratch):
    from django.db import DatabaseError

    row = all_of(connection, "SELECT pg_encoding_to_char(encoding), datcollate, datctype "
                             "FROM pg_database WHERE datname = current_database()")
    try:
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE %s TEMPLATE template0 ENCODING %s LC_COLLATE %s "
                           "LC_CTYPE %s" % (connection.ops.quote_name(scratch), *map(text, row)))
    except DatabaseError as error:
        sys.exit("the drill needs a database of its own: %s: %s\nlet this user make one (ALTER "
                 "ROLE ... CREATEDB), or have backup.env name another user for backups and drills"
                 % (scratch, str(error).strip()))


def drop(connection, scratch):
    # What was interrupted may have left the connection in the midst of something.
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                       [scratch])
        cursor.execute("DROP DATABASE IF EXISTS " + connection.ops.quote_name(scratch))


# --------------------------------------------------------------------------------- the tools


def environment(connection):
    """Ours, with what pg_dump needs to reach the same server as the same user."""
    connection.ensure_connection()
    info = connection.connection.info
    known = info.get_parameters() if hasattr(info, "get_parameters") else info.dsn_parameters
    # A service file would win over the variables below, and everything in it is in `known`.
    found = {name: value for name, value in os.environ.items()
             if name not in ("PGSERVICE", "PGHOSTADDR", "PGDATABASE")}
    found.update((VARIABLES[name], str(value)) for name, value in known.items()
                 if name in VARIABLES and "," not in str(value))
    # Of several hosts, the one that Django has reached.
    found.update(PGHOST=info.host or "", PGPORT=str(info.port), PGUSER=info.user)
    if info.password:
        found["PGPASSWORD"] = info.password
    role = connection.settings_dict.get("OPTIONS", {}).get("assume_role")
    if role:
        escaped = re.sub(r"([\\ ])", r"\\\1", role)
        found["PGOPTIONS"] = ("%s -c role=%s" % (found.get("PGOPTIONS", ""), escaped)).strip()
    return {name: value for name, value in found.items() if value}


def words_for(name):
    """A database's name such that it is never mistaken for a whole connection string."""
    return "dbname='%s'" % name.replace("\\", "\\\\").replace("'", "\\'")


def program(connection, name):
    return fitting(versions(name), major(connection))


def versions(name):
    """{major version: path} of what is installed; Debian has a folder for each version."""
    found = {}
    places = [stored.tool(name), *glob.glob("/usr/lib/postgresql/*/bin/" + name)]
    for path in filter(None, places):
        said = re.search(r"\) (\d+)", stored.says(path, "--version"))
        if said:
            found.setdefault(int(said.group(1)), path)
    return found


def fitting(found, server):
    """The oldest program that can dump this server, so that the server can read its dump."""
    able = [each for each in found if each >= server]
    return found[min(able)] if able else ""


def major(connection):
    return int(one(connection, "SHOW server_version_num")) // 10000


# --------------------------------------------------------------------------------- asking


def all_of(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()


def one(connection, statement):
    return all_of(connection, statement)[0]


def text(value):
    return "'%s'" % value.replace("'", "''")
