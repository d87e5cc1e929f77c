"""At most one migration process for a database at any moment: a lock inside that database.

Every lock is polled and never waited for inside the database: a blocking pg_advisory_lock() beside
a CREATE INDEX CONCURRENTLY is a deadlock. It is held by a connection of its own in autocommit mode,
and is gone with that connection.

The connections that do the work hold a second one (``mark``): a server that is busy with a
statement does not notice that its client is gone, and may finish and commit it long after the first
lock is free. Whoever takes the first one has to find the second one free as well.
"""

import fcntl
import hashlib
import os
import socket
import tempfile
import threading
import time

from . import sessions

# "FABF" as a number: the first half of PostgreSQL's two-part advisory key. The keys of one
# database say nothing about another's.
NAMESPACE, KEY, WORK = 0x46414246, 1, 2
POLL = 0.2
ROUNDS = 6
VANISHED = 60


class Held(Exception):
    """Somebody else migrates this database."""


class Useless(Exception):
    """A lock of this kind protects nothing here."""


class Lost(Exception):
    """It was held, and is not any more."""


def lock_for(alias, holder):
    """The lock for one database. ``holder``: who we are, in one word."""
    connection = sessions.beside(alias)
    return kind_of(connection)(connection, holder)


def kind_of(connection):
    return {"postgresql": PostgresLock, "mysql": MysqlLock}.get(connection.vendor, FileLock)


def mark(connection):
    """To be called for each connection that may do a part of the work, once the lock is taken."""
    kind_of(connection).mark(connection)


class DatabaseLock:
    def __init__(self, connection, holder):
        self.connection = connection
        self.holder = holder
        self.guard = threading.Lock()

    def take(self, seconds):
        """Raises Held with who has it after that many seconds, Useless where it protects nothing.
        """
        self.open()
        deadline = time.monotonic() + seconds
        while not self.tried():
            if time.monotonic() > deadline:
                raise Held(self.owner())
            time.sleep(POLL)

    def one(self, statement, *values):
        with self.guard, self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone() if cursor.description else None

    def release(self):
        self.connection.close()

    @staticmethod
    def mark(connection):
        pass


class PostgresLock(DatabaseLock):
    """A session's advisory lock, looked up in pg_locks."""

    def open(self):
        self.pid = self.one("SELECT pg_backend_pid()")[0]
        self.prove()
        sessions.postgresql(self.connection, POLL)
        self.one("SELECT set_config('application_name', %s, false)", self.holder[:63])

    def tried(self):
        if not self.one("SELECT pg_try_advisory_lock(%s, %s)", NAMESPACE, KEY)[0]:
            return False
        if not self.one("SELECT pg_try_advisory_lock(%s, %s)", NAMESPACE, WORK)[0]:
            self.one("SELECT pg_advisory_unlock(%s, %s)", NAMESPACE, KEY)
            return False
        self.one("SELECT pg_advisory_unlock(%s, %s)", NAMESPACE, WORK)
        self.check()
        return True

    @staticmethod
    def mark(connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock_shared(%s, %s)", [NAMESPACE, WORK])
            if not cursor.fetchone()[0]:
                raise Lost("somebody else has taken the lock meanwhile")

    def prove(self):
        """Behind a proxy that pools transactions, each statement may be another session's: a
        transaction beside ours is then given the very session that we believe to be ours.

        Looked for before the lock is taken and before anything is set: both would stay behind in a
        session of the pool.
        """
        other = sessions.beside(self.connection.alias)
        try:
            for _ in range(ROUNDS):
                with other.cursor() as cursor:
                    cursor.execute("BEGIN")
                    cursor.execute("SELECT pg_backend_pid()")
                    theirs = cursor.fetchone()[0]
                    # Not asked where the proxy has this one session only: we would wait for it.
                    ours = theirs != self.pid and self.one("SELECT pg_backend_pid()")[0]
                    cursor.execute("ROLLBACK")
                if ours != self.pid:
                    raise Useless(POOLED)
        finally:
            other.close()

    def check(self):
        """Raises Lost where this connection does not hold it."""
        from django.db import Error

        try:
            found = self.one(
                "SELECT pg_backend_pid() = %s AND EXISTS (SELECT 1 FROM pg_locks WHERE "
                "locktype = 'advisory' AND granted AND pid = pg_backend_pid() AND classid = %s "
                "AND objid = %s AND objsubid = 2 AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database()))",
                self.pid, NAMESPACE, KEY)[0]
        except Error as error:
            raise Lost("the connection that held the lock is gone: %s"
                       % str(error).strip()) from error
        if not found:
            raise Lost("another session answers than the one that took the lock")

    def owner(self):
        row = self.one(
            "SELECT a.application_name, a.usename, coalesce(host(a.client_addr), 'local'), a.pid, "
            "extract(epoch FROM now() - a.backend_start)::int, l.objid = %s FROM pg_locks l "
            "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted "
            "AND l.classid = %s AND l.objid IN (%s, %s) AND l.objsubid = 2 AND l.database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND a.pid <> pg_backend_pid() ORDER BY l.objid LIMIT 1",
            WORK, NAMESPACE, KEY, WORK)
        if not row:
            return "its holder has just gone"
        words = "held by %s (%s from %s, pid %s) for %s s" % tuple(
            each or "no name" for each in row[:5])
        return words + LEFT_AT_WORK if row[5] else words


LEFT_AT_WORK = ", which is still at work for a process that lost its lock or is gone"

POOLED = (
    "the database is reached through a proxy that pools transactions (such as PgBouncer with "
    "pool_mode = transaction): no lock holds there, so two migrations at once could not be "
    "prevented. Name a direct connection in migrations.env, for instance DATABASE_HOST and "
    "DATABASE_PORT as the project's settings read them")


class MysqlLock(DatabaseLock):
    """GET_LOCK; its name is the database's, as these locks are the whole server's."""

    def open(self):
        self.pid = self.one("SELECT CONNECTION_ID()")[0]
        # The server lets go of a client that vanished after this long; ours says that it is there.
        self.ended = threading.Event()
        self.connection.inc_thread_sharing()
        threading.Thread(target=self.stay, daemon=True).start()

    def stay(self):
        from django.db import Error

        while not self.ended.wait(VANISHED / 4):
            try:
                self.one("SELECT 1")
            except Error:
                return  # check() says so

    def release(self):
        if hasattr(self, "ended"):
            self.ended.set()
        with self.guard:
            self.connection.close()

    def tried(self):
        if self.one("SELECT GET_LOCK(%s, 0)", self.name())[0] != 1:
            return False
        if self.one("SELECT IS_FREE_LOCK(%s)", self.name("fabfleet-work"))[0] != 1:
            self.one("SELECT RELEASE_LOCK(%s)", self.name())
            return False
        return True

    @staticmethod
    def mark(connection):
        """Only one of ours can have it; a second one, in a thread of a migration, goes without."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, 1)", [lock_name("fabfleet-work", connection)])
            cursor.fetchone()

    def name(self, kind="fabfleet"):
        return lock_name(kind, self.connection)

    def check(self):
        from django.db import Error

        try:
            row = self.one("SELECT IS_USED_LOCK(%s) = CONNECTION_ID() AND CONNECTION_ID() = %s",
                           self.name(), self.pid)
        except Error as error:
            raise Lost("the connection that held the lock is gone: %s" % (error,)) from error
        if not row or row[0] != 1:
            raise Lost("another session answers than the one that took the lock")

    def owner(self):
        for kind, more in (("fabfleet", ""), ("fabfleet-work", LEFT_AT_WORK)):
            pid = self.one("SELECT IS_USED_LOCK(%s)", self.name(kind))[0]
            if pid is None:
                continue
            row = self.one("SELECT id, user, host, time FROM information_schema.processlist "
                           "WHERE id = %s", pid)
            words = "held by connection %s" % pid
            if row:
                words = "held by connection %s (%s from %s) for %s s" % tuple(row)
            return words + more
        return "its holder has just gone"


def lock_name(kind, connection):
    whole = "%s:%s" % (kind, connection.settings_dict["NAME"])
    if len(whole) <= 64:
        return whole
    return "%s:%s" % (kind, hashlib.sha256(whole.encode()).hexdigest()[:48])


class FileLock(DatabaseLock):
    """A file beside the database's own, for a database that is a file on this very host."""

    file = None

    def open(self):
        self.file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - kept open

    def tried(self):
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.file.seek(0)
        self.file.truncate()
        self.file.write("%s on %s, pid %d" % (self.holder, socket.gethostname(), os.getpid()))
        self.file.flush()
        return True

    @property
    def path(self):
        name = str(self.connection.settings_dict["NAME"])
        if self.connection.vendor == "sqlite":
            return os.path.realpath(name) + ".migrating"
        name = hashlib.sha256(name.encode()).hexdigest()[:16]
        return os.path.join(tempfile.gettempdir(), "fabfleet-%s.migrating" % name)

    def check(self):
        pass  # a file's lock ends with its process and never before

    def owner(self):
        for _ in range(10):
            self.file.seek(0)
            name = self.file.read()
            if name:
                return "held by %s" % name
            time.sleep(POLL)  # whoever has just taken it writes its name now
        return "held by another process"

    def release(self):
        if self.file:
            self.file.close()

