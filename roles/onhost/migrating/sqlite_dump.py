"""SQLite: its own online backup, which copies a consistent state while others read and write."""

import shutil
import sqlite3
import sys
from contextlib import closing, contextmanager

from . import stored

SUFFIX = ".sqlite3"


def database(connection):
    return str(connection.settings_dict["NAME"])


def size(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return cursor.fetchone()[0]


def marker(_connection):
    return {}


def refusal(connection):
    if connection.is_in_memory_db():
        return "%s: it is in memory, so there is nothing to back up" % connection.alias
    return ""


def dump(connection, path):
    connection.ensure_connection()
    try:
        with closing(sqlite3.connect(path)) as copy:
            connection.connection.backup(copy)
    except sqlite3.Error as error:
        sys.exit("%s: %s" % (path, error))


def read_back(_connection, path):
    try:
        # Nobody writes to it any more, so it needs neither a journal nor a lock beside it.
        with closing(sqlite3.connect("file:%s?mode=ro&immutable=1" % escaped(path),
                                     uri=True)) as copy:
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        sys.exit("%s cannot be read back: %s" % (path, verdict))


@contextmanager
def restored(connection, path, scratch):
    try:
        shutil.copyfile(path, scratch)
        read_back(connection, scratch)
        yield
    finally:
        drop(connection, scratch)


def drop(_connection, scratch):
    for each in ("", "-wal", "-shm", "-journal"):
        stored.remove(scratch + each)


def escaped(path):
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
