"""Apply migrations: under a lock in the database, exactly those that were agreed on, and say so.

The project's own command does the work, in this process; what we add sits around each migration.
Arguments:
    env         environment variables that only migrations get
    command     the words behind ``manage.py``, or, with ``external``, a whole command line
    external    whether it is not Django's: then nobody can choose among the pending migrations
    holder      who we are, for whoever finds the lock taken
    expected    {alias: [[app.name, sha256]]}: what was pending when it was decided
    only        {alias: [app.name]}: what of it is to run now
    back        {alias: [[app, name]]} to go back to, instead; ``only`` is then what is taken back
    accepted    [app.name] whose unknown state after a crash somebody has looked at
    wait        seconds to wait for the lock
    lock_timeout, retries, retry_python    see ``sessions`` and ``attempts``
A word ``--gone=JSON`` on the command line names what a process began that is gone without a result:
[[alias, app.name]], with a third word "back" where it was being taken back.

Exit 0: done. 1: failed. 3: refused, nothing was changed. 75: somebody else migrates.
Lines that start with the sentinel are for programs; the last one is the result, however it ends.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback

from . import dblock, examine, lines, plan, project, reverse, sessions

DONE, FAILED, REFUSED, HELD = 0, 1, 3, 75
WATCH = 1.0
LONG = 30.0


class Refused(Exception):
    """Something is not as agreed on, and nothing was changed."""


class Stopped(Exception):
    """Migrating has to end here, in words."""


def say(text):
    lines.write(text)


def tell(**event):
    """A line for programs, on the disk before anything that it announces happens."""
    say(project.SENTINEL + json.dumps(event))
    try:
        os.fsync(1)
    except OSError:
        pass  # a pipe or a terminal has no disk


def main(order):
    lines.take_over()
    gone = [word[7:] for word in sys.argv[1:] if word.startswith("--gone=")]
    sys.argv = ["manage.py"] + order["command"]
    began = time.monotonic()
    work = Work(order, json.loads(gone[0]) if gone else [])
    code, failure = DONE, ""
    try:
        project.set_up(order["env"])
        work.run()
    except dblock.Held as held:
        code, failure = HELD, "migrations run already: the database's lock is %s" % held
    except (Refused, project.Unable, dblock.Useless, sessions.NotSet) as error:
        code, failure = REFUSED, "%s\nnothing was migrated" % error
    except (Stopped, dblock.Lost) as error:
        code, failure = FAILED, str(error)
    except BaseException as error:  # noqa: BLE001 - settings may do anything, sys.exit() too
        code, failure = FAILED, "%s: %s" % (type(error).__name__, str(error).strip())
        if not work.started:
            code, failure = REFUSED, failure + "\nnothing was migrated"
        traceback.print_exc(limit=-2)
    try:
        work.let_go()
    except Exception as error:  # noqa: BLE001 - it ends with this process all the same
        say("the lock could not be given back: %s" % error)
    if failure:
        sys.stderr.write(failure + "\n")
    tell(event="result", exit=code, applied=work.applied, failure=failure,
         seconds=round(time.monotonic() - began, 3))
    sys.exit(code)


class Work:
    """One run of the command over all databases that it concerns."""

    def __init__(self, order, gone):
        self.order = order
        self.gone = gone
        self.applied = []
        self.started = False
        self.locks = {}

    def run(self):
        aliases = sorted(self.order["only"])
        project.databases(aliases)
        sessions.without_pool(aliases)
        for alias in aliases:
            self.locks[alias] = dblock.lock_for(alias, self.order["holder"])
            self.locks[alias].take(self.order["wait"])
        sessions.guard(self.order["lock_timeout"], aliases, dblock.mark)
        todo = {alias: self.agreed(alias) for alias in aliases}
        self.look_at_what_is_gone()
        for alias, names in sorted(todo.items()):
            if names:
                self.migrate(alias, names)

    def let_go(self):
        """First our work's sessions, then the locks: who waits for one may start at once."""
        if self.locks:
            from django.db import connections

            connections.close_all()
        for lock in self.locks.values():
            lock.release()

    # --- what is to be done ------------------------------------------------------------------

    def agreed(self, alias):
        """The names that are still to run, in order. Raises Refused where the plan has changed."""
        from django.db import connections

        if self.order["back"]:
            return self.agreed_back(connections[alias], self.order["back"][alias])
        found = plan.pending_steps(connections[alias])
        expected = dict(self.order["expected"].get(alias, []))
        for name, digest, _ in found:
            if name not in expected:
                raise Refused("the plan has changed: %s is pending now and was not when it was "
                              "decided; look again: fab migrations" % name)
            if digest != expected[name]:
                raise Refused("the plan has changed: the file of %s is another one; look again: "
                              "fab migrations" % name)
        wanted = set(self.order["only"][alias])
        for name, _, parents in found:
            missing = sorted(set(parents) - wanted)
            if name in wanted and missing:
                raise Refused("%s cannot run now: it needs %s, which is held back"
                              % (name, ", ".join(missing)))
        pending = [name for name, _, _ in found]
        lost = wanted.difference(pending, plan.applied_names(connections[alias]))
        if lost:
            raise Refused("neither pending nor applied: %s; look again: fab migrations"
                          % ", ".join(sorted(lost)))
        held_back = [name for name in pending if name not in wanted]
        if self.order.get("external") and held_back and len(held_back) < len(pending):
            raise Refused("%s runs all that is pending, and %s is to be held back"
                          % (self.order["command"][0], ", ".join(held_back)))
        return [name for name in pending if name in wanted]

    def agreed_back(self, connection, targets):
        """The whole way back is looked at before its first step: Django does not."""
        found = reverse.read_reverse(connection, targets)
        names = [each["migration"] for each in found["migrations"]]
        if not found["complete"]:
            stuck = found["first_irreversible"]
            words = found["problems"] + (["%(migration)s: %(operation)s cannot be taken back"
                                          % stuck] if stuck else [])
            raise Refused("there is no whole way back: %s" % "; ".join(words))
        if names != self.order["only"][connection.alias]:
            raise Refused("the way back has changed: now it is %s; look again: fab rollback"
                          % ", ".join(names))
        return names

    def look_at_what_is_gone(self):
        """Nothing is tried again before it is known what became of it."""
        from django.db import connections

        refused = []
        for alias, name, *back in self.gone:
            if alias not in self.locks:
                continue
            verdict, words = examine.examine(connections[alias], name, bool(back))
            tell(event="examined", database=alias, migration=name, verdict=verdict,
                 clear=verdict in examine.CLEAR)
            say("an earlier run ended, or failed, while it %s %s: %s"
                % ("took back" if back else "applied", name, words))
            if verdict not in examine.CLEAR and name not in self.order["accepted"]:
                refused.append("%s: %s\n%s" % (
                    name, words, examine.ways_out(verdict, name, bool(back))))
        if refused:
            raise Refused("\n".join(refused))

    # --- doing it ----------------------------------------------------------------------------

    def migrate(self, alias, names):
        if self.order.get("external"):
            self.call(alias, names)
            return
        from django.db.models.signals import pre_migrate

        chosen = set(names)

        def trim(plan, using, **_):
            if using == alias:
                plan[:] = [(migration, backwards) for migration, backwards in plan
                           if name_of(migration) in chosen
                           and backwards == bool(self.order["back"])]

        pre_migrate.connect(trim, weak=False)
        undo = self.surround(alias)
        try:
            for words in self.commands(alias):
                self.manage(words, alias, names)
        finally:
            undo()
            pre_migrate.disconnect(trim)
        left = self.left(alias, names)
        if left:
            raise Stopped("the command ended without an error, but did not apply %s"
                          % ", ".join(left))

    def commands(self, alias):
        """The command lines for one database; going back takes one for each app."""
        words = list(self.order["command"])
        if not any(word.startswith(("--database", "-v", "--verbosity")) for word in words):
            words.append("--verbosity=0")
        if not any(word.startswith("--database") for word in words):
            words.append("--database=%s" % alias)
        if not self.order["back"]:
            return [words]
        back = self.order["back"][alias]
        return [[*words[:1], app, name or "zero", *words[1:]] for app, name in back]

    def left(self, alias, names):
        return [name for name in names if [alias, name] not in self.applied]

    def manage(self, words, alias, names):
        from django.core.management import execute_from_command_line

        try:
            # With --traceback an error comes to us, and is not just printed.
            execute_from_command_line(["manage.py", *words, "--traceback"])
        except (Stopped, dblock.Lost):
            raise
        except SystemExit as ended:
            if ended.code not in (None, 0):
                raise Stopped(self.with_done("manage.py %s ended with %s" % (
                    words[0], ended.code), alias, names)) from ended
        except BaseException as error:  # a migration may do anything, sys.exit() too
            raise Stopped(self.with_done(describe(error), alias, names)) from error

    def with_done(self, words, alias, names):
        if self.order["back"] or self.left(alias, names):
            return words
        return ("%s\nall migrations are applied; what Django does behind them (post_migrate: "
                "permissions, content types) failed, and nothing will do it again but: "
                "fab manage ... -- migrate" % words)

    def call(self, alias, names):
        """A command that is not Django's runs while the lock is held, as it is. What it did is
        read from the database."""
        from django.db import connections

        self.locks[alias].check()
        command = self.order["command"]
        say("running %s" % command[0])
        for name in names:
            self.tell_of("started", alias, name)
        try:
            code = subprocess.call(command, stdin=subprocess.DEVNULL)
            ended = "ended with exit status %d" % code
        except OSError as error:
            code, ended = 127, "cannot be started: %s" % error
        connections[alias].close()  # it may have been idle for hours
        still = [name for name, _, _ in plan.pending_steps(connections[alias])]
        for name in names:
            if name in still:
                self.tell_of("failed", alias, name, clear=code == 127)
            else:
                self.applied.append([alias, name])
                self.tell_of("applied", alias, name, clear=True)
        if code:
            raise Stopped("%s %s" % (command[0], ended))
        if set(names) & set(still):
            raise Stopped("%s ended without an error, but did not apply %s" % (
                command[0], ", ".join(name for name in names if name in still)))
        self.locks[alias].check()

    def tell_of(self, event, alias, name, **more):
        self.started = True
        if self.order["back"]:
            more["back"] = True
        tell(event=event, database=alias, migration=name, **more)

    # --- around each migration ---------------------------------------------------------------

    def surround(self, alias):
        """Every way to apply or to take back a migration goes through ``attempts``."""
        from django.db.migrations.executor import MigrationExecutor
        from django.db.migrations.loader import MigrationLoader

        kept = []

        def replace(owner, method, make):
            original = getattr(owner, method)
            kept.append((owner, method, original))
            setattr(owner, method, make(original))

        for method in ("apply_migration", "unapply_migration"):
            replace(MigrationExecutor, method, lambda original: self.wrapped(alias, original))
        replace(MigrationLoader, "get_migration_by_prefix", exact)

        def undo():
            for owner, method, original in kept:
                setattr(owner, method, original)

        return undo

    def wrapped(self, alias, original):
        work = self

        def around(executor, state, migration, fake=False, **options):
            if executor.connection.alias != alias or fake:
                return original(executor, state, migration, fake=fake, **options)

            def once(last):
                return original(executor, state if last else state.clone(), migration, **options)

            return work.attempts(executor.connection, migration, once)

        return around

    def attempts(self, connection, migration, once):
        """Once, and again where it only could not get a lock: then, in a transaction, nothing is
        left of the attempt. A by-hand step may have done something outside of the database."""
        alias, name = connection.alias, name_of(migration)
        whole = bool(migration.atomic) and connection.features.can_rollback_ddl
        patient = whole and (self.order["retry_python"] or not examine.by_hand(migration))
        retries = self.order["retries"] if patient else 0
        who = []
        for attempt in range(retries + 1):
            self.locks[alias].check()
            self.tell_of("started", alias, name)
            watch = Watch(connection, name, self.order["lock_timeout"])
            try:
                with watch, in_one(connection, whole):
                    after = once(last=attempt == retries)
            except BaseException as error:  # as above
                clear, done, words = self.aftermath(connection, migration, whole)
                if done:
                    self.applied.append([alias, name])
                self.tell_of("applied" if done else "failed", alias, name, clear=clear)
                who = watch.who or who
                waiting = sessions.is_lock_timeout(error)
                if done or not clear or not waiting or attempt == retries:
                    raise Stopped("\n".join([failed(migration, error, who, attempt), words])
                                  ) from error
                pause = min(2 ** attempt, 16)
                say("%s: no lock within %g s (attempt %d of %d)%s; again in %d s" % (
                    name, self.order["lock_timeout"], attempt + 1, retries + 1, held_by(who),
                    pause))
                time.sleep(pause)
            else:
                self.applied.append([alias, name])
                self.tell_of("applied", alias, name, clear=True, seconds=watch.seconds())
                say("%s: %s in %.1f s" % (name, "taken back" if self.order["back"] else
                                          "applied", watch.seconds()))
                return after
        raise AssertionError("the last attempt returns or raises")

    def aftermath(self, connection, migration, whole):
        """(whether it is known what is left of what failed, whether it is done all the same, both
        in words). The error may be the connection's, or have come after the commit."""
        from django.db.migrations.recorder import MigrationRecorder

        back = bool(self.order["back"])
        try:
            connection.close()
            key = migration.app_label, migration.name
            if (key in MigrationRecorder(connection).applied_migrations()) != back:
                return True, True, (
                    "all the same it is %s and recorded: only what came behind it failed"
                    % ("taken back" if back else "applied"))
            if whole:
                return True, False, ("it was rolled back; what ran before it stays %s"
                                     % ("taken back" if back else "applied"))
            return False, False, examine.left_behind(connection, migration, back)
        except Exception as error:  # noqa: BLE001 - what is known must still be said
            return False, False, ("what is left of it cannot be seen: %s; the next run looks again"
                                  % describe(error))


def exact(original):
    """A whole name is that migration, even where it begins another one's."""

    def found(loader, app, prefix):
        return loader.disk_migrations.get((app, prefix)) or original(loader, app, prefix)

    return found


@contextlib.contextmanager
def in_one(connection, whole):
    """The migration and its record are one transaction, so that a process that dies leaves both or
    neither. (Django itself writes the record after the commit where SQL was put off to the end:
    foreign keys, indexes.)"""
    from django.db import transaction

    if not whole:
        yield
        return
    on_sqlite = connection.vendor == "sqlite"
    if on_sqlite:  # its schema editor wants it so, and cannot do it inside of a transaction
        connection.disable_constraint_checking()
    try:
        with transaction.atomic(using=connection.alias):
            yield
    finally:
        if on_sqlite and connection.connection is not None:
            connection.enable_constraint_checking()


def name_of(migration):
    return "%s.%s" % (migration.app_label, migration.name)


def describe(error):
    """In one line; an error of the database in the database's own words."""
    from django.db import Error

    cause = error.__cause__ if isinstance(error, Error) and error.__cause__ else error
    return "%s: %s" % (type(cause).__name__, str(cause).strip())


def failed(migration, error, who, attempt):
    """What failed, where, and why."""
    words = "%s failed: %s" % (name_of(migration), describe(error))
    file = getattr(sys.modules.get(type(migration).__module__), "__file__", None)
    spots = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    if spots:
        words += "\n%s, line %d: %s" % (file, spots[-1].lineno, spots[-1].line)
    if sessions.is_lock_timeout(error):
        words += "\nit got no lock%s" % held_by(who)
        words += "\nit was tried %d times" % (attempt + 1) if attempt else ""
    return words


def held_by(who):
    return ", held by %s" % "; ".join(who) if who else ""


class Watch:
    """While a migration runs: tell who keeps it waiting, and that it goes on."""

    def __init__(self, connection, name, lock_timeout):
        self.connection, self.name = connection, name
        self.pause = min(WATCH, lock_timeout / 3)
        self.who = []
        self.began = time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def __enter__(self):
        self.session = sessions.session_id(self.connection)
        self.began = time.monotonic()
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join(WATCH * 10)  # a proxy may keep it waiting for a connection

    def seconds(self):
        return round(time.monotonic() - self.began, 3)

    def look(self):
        from django.db import Error

        told, told_at = [], self.began
        beside = sessions.beside(self.connection.alias)
        try:
            while not self.ended.wait(self.pause):
                now = time.monotonic()
                found = sessions.blockers(beside, self.session) if self.session else []
                self.who = found or self.who
                who = [each.partition(":")[0] for each in found]
                if found and who != told:
                    say("%s waits for a lock%s" % (self.name, held_by(found)))
                if now - told_at >= LONG:
                    say("%s has been running for %d s" % (self.name, now - self.began))
                    told_at = now
                told = who
        except Error as error:
            say("%s: cannot look who keeps it waiting: %s" % (self.name, str(error).strip()))
        finally:
            beside.close()
