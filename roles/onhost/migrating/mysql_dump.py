"""MySQL and MariaDB: mysqldump's SQL, compressed; the tools get the password from a 0600 file."""

import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager

from . import stored

SUFFIX = ".sql.gz"
TRAILER = b"-- Dump completed"
TAIL = 4096


def database(connection):
    return one(connection, "SELECT DATABASE()")


def size(connection):
    return int(one(connection, "SELECT COALESCE(SUM(data_length + index_length), 0) "
                               "FROM information_schema.tables WHERE table_schema = DATABASE()"))


def marker(_connection):
    return {}


def refusal(connection):
    if dumper(connection):
        return ""
    package = "mariadb-client" if connection.mysql_is_mariadb else "mysql-client"
    return "mysqldump is not on this host; install it there: apt install %s" % package


def dump(connection, path):
    tool = dumper(connection)
    with options(connection) as file:
        words = [tool, "--defaults-file=" + file, "--single-transaction", "--quick", "--routines",
                 "--triggers", "--events", "--hex-blob", "--no-tablespaces", "--comments",
                 "--default-character-set=utf8mb4"]
        if "MariaDB" not in stored.says(tool, "--version"):
            words.append("--set-gtid-purged=OFF")
            if connection.mysql_is_mariadb:
                words.append("--column-statistics=0")
        words += ["--", database(connection)]
        with tempfile.TemporaryFile() as errors, subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        ) as process:
            try:
                with gzip.open(path, "wb", compresslevel=6) as packed:
                    shutil.copyfileobj(process.stdout, packed, stored.BLOCK)
                status = process.wait()
            except BaseException:  # nothing ends while its dump goes on
                process.kill()
                raise
            failed("mysqldump", status, errors)


def read_back(_connection, path):
    """Every byte, with gzip's sums; and the line that mysqldump writes only at the end."""
    tail = b""
    try:
        with gzip.open(path, "rb") as packed:
            for block in iter(lambda: packed.read(stored.BLOCK), b""):
                tail = (tail + block)[-TAIL:]
    except (OSError, EOFError) as error:
        sys.exit("%s cannot be read back: %s" % (path, error))
    if not any(line.startswith(TRAILER) for line in tail.splitlines()):
        sys.exit("%s cannot be read back: it has no line %r, so it is not complete"
                 % (path, TRAILER.decode()))


@contextmanager
def restored(connection, path, scratch):
    try:
        create(connection, scratch)
        fill(connection, path, scratch)
        yield
    finally:
        drop(connection, scratch)


def create(connection, scratch):
    from django.db import DatabaseError

    with connection.cursor() as cursor:
        cursor.execute("SELECT default_character_set_name, default_collation_name "
                       "FROM information_schema.schemata WHERE schema_name = DATABASE()")
        words = cursor.fetchone()
        try:
            cursor.execute("CREATE DATABASE %s CHARACTER SET %s COLLATE %s"
                           % (connection.ops.quote_name(scratch), *words))
        except DatabaseError as error:
            sys.exit("the drill needs a database of its own: %s: %s\nlet this user make one (GRANT "
                     "ALL ON `%s_drill_%%`.* ...), or have backup.env name another user for "
                     "backups and drills" % (scratch, error, database(connection)))


def fill(connection, path, scratch):
    tool = stored.tool("mariadb", "mysql") if connection.mysql_is_mariadb else stored.tool(
        "mysql", "mariadb")
    if not tool:
        sys.exit("mysql is not on this host, and without it nothing can be restored")
    with options(connection) as file, tempfile.TemporaryFile() as errors, subprocess.Popen(
        [tool, "--defaults-file=" + file, "--default-character-set=utf8mb4", "--", scratch],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
    ) as process:
        try:
            with gzip.open(path, "rb") as packed:
                shutil.copyfileobj(packed, process.stdin, stored.BLOCK)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has stopped at an error, and says which
        except BaseException:
            process.kill()
            raise
        failed("mysql", process.wait(), errors)


def drop(connection, scratch):
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS " + connection.ops.quote_name(scratch))


# --------------------------------------------------------------------------------- the tools


@contextmanager
def options(connection):
    """A file with everything that the tools need to reach the same server as the same user."""
    known = connection.get_connection_params()
    found = {
        "user": known.get("user"),
        "password": known.get("password", known.get("passwd")),
        "host": known.get("host"),
        "port": known.get("port"),
        "socket": known.get("unix_socket"),
        "loose-ssl-mode": known.get("ssl_mode"),
    }
    found.update(("ssl-" + name, value) for name, value in (known.get("ssl") or {}).items()
                 if name in ("ca", "capath", "cert", "cipher", "key"))
    lines = ["!include %s" % known["read_default_file"]] if known.get("read_default_file") else []
    lines += ["[client]", *("%s=%s" % (name, quoted(value)) for name, value in found.items()
                            if value not in (None, ""))]
    handle, path = tempfile.mkstemp(prefix="fabfleet-", suffix=".cnf")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
        yield path
    finally:
        os.remove(path)


def quoted(value):
    escaped = re.sub(r'([\\"])', r"\\\1", str(value)).replace("\n", "\\n")
    return '"%s"' % escaped


def dumper(connection):
    names = ("mariadb-dump", "mysqldump")
    return stored.tool(*(names if connection.mysql_is_mariadb else reversed(names)))


def failed(what, status, errors):
    if status:
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()[-2000:]
        sys.exit("%s: %s" % (what, said or "exit status %d" % status))


def one(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]
