"""The runner of migrations, at the level of processes: what it promises when something goes wrong.

With SQLite alone in every test run; PostgreSQL, MariaDB and PgBouncer need Debian's packages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from roles.command import command
from roles.onhost import ship
from tests.migrations import matrix, servers
from tests.migrations.sites import (
    ADD,
    COLUMN,
    FIRST,
    SECOND_COLUMN,
    WAIT,
    Session,
    Site,
    settings_of,
    until,
)
from tests.roles.onhost import programs

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("migrations")]

ALL = [pytest.param("postgresql", marks=pytest.mark.soak),
       pytest.param("mysql", marks=pytest.mark.soak), "sqlite"]  # fmt: skip
everywhere = pytest.mark.parametrize("vendor", ALL)
on_postgresql = pytest.mark.parametrize("vendor", ALL[:1])
on_mariadb = pytest.mark.parametrize("vendor", ALL[1:2])
transactional = pytest.mark.parametrize("vendor", [ALL[0], "sqlite"])
Make = Callable[..., Site]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Where each server is; started when it is first asked for."""
    found: dict[str, Path] = {"sqlite": tmp_path_factory.mktemp("sqlite")}
    starts = {"postgresql": servers.postgresql, "mysql": servers.mariadb}
    with ExitStack() as stack:

        def home(vendor: str) -> Path:
            if vendor not in found:
                try:
                    found[vendor] = stack.enter_context(starts[vendor]())
                except servers.Missing as error:
                    (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
            return found[vendor]

        yield home


@pytest.fixture
def site(homes: Callable[[str], Path], tmp_path: Path) -> Make:
    """A project whose 0001 is applied and whose table is empty."""

    def make(vendor: str, first: bool = True, aliases: tuple[str, ...] = ("default",)) -> Site:
        try:
            python = matrix.python_with("5.2")
        except matrix.Unable as error:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
        name = f"t{os.getpid()}_{time.monotonic_ns()}"
        made = Site(python, tmp_path / "site", {
            alias: settings_of(vendor, homes(vendor), f"{name}{alias[0]}") for alias in aliases})
        made.migration("0001", FIRST)
        if first:
            done = made.run()
            assert (done.exit, done.applied) == (0, ["shop.0001"] * len(aliases)), done.log
        return made

    return make


# --- at most one, exactly once -------------------------------------------------------------------


def eight(made: Site, rounds: int) -> None:
    vendor_knows_no_names = made.vendor == "mysql"
    for number in range(2, 2 + rounds):
        made.migration(f"{number:04}", ADD, after=f"{number - 1:04}")
        order = made.order(wait=20 if number % 2 else 0)
        running = [made.start(order) for _ in range(8)]
        ended = [each.end() for each in running]
        assert [each.exit for each in ended if each.exit not in (0, 75)] == []
        assert sorted(each.applied for each in ended if each.applied) == [[f"shop.{number:04}"]]
        for each in ended:
            if each.exit == 75:
                assert order["wait"] == 0
                holder = "connection " if vendor_knows_no_names else order["holder"]
                assert f"held by {holder}" in each.result["failure"], each.log
        assert made.items() == number - 1
        made.nothing_left()


@everywhere
def test_eight_at_once_apply_it_once(site: Make, vendor: str) -> None:
    eight(site(vendor), 2)


@pytest.mark.soak
@everywhere
def test_eight_at_once_twenty_times(site: Make, vendor: str) -> None:
    eight(site(vendor), 20)


def job(made: Site, key: str = "r1 expand", by: str = "run1", **changes: Any) -> dict[str, Any]:
    line = f"cd {made.folder} && exec {made.python} \"$@\""
    return {"root": str(made.folder.parent), "name": "migrate", "key": key, "run": by,
            "argv": ["env", *(f"{k}={v}" for k, v in made.environment().items()),
                     "sh", "-c", line, "sh"],
            "ships": {"program": "migrating.apply", "arguments": made.order(**changes)}}


@everywhere
def test_eight_starts_of_a_job_follow_one_process(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, WAIT, after="0001")
    first = [programs.start("job", job(made, by=f"run{n}")) for n in range(8)]
    until(made.file("begun").exists)
    refused = programs.run("job", job(made, key="r2 expand", by="another"))
    assert refused.exit == 75
    assert "another job still runs here: r1 expand, started by run run" in refused.err
    made.file("go").touch()
    ended = [programs.end(each) for each in first]
    assert [each.exit for each in ended] == [0] * 8, ended
    told = {tuple(line for line in each.out.splitlines() if "applied in" in line) for each in ended}
    assert len(told) == 1
    assert len(told.pop()) == 1
    assert not any("@@FABFLEET" in each.out for each in ended)
    assert sum("following the job that run" in each.out for each in ended) == 7
    assert made.items() == 1
    made.nothing_left()


@pytest.mark.parametrize("vendor", ALL[:2])
def test_a_server_that_still_works_for_a_killed_process_counts(site: Make, vendor: str) -> None:
    """The lock's own session is idle and ends at once; the one that works does not notice."""
    made = site(vendor)
    sleep = {"postgresql": "SET client_connection_check_interval = 0; SELECT pg_sleep(4)",
             "mysql": "DO SLEEP(4)"}[vendor]
    column = "ALTER TABLE shop_item ADD COLUMN late integer"
    both = f"DO $$ BEGIN PERFORM pg_sleep(4); EXECUTE '{column}'; END $$"
    head = f"""
def slow(apps, editor):
    with editor.connection.cursor() as cursor:
        cursor.execute({"SET client_connection_check_interval = 0" if vendor == "postgresql"
                        else "SELECT 1"!r})
        open("begun", "w").close()
        cursor.execute({(both if vendor == "postgresql" else sleep)!r})
"""
    made.migration("0002", "migrations.RunPython(slow)", after="0001", more="atomic = False",
                   head=head)
    made.killed()
    done = made.run(wait=0)
    assert done.exit == 75, done.log
    assert "still at work for a process that lost its lock or is gone" in done.result["failure"]
    done = made.run(wait=20, gone=[["default", "shop.0002"]])
    assert (done.exit, done.examined()) == (3, {"shop.0002": "unknown"}), done.log
    if vendor == "postgresql":
        assert made.sql("SELECT count(*) FROM information_schema.columns WHERE column_name = 'late'"
                        ) == ["1"], "it was over when it was examined"  # fmt: skip
    made.nothing_left()


# --- waiting for a lock --------------------------------------------------------------------------


class Probe:
    """Reads the table all the time, and notes how long the longest read took."""

    def __init__(self, made: Site) -> None:
        self.session, self.longest = Session(made.databases["default"], "probe"), 0.0
        self.ended, self.reads = threading.Event(), 0
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self) -> None:
        while not self.ended.wait(0.02):
            began = time.monotonic()
            self.session.ask("SELECT count(*) FROM shop_item")
            self.longest = max(self.longest, time.monotonic() - began)
            self.reads += 1

    def end(self) -> float:
        self.ended.set()
        self.thread.join()
        self.session.close()
        return self.longest


@on_postgresql
def test_no_lock_to_be_had(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", COLUMN, after="0001")
    reader, probe = Session(made.databases["default"], "a long report"), Probe(made)
    (pid, _) = reader.ask("BEGIN; SELECT pg_backend_pid(); SELECT count(*) FROM shop_item")
    done = made.run(lock_timeout=1, retries=2)
    longest = probe.end()
    print(f"longest read {longest:.3f} s of {probe.reads}")
    reader.close()
    assert (done.exit, done.applied) == (1, []), done.log
    assert 0.5 < longest < 1.5
    assert 3 + 1 + 2 <= done.seconds < 12
    failure = done.result["failure"]
    assert f"held by pid {pid} (postgres, a long report, from local): idle in transaction" in (
        failure)
    assert "in its transaction for " in failure
    assert "it was tried 3 times" in failure
    assert "again in 1 s" in done.log
    assert "again in 2 s" in done.log
    assert [each["clear"] for each in done.events if each["event"] == "failed"] == [True] * 3
    made.nothing_left()


@on_postgresql
def test_the_reader_goes_away(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", COLUMN, after="0001")
    reader = Session(made.databases["default"])
    reader.ask("BEGIN; SELECT count(*) FROM shop_item")
    running = made.start(made.order(lock_timeout=0.3))
    running.says("again in 1 s")
    reader.close()
    done = running.end()
    assert (done.exit, done.applied) == (0, ["shop.0002"]), done.log
    made.nothing_left()


@on_postgresql
@pytest.mark.parametrize("allowed", [False, True])
def test_steps_by_hand_are_not_repeated_unless_allowed(
    site: Make, vendor: str, allowed: bool
) -> None:
    made = site(vendor)
    count = "\ndef count(apps, editor):\n    open('count', 'a').write('x')\n"
    made.migration("0002", "migrations.RunPython(count)", COLUMN, after="0001", head=count)
    reader = Session(made.databases["default"])
    reader.ask("BEGIN; SELECT count(*) FROM shop_item")
    done = made.run(lock_timeout=0.2, retries=1, retry_python=allowed)
    reader.close()
    assert done.exit == 1
    assert made.file("count").read_text() == ("xx" if allowed else "x")
    assert "rolled back" in done.result["failure"]


@on_mariadb
def test_no_lock_to_be_had_on_mariadb(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", COLUMN, after="0001")
    reader = Session(made.databases["default"])
    (number, _) = reader.ask("BEGIN; SELECT connection_id(); SELECT count(*) FROM shop_item")
    done = made.run(lock_timeout=1)
    assert (done.exit, done.applied) == (1, []), done.log
    failure = done.result["failure"]
    assert "Lock wait timeout exceeded" in failure
    assert f"held by connection {number} (root from localhost)" in failure
    assert "not there: column shop_item.note" in failure
    assert "again in" not in done.log
    reader.close()
    done = made.run(gone=[["default", "shop.0002"]])
    assert (done.exit, done.applied) == (0, ["shop.0002"]), done.log
    assert done.examined() == {"shop.0002": "rolled back"}
    made.nothing_left()


# --- a proxy that pools ---------------------------------------------------------------------------


@pytest.fixture
def bouncer(homes: Callable[[str], Path], tmp_path: Path) -> Iterator[Callable[..., int]]:
    """PgBouncer in front of the PostgreSQL, in the same folder; gives its port."""
    with ExitStack() as stack:

        def start(mode: str, size: int = 10) -> int:
            home, port = homes("postgresql"), {"transaction": 6432, "session": 6433}[mode]
            try:
                found = servers.program("pgbouncer", "pgbouncer", "/usr/sbin")
            except servers.Missing as error:
                (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
            user = home.owner() if os.geteuid() == 0 else None
            ini = home / f"{mode}.ini"
            ini.write_text(
                f"[databases]\n* = host={home} port=5432 user=postgres\n[pgbouncer]\n"
                f"listen_addr=\nunix_socket_dir={home}\nlisten_port={port}\nauth_type=any\n"
                f"pool_mode={mode}\ndefault_pool_size={size}\nlogfile=\n"
                "ignore_startup_parameters=extra_float_digits,options\n")
            stack.callback(ini.unlink)
            ini.chmod(0o644)
            log = tmp_path / mode
            log.mkdir()
            stack.enter_context(servers.running(
                [found, str(ini)], user, log, signal.SIGTERM,
                ["test", "-S", f"{home}/.s.PGSQL.{port}"]))
            return port

        yield start


SETTINGS_IN_ENV = """
if "DIRECT" in os.environ:
    DATABASES["default"]["PORT"] = os.environ["DIRECT"]
"""


@on_postgresql
@pytest.mark.parametrize("size", [1, 10])
def test_behind_a_proxy_that_pools_transactions(
    site: Make, vendor: str, bouncer: Callable[..., int], size: int
) -> None:
    made = site(vendor)
    made.migration("0002", ADD, after="0001")
    made.put("config/settings.py", made.file("config/settings.py").read_text() + SETTINGS_IN_ENV)
    direct = made.databases["default"].get("PORT", "5432")
    made.env["PORT_OF_THE_SERVER"] = str(direct)
    made.databases["default"]["PORT"] = str(bouncer("transaction", size))
    done = made.run()
    assert (done.exit, done.applied) == (3, []), done.log
    assert "migrations.env" in done.result["failure"]
    assert done.seconds < 10
    assert made.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == ["0"]
    assert made.sql("SHOW lock_timeout") == ["0"], "our settings stayed behind in the pool"
    for value in (str(direct), "$PORT_OF_THE_SERVER"):
        done = made.run(env={"DIRECT": value})
        assert done.exit == 0, done.log
    assert made.items() == 1
    done = made.run(env={"DIRECT": "$NOBODY_KNOWS"})
    assert done.exit == 3
    assert "migrations.env.DIRECT: the service has no NOBODY_KNOWS" in done.result["failure"]


@on_postgresql
def test_behind_a_proxy_that_pools_sessions(
    site: Make, vendor: str, bouncer: Callable[..., int]
) -> None:
    made = site(vendor)
    made.migration("0002", ADD, after="0001")
    made.databases["default"]["PORT"] = str(bouncer("session"))
    done = made.run()
    assert (done.exit, done.applied) == (0, ["shop.0002"]), done.log
    until(lambda: made.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == ["0"])


# --- killed in the middle ------------------------------------------------------------------------

GONE = [["default", "shop.0002"]]


@transactional
def test_killed_inside_of_a_transaction(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", COLUMN, ADD, WAIT, after="0001")
    made.killed()
    made.file("go").touch()
    done = made.run(gone=GONE)
    assert (done.exit, done.examined()) == (0, {"shop.0002": "rolled back"}), done.log
    assert (made.items(), done.applied) == (1, ["shop.0002"])
    made.nothing_left()


@transactional
def test_killed_before_the_record_is_written(site: Make, vendor: str) -> None:
    """Django writes it behind the commit where an index was put off to the end."""
    made = site(vendor)
    table = """migrations.CreateModel("Late", [("id", models.BigAutoField(primary_key=True)),
        ("name", models.CharField(max_length=9, db_index=True))])"""
    slow = """
from django.db.migrations.recorder import MigrationRecorder
record = MigrationRecorder.record_applied
def late(self, app, name):
    if name == "0002":
        wait(None, None)
    record(self, app, name)
MigrationRecorder.record_applied = late
"""
    made.migration("0002", table, ADD, after="0001", head=slow)
    made.killed()
    made.file("go").touch()
    done = made.run(gone=GONE)
    assert (done.exit, done.examined()) == (0, {"shop.0002": "rolled back"}), done.log
    assert made.items() == 1


@everywhere
def test_killed_outside_of_a_transaction_when_nobody_can_tell(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, WAIT, after="0001", more="atomic = False")
    made.killed()
    assert made.items() == 1
    made.file("go").touch()
    done = made.run(gone=GONE)
    assert (done.exit, done.examined(), done.applied) == (3, {"shop.0002": "unknown"}, [])
    assert "migrate --fake shop 0002" in done.result["failure"]
    assert "--accept-risk=shop.0002" in done.result["failure"]
    assert (made.items(), made.names()) == (1, ["0001"])
    done = made.run(gone=GONE, accepted=["shop.0002"])
    assert (done.exit, made.items()) == (0, 2), done.log
    done = made.run(gone=GONE)
    assert (done.exit, done.examined()) == (0, {"shop.0002": "applied"})


@pytest.mark.parametrize("vendor", ALL)
@pytest.mark.parametrize(("operations", "verdict", "words"), [
    ([COLUMN, WAIT, SECOND_COLUMN], "partly", "column shop_item.note; but not"),
    ([COLUMN, WAIT], "unknown", "column shop_item.note; whether the rest"),
    ([WAIT, COLUMN], "unknown", "cannot be seen"),
])
def test_killed_between_two_steps(
    site: Make, vendor: str, operations: list[str], verdict: str, words: str
) -> None:
    made = site(vendor)
    more = "pass" if vendor == "mysql" else "atomic = False"
    made.migration("0002", *operations, after="0001", more=more)
    made.killed()
    done = made.run(gone=GONE)
    assert (done.exit, done.examined(), done.applied) == (3, {"shop.0002": verdict}, []), done.log
    assert words in done.result["failure"]


@on_mariadb
def test_killed_between_two_columns_through_the_job(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", COLUMN, WAIT, SECOND_COLUMN, after="0001")
    follower = programs.start("job", job(made))
    until(made.file("begun").exists)
    log = made.folder.parent / ".fabfleet/jobs/migrate/log"
    (pid,) = subprocess.run(["pgrep", "-f", f"{log.parent}/program.py"], capture_output=True,
                            text=True, check=True).stdout.split()[-1:]
    os.kill(int(pid), 9)
    assert programs.end(follower).exit == 128 + 9
    for by in ("run2", "run3"):  # the second one knows of it too
        done = programs.run("job", job(made, by=by))
        assert done.exit == 3, done
        assert "applied in part: column shop_item.note; but not: column shop_item.memo" in done.out
    made.sql("ALTER TABLE shop_item DROP COLUMN note")
    made.file("go").touch()
    done = programs.run("job", job(made, by="run4"))
    assert done.exit == 0, "its first step left nothing, so the others were not begun"
    assert json.loads((log.parent / "unclear.json").read_text()) == GONE
    assert "examined" not in programs.run("job", job(made, by="run5")).out
    assert json.loads((log.parent / "unclear.json").read_text()) == []


TICKET = """migrations.CreateModel("Ticket", [("id", models.BigAutoField(primary_key=True)),
    ("item", models.ForeignKey("shop.Item", models.CASCADE))])"""


@on_mariadb
def test_killed_before_the_foreign_key(site: Make, vendor: str) -> None:
    """Django makes it at the very end, behind all operations."""
    made = site(vendor)
    stop = """
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
leave = BaseDatabaseSchemaEditor.__exit__
def late(self, *error):
    if self.deferred_sql:
        wait(None, None)
    leave(self, *error)
BaseDatabaseSchemaEditor.__exit__ = late
"""
    made.migration("0002", TICKET, after="0001", head=stop)
    made.killed()
    made.migration("0002", TICKET, after="0001")
    done = made.run(gone=GONE)
    assert (done.exit, done.examined()) == (3, {"shop.0002": "partly"}), done.log
    assert "but not: foreign key on shop_ticket(item_id)" in done.result["failure"]


@on_postgresql
def test_killed_while_an_index_is_built_concurrently(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.sql("INSERT INTO shop_item (name) SELECT 'x' FROM generate_series(1, 1000)")
    operation = ('AddIndexConcurrently("item", models.Index(fields=["name"], name="by_name"))')
    head = "from django.contrib.postgres.operations import AddIndexConcurrently\n"
    made.migration("0002", operation, after="0001", more="atomic = False", head=head)
    writer = Session(made.databases["default"])
    writer.ask("BEGIN; INSERT INTO shop_item (name) VALUES ('open')")
    running = made.start(made.order(lock_timeout=30))
    until(lambda: made.sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == ["1"])
    running.process.kill()
    running.end()
    until(lambda: made.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE "
                           "'CREATE INDEX%'") == ["0"])
    writer.close()
    done = made.run(gone=GONE)
    assert (done.exit, done.examined()) == (3, {"shop.0002": "partly"}), done.log
    assert "by_name on shop_item, but INVALID: to be dropped" in done.result["failure"]
    made.sql("DROP INDEX by_name")
    done = made.run(gone=GONE)
    assert (done.exit, done.examined()) == (0, {"shop.0002": "rolled back"}), done.log
    made.nothing_left()


@everywhere
def test_failed_outside_of_a_transaction(site: Make, vendor: str) -> None:
    made = site(vendor)
    fail = "\ndef fail(apps, editor):\n    raise ValueError('no such luck')\n"
    made.migration("0002", COLUMN, ADD, "migrations.RunPython(fail)", after="0001", head=fail,
                   more="atomic = False")
    first = programs.run("job", job(made))
    assert first.exit == 1
    assert "shop.0002 failed: ValueError: no such luck" in first.out
    assert "0002.py, line " in first.out
    assert "column shop_item.note" in first.out
    for by in ("run2", "run3"):
        assert programs.run("job", job(made, by=by)).exit == 3
    assert made.items() == 1
    made.nothing_left()


@transactional
def test_failed_inside_of_a_transaction(site: Make, vendor: str) -> None:
    made = site(vendor)
    fail = "\ndef fail(apps, editor):\n    if not os.path.exists('go'):\n        raise ValueError\n"
    made.migration("0002", COLUMN, ADD, "migrations.RunPython(fail)", after="0001", head=fail)
    assert programs.run("job", job(made)).exit == 1
    made.file("go").touch()
    assert programs.run("job", job(made, by="run2")).exit == 0
    assert made.items() == 1


@transactional
def test_what_fails_behind_the_commit_is_applied(site: Make, vendor: str) -> None:
    made = site(vendor)
    head = ("\ndef later(apps, editor):\n    add(apps, editor)\n"
            "    transaction.on_commit(lambda: 1 / 0)\n")
    made.migration("0002", "migrations.RunPython(later)", after="0001", head=head)
    done = made.run()
    assert (done.exit, done.applied, made.items()) == (1, ["shop.0002"], 1), done.log
    assert "all the same it is applied and recorded" in done.result["failure"]


@on_postgresql
def test_the_working_session_is_ended(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, WAIT, ADD, after="0001")
    running = made.start()
    until(made.file("begun").exists)
    made.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = "
             "'idle in transaction' AND datname = current_database()")
    made.file("go").touch()
    done = running.end()
    assert (done.exit, done.applied) == (1, []), done.log
    assert "it was rolled back" in done.result["failure"]
    assert made.items() == 0
    made.nothing_left()


# --- the plan under the lock ---------------------------------------------------------------------


@everywhere
def test_the_plan_has_changed(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, after="0001")
    agreed = made.order()
    made.migration("0003", ADD, after="0002")
    done = made.start(agreed).end()
    assert (done.exit, done.applied, made.items()) == (3, [], 0)
    assert "shop.0003 is pending now" in done.result["failure"]
    made.file("shop/migrations/0003.py").unlink()
    made.migration("0002", ADD, ADD, after="0001")
    done = made.start(agreed).end()
    assert (done.exit, made.items()) == (3, 0)
    assert "the file of shop.0002 is another one" in done.result["failure"]
    made.file("shop/migrations/0002.py").unlink()
    done = made.start(agreed).end()
    assert done.exit == 3
    assert "neither pending nor applied: shop.0002" in done.result["failure"]
    made.nothing_left()


CONTRIB = '["django.contrib.contenttypes", "django.contrib.auth", "shop"]'


def asked(made: Site) -> dict[str, Any]:
    """What is pending, as the controller asks for it."""
    line = ship.line(command(str(made.python))).line
    package = ship.package("migrating.ask", {
        "env": {}, "databases": list(made.databases), "overrides": {}, "heavy_bytes": 1}, {})
    done = subprocess.run(["sh", "-c", line], input=package, capture_output=True, check=True,
                          cwd=made.folder, env=made.environment())
    answer = json.loads(done.stdout.decode().partition("@@FABFLEET ")[2])
    return {alias: [[each["migration"], each["sha256"]] for each in plan["pending"]]
            for alias, plan in answer["plans"].items()}


@everywhere
def test_a_part_is_held_back(site: Make, vendor: str) -> None:
    made = site(vendor, first=False)
    made.env["APPS"] = CONTRIB
    made.put("shop/models.py", "from django.db import models\nclass Item(models.Model):\n"
                               "    name = models.CharField(max_length=50)\n")
    made.migration("0002", COLUMN, after="0001")
    made.migration("0003", SECOND_COLUMN, after="0002")
    expected = asked(made)
    names = [name for name, _ in expected["default"]]
    some = [name for name in names if name not in ("shop.0002", "shop.0003")]
    done = made.run(expected=expected, only={"default": some})
    assert (done.exit, done.applied) == (0, some), done.log
    assert made.sql("SELECT count(*) FROM django_content_type WHERE app_label = 'shop'") == ["1"]
    assert int(made.sql("SELECT count(*) FROM auth_permission")[0]) >= 16
    done = made.run(expected=expected, only={"default": ["shop.0003"]})
    assert (done.exit, done.applied) == (3, []), done.log
    assert "shop.0003 cannot run now: it needs shop.0002" in done.result["failure"]
    done = made.run(expected=expected, only={"default": ["shop.0002"]})
    assert (done.exit, done.applied) == (0, ["shop.0002"])
    made.nothing_left()


# --- the lock is lost ----------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ALL[:2])
def test_the_lock_is_lost_in_the_middle(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, WAIT, after="0001")
    made.migration("0003", ADD, after="0002")
    running = made.start()
    until(made.file("begun").exists)
    if vendor == "postgresql":
        made.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
                 "AND objid = 1")
    else:
        name = made.databases["default"]["NAME"]
        (number,) = made.sql(f"SELECT IS_USED_LOCK('fabfleet:{name}')")
        made.sql(f"KILL {number}")
    other = made.run(wait=0)
    assert other.exit == 75, "nobody else may start while the migration still runs"
    made.file("go").touch()
    done = running.end()
    assert (done.exit, done.applied, made.items()) == (1, ["shop.0002"], 1), done.log
    assert "the connection that held the lock is gone" in done.result["failure"]
    made.nothing_left()


# --- peculiar projects ---------------------------------------------------------------------------


@everywhere
def test_a_project_that_prints(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.put("config/settings.py", made.file("config/settings.py").read_text() + """
import logging, sys
print("settings without an end", end="")
LOGGING = {"version": 1, "handlers": {"out": {"class": "logging.StreamHandler",
    "stream": "ext://sys.stdout"}}, "root": {"handlers": ["out"], "level": "INFO"}}
""")
    head = """
import logging, sys
def talk(apps, editor):
    logging.warning("to the log")
    print("\\u00e4\\udc80 half a line", end="")
    os.system("printf 'from a program'")
    sys.stderr.write("half an error")
def silence(apps, editor):
    sys.stdout.close()
    sys.stdout = None
"""
    made.migration("0002", "migrations.RunPython(talk)", after="0001", head=head)
    made.migration("0003", "migrations.RunPython(silence)", after="0002", head=head)
    made.env["LANG"] = made.env["LC_ALL"] = "C"
    done = made.run()
    assert (done.exit, done.applied) == (0, ["shop.0002", "shop.0003"]), done.log
    for words in ("to the log", "half a line", "from a program", "half an error",
                  "settings without an end"):
        assert words in done.log
    assert [each["event"] for each in done.events] == [
        "started", "applied", "started", "applied", "result"]  # fmt: skip


@everywhere
def test_a_migration_that_closes_its_connection(site: Make, vendor: str) -> None:
    made = site(vendor)
    head = "\ndef close(apps, editor):\n    add(apps, editor)\n    editor.connection.close()\n"
    made.migration("0002", "migrations.RunPython(close)", ADD, after="0001", head=head,
                   more="atomic = False")
    done = made.run()
    assert (done.exit, made.items()) == (0, 2), done.log
    made.nothing_left()


@transactional
def test_closed_inside_of_a_transaction_is_never_said_to_be_applied(
    site: Make, vendor: str
) -> None:
    made = site(vendor)
    head = "\ndef close(apps, editor):\n    add(apps, editor)\n    editor.connection.close()\n"
    made.migration("0002", "migrations.RunPython(close)", after="0001", head=head)
    done = made.run()
    assert (done.exit, done.applied) == (1, []), done.log
    assert (made.items(), made.names()) == (0, ["0001"])


@everywhere
@pytest.mark.parametrize("error", ["SystemExit(0)", "SystemExit('bye')", "KeyboardInterrupt"])
def test_a_migration_that_ends_the_process(site: Make, vendor: str, error: str) -> None:
    made = site(vendor)
    made.migration("0002", "migrations.RunPython(leave)", after="0001",
                   head=f"\ndef leave(apps, editor):\n    raise {error}\n")
    done = made.run()
    assert (done.exit, done.applied) == (1, []), done.log
    assert [each["event"] for each in done.events] == ["started", "failed", "result"]
    assert f"shop.0002 failed: {error.partition('(')[0]}" in done.result["failure"]
    made.nothing_left()


@pytest.mark.parametrize("vendor", ["sqlite"])
@pytest.mark.parametrize("line", ["raise SystemExit(0)", "import nothing_of_that_name", "x = 1 +"])
def test_settings_that_cannot_be_read(site: Make, vendor: str, line: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, after="0001")
    made.put("config/settings.py", line)
    done = made.run()
    assert (done.exit, done.applied) == (3, []), done.log
    assert "nothing was migrated" in done.result["failure"]


@pytest.mark.parametrize("vendor", ALL[:2])
def test_a_database_that_does_not_answer(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.databases["default"]["HOST"] = "/nowhere"
    done = made.run()
    assert (done.exit, done.applied) == (3, []), done.log
    assert "OperationalError" in done.result["failure"]


@on_postgresql
@pytest.mark.parametrize("options", [
    {"options": "-c lock_timeout=0 -c statement_timeout=700 -c idle_session_timeout=700"},
    {"options": "-c search_path=mine"},
    {"server_side_binding": True},
    {"pool": {"min_size": 1, "max_size": 1, "timeout": 2}},
    {"isolation_level": 4},
])
def test_options_of_the_connection(site: Make, vendor: str, options: dict[str, Any]) -> None:
    made = site(vendor)
    if "search_path" in str(options):
        made.sql("CREATE SCHEMA mine; CREATE TABLE mine.shop_item (id bigserial, name text)")
    made.databases["default"]["OPTIONS"] = options
    slow = "\ndef slow(apps, editor):\n    editor.execute('SELECT pg_sleep(1.2)')\n"
    made.migration("0002", "migrations.RunPython(slow)", COLUMN, after="0001", head=slow)
    made.migration("0003", SECOND_COLUMN, after="0002")
    if "search_path" in str(options):
        made.sql("CREATE TABLE mine.django_migrations "
                 "(LIKE public.django_migrations INCLUDING ALL); "
                 "INSERT INTO mine.django_migrations (app, name, applied) "
                 "SELECT app, name, applied FROM public.django_migrations")
    reader = Session(made.databases["default"])
    table = "mine.shop_item" if "search_path" in str(options) else "shop_item"
    reader.ask(f"BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE")
    done = made.run(lock_timeout=0.3, retries=0)
    assert (done.exit, "LockNotAvailable" in done.log) == (1, True), done.log
    reader.close()
    done = made.run(lock_timeout=0.3)
    assert (done.exit, done.applied) == (0, ["shop.0002", "shop.0003"]), done.log
    made.nothing_left()


@on_postgresql
def test_a_role_with_limits_of_its_own_and_few_rights(site: Make, vendor: str) -> None:
    made = site(vendor)
    role = f"r{time.monotonic_ns()}"
    made.sql(f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA public TO {role}; "
             f"ALTER TABLE shop_item OWNER TO {role}; ALTER TABLE django_migrations OWNER TO "
             f"{role}; ALTER ROLE {role} SET statement_timeout = 300; "
             f"ALTER ROLE {role} SET idle_session_timeout = 300; "
             f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = 300")
    slow = ("\ndef slow(apps, editor):\n    editor.execute('SELECT pg_sleep(1)')\n"
            "    time.sleep(1)\n")
    made.migration("0002", "migrations.RunPython(slow)", after="0001", head=slow)
    made.migration("0003", COLUMN, after="0002")
    reader = Session(made.databases["default"], "the root of it")
    made.databases["default"]["USER"] = role
    reader.ask("BEGIN; SELECT count(*) FROM shop_item")
    done = made.run(lock_timeout=1, retries=0)
    assert (done.exit, done.applied) == (1, ["shop.0002"]), done.log
    assert "the root of it" in done.result["failure"]
    assert "None" not in done.result["failure"]
    reader.close()
    assert made.run().exit == 0


@everywhere
def test_a_user_model_of_its_own(site: Make, vendor: str) -> None:
    made = site(vendor, first=False)
    made.env["APPS"] = CONTRIB.replace('"shop"', '"people", "shop"')
    made.put("config/settings.py",
             made.file("config/settings.py").read_text() + "AUTH_USER_MODEL = 'people.Person'\n")
    made.put("people/models.py", "from django.db import models\n"
             "from django.contrib.auth.models import AbstractBaseUser\n"
             "class Person(AbstractBaseUser):\n    email = models.CharField(max_length=90, "
             "unique=True)\n    USERNAME_FIELD = 'email'\n")
    made.migration("0001", """migrations.CreateModel("Person", [
        ("id", models.BigAutoField(primary_key=True)), ("password", models.CharField(max_length=9)),
        ("last_login", models.DateTimeField(null=True)),
        ("email", models.CharField(max_length=90, unique=True))],
        options={"swappable": "AUTH_USER_MODEL"})""", app="people", more="initial = True")
    made.migration("0002", """migrations.AddField("item", "who", models.ForeignKey(
        "people.Person", models.CASCADE, null=True)), migrations.RunPython(wait)""",
                   after="0001 people.0001", more="atomic = False")
    expected = asked(made)
    only = {"default": [name for name, _ in expected["default"]]}
    made.killed(expected=expected, only=only)
    done = made.run(expected=expected, only=only, gone=GONE)
    assert done.exit == 3, done.log
    # PostgreSQL gets the key's index behind all operations.
    assert done.examined()["shop.0002"] == "unknown", done.log
    assert "column shop_item.who_id" in done.result["failure"]


@everywhere
def test_squashed_migrations(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, after="0001")
    made.migration("0001_squashed_0002", FIRST, ADD,
                   more="replaces = [('shop', '0001'), ('shop', '0002')]")
    made.migration("0003", ADD, after="0001_squashed_0002")
    expected = asked(made)
    assert [name for name, _ in expected["default"]] == ["shop.0002", "shop.0003"]
    only = {"default": ["shop.0002", "shop.0003"]}
    done = made.run(expected=expected, only=only)
    assert (done.exit, done.applied, made.items()) == (0, only["default"], 2), done.log
    assert "0001_squashed_0002" in made.names()
    done = made.run(expected=expected, only=only, gone=GONE)
    assert (done.exit, done.examined()) == (0, {"shop.0002": "applied"}), done.log


@everywhere
def test_two_databases_with_a_router(site: Make, vendor: str) -> None:
    made = site(vendor, aliases=("default", "other"))
    made.put("config/routers.py", "class Router:\n"
             "    def allow_migrate(self, db, app_label, **hints):\n"
             "        return db == hints.get('only', 'default')\n")
    made.put("config/settings.py", made.file("config/settings.py").read_text()
             + "DATABASE_ROUTERS = ['config.routers.Router']\n")
    there = "migrations.RunPython(wait, hints={'only': 'other'})"
    made.migration("0002", COLUMN, there, after="0001")
    running = made.start()
    until(made.file("begun").exists, running.log.read_text)
    one = made.run(wait=0, only={"other": ["shop.0002"]})
    two = made.run(wait=0, only={"default": ["shop.0002"]})
    assert (one.exit, two.exit) == (75, 75), "each database's lock is held to the end"
    made.file("go").touch()
    done = running.end()
    assert done.result["applied"] == [["default", "shop.0002"], ["other", "shop.0002"]], done.log
    assert (made.names(), made.names("other")) == (["0001", "0002"], ["0001", "0002"])
    made.nothing_left()
    assert made.run(only={"nowhere": []}).exit == 3


@everywhere
def test_a_command_that_is_not_djangos(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.put("manage.py", MANAGE_WHOLE)
    made.migration("0002", ADD, after="0001")
    made.migration("0003", ADD, after="0002")
    command_line = [str(made.python), "manage.py", "migrate"]
    external: dict[str, Any] = {"external": True, "command": command_line}
    done = made.run(**external, only={"default": ["shop.0002"]})
    assert (done.exit, made.items()) == (3, 0), done.log
    assert "shop.0003 is to be held back" in done.result["failure"]
    done = made.run(**{**external, "command": ["true"]})
    assert (done.exit, done.applied) == (1, []), done.log
    done = made.run(**{**external, "command": ["/no/such"]})
    assert (done.exit, done.applied) == (1, []), done.log
    made.migration("0003", "migrations.RunPython(fail)", after="0002",
                   head="\ndef fail(apps, editor):\n    raise ValueError\n")
    done = made.run(**external)
    assert (done.exit, done.applied) == (1, ["shop.0002"]), done.log
    made.migration("0003", ADD, after="0002")
    done = made.run(**external)
    assert (done.exit, done.applied, made.items()) == (0, ["shop.0003"], 2), done.log
    made.nothing_left()


MANAGE_WHOLE = """import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
if __name__ == "__main__":
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""


@pytest.mark.parametrize("vendor", ["sqlite"])
def test_settings_are_named_in_the_environment_only(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", ADD, after="0001")
    made.put("manage.py", "import os\n")
    assert made.run().exit == 3
    made.env["DJANGO_SETTINGS_MODULE"] = "config.settings"
    assert made.run().exit == 0
    made.file("manage.py").unlink()
    assert made.run().exit == 0


@everywhere
def test_what_follows_the_migrations_fails(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.put("shop/apps.py", """from django.apps import AppConfig
from django.db.models.signals import post_migrate
def fail(**_):
    raise ValueError("no permissions")
class Shop(AppConfig):
    name = "shop"
    def ready(self):
        post_migrate.connect(fail, weak=False)
""")
    made.put("shop/models.py", "")
    made.migration("0002", ADD, after="0001")
    done = made.run()
    assert (done.exit, done.applied) == (1, ["shop.0002"]), done.log
    assert "all migrations are applied" in done.result["failure"]


# --- going back ----------------------------------------------------------------------------------


def two_apps(made: Site) -> dict[str, Any]:
    made.env["APPS"] = '["shop", "till"]'
    made.migration("0002", COLUMN, ADD, after="0001")
    made.migration("0001", 'migrations.CreateModel("Till", [("id", '
                   'models.BigAutoField(primary_key=True))])', after="shop.0001", app="till")
    made.migration("0002", ADD, after="0001 shop.0002", app="till")
    made.migration("0002_more", ADD, after="0002", app="till")
    made.migration("0003", ADD, after="0002 till.0002")
    names = [name for name, _ in made.digests()]
    done = made.run(only={"default": names})
    assert done.exit == 0, done.log
    return {"back": {"default": [["shop", "0002"], ["till", "0001"]]},
            "only": {"default": ["shop.0003", "till.0002_more", "till.0002"]}}


@everywhere
def test_back_over_two_apps(site: Make, vendor: str) -> None:
    made = site(vendor)
    back = two_apps(made)
    done = made.run(**{**back, "only": {"default": ["shop.0003"]}})
    assert (done.exit, done.applied) == (3, []), done.log
    assert "the way back has changed" in done.result["failure"]
    done = made.run(**back)
    assert (done.exit, done.applied) == (0, back["only"]["default"]), done.log
    assert sorted(made.names()) == ["0001", "0001", "0002"]
    done = made.run(back={"default": [["till", "zero"], ["shop", "0001"]]},
                    only={"default": ["till.0001", "shop.0002"]})
    assert (done.exit, made.names()) == (0, ["0001"]), done.log
    made.nothing_left()


@everywhere
def test_back_to_a_name_that_begins_another(site: Make, vendor: str) -> None:
    made = site(vendor)
    two_apps(made)
    done = made.run(back={"default": [["till", "0002"]]}, only={"default": ["till.0002_more"]})
    assert (done.exit, done.applied) == (0, ["till.0002_more"]), done.log


@everywhere
def test_no_way_back_in_the_middle(site: Make, vendor: str) -> None:
    made = site(vendor)
    made.migration("0002", "migrations.RunPython(add)", after="0001")
    made.migration("0003", COLUMN, after="0002")
    assert made.run().exit == 0
    done = made.run(back={"default": [["shop", "0001"]]},
                    only={"default": ["shop.0003", "shop.0002"]})
    assert (done.exit, done.applied) == (3, []), done.log
    assert "shop.0002: Raw Python operation cannot be taken back" in done.result["failure"]
    assert made.names() == ["0001", "0002", "0003"]


@everywhere
def test_killed_on_the_way_back(site: Make, vendor: str) -> None:
    """It is still recorded as applied, and that says nothing."""
    made = site(vendor)
    back = "migrations.RunPython(migrations.RunPython.noop, wait)"
    made.migration("0002", COLUMN, back, SECOND_COLUMN, after="0001", more="atomic = False")
    assert made.run().exit == 0
    order = {"back": {"default": [["shop", "0001"]]}, "only": {"default": ["shop.0002"]}}
    made.killed(**order)
    done = made.run(**order, gone=[["default", "shop.0002", "back"]])
    assert (done.exit, done.examined()) == (3, {"shop.0002": "partly"}), done.log
    assert "column shop_item.memo removed; but not: column shop_item.note removed" in (
        done.result["failure"])
