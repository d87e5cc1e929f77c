"""Migrations survive whoever started them: exactly once, and the outcome shown is the true one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fabfile.lab.model import LabError
from tests.lab.fleet import ROOT, Fleet, wait_for

LASTING = """
import time

from django.db import migrations


def work(apps, schema_editor):
    apps.get_model("catalog", "AuditEntry").objects.create(what="WHAT")
    time.sleep(SECONDS)


class Migration(migrations.Migration):
    dependencies = (("catalog", "BEFORE"),)
    stage = "pre_deploy"
    operations = (migrations.RunPython(work, migrations.RunPython.noop),)
"""
NAMES = ["0006_slow", "0007_slower", "0008_slowest"]
SECONDS = range(1, 11)


def lasting(what: str, seconds: float, before: str) -> str:
    """A migration that appends a row and then lasts so long."""
    told = LASTING.replace("WHAT", what).replace("SECONDS", str(seconds))
    return told.replace("BEFORE", before)


def add_slow(fleet: Fleet) -> None:
    """The tag ``slow``: v2 with three more migrations, which take ten seconds together."""
    files = {}
    for before, name in zip(["0005_note_stock", *NAMES], NAMES, strict=False):
        files[f"catalog/migrations/{name}.py"] = lasting(f"slow: {name}", 3.3, before)
    fleet.commit("slow", files)


def begun(fleet: Fleet) -> bool:
    """Whether the first of them works now: its row is not committed, but its lock is there."""
    return fleet.sql("select count(*) from pg_locks l join pg_class c on c.oid = l.relation "
                     "where c.relname = 'catalog_auditentry' and l.mode = 'RowExclusiveLock'"
                     ) != [["0"]]


def check_once(fleet: Fleet) -> None:
    rows = fleet.sql("select what from catalog_auditentry where what like 'slow: %' order by id")
    assert [row[0] for row in rows] == [f"slow: {name}" for name in NAMES]
    assert fleet.migrations()[5:] == NAMES
    assert len(set(fleet.serving().values())) == 1


# --- what happens to the controller and to the line ----------------------------------------------


def kill_controller(fleet: Fleet, deploy: subprocess.Popen[str]) -> None:
    deploy.kill()


def close_terminal(fleet: Fleet, deploy: subprocess.Popen[str]) -> None:
    os.killpg(deploy.pid, signal.SIGHUP)


def kill_sshd(fleet: Fleet, deploy: subprocess.Popen[str]) -> None:
    sessions = fleet.pids("web1", "^sshd: deploy")
    fleet.on("web1", f"kill -9 {' '.join(map(str, sessions))}")


def cut_for(seconds: float) -> Callable[[Fleet, subprocess.Popen[str]], None]:
    def cut(fleet: Fleet, deploy: subprocess.Popen[str]) -> None:
        fleet.lab.cut("web1")
        healed = threading.Event()
        healed.wait(seconds)  # the cut lasts as long as the story says
        fleet.lab.heal("web1")

    return cut


ACCIDENTS: dict[str, Callable[[Fleet, subprocess.Popen[str]], None]] = {
    "controller killed": kill_controller,
    "terminal closed": close_terminal,
    "sshd killed": kill_sshd,
    "network cut for 5 s": cut_for(5),
    "network cut for 60 s": cut_for(60),
}


def survive(fleet: Fleet, accident: str, second: float) -> str:
    """One experiment; how the first deploy ended, in a word."""
    fleet.recall()
    add_slow(fleet)
    deploy = fleet.start("deploy", "--ref=slow")
    wait_for("the migrations have begun", lambda: begun(fleet), 60)
    waited = threading.Event()
    waited.wait(second)  # the moment of the accident is what is varied
    ACCIDENTS[accident](fleet, deploy)
    out, err = deploy.communicate(timeout=200)
    if deploy.returncode == 0:
        check_once(fleet)  # "ok" has to be true
    again = fleet.fab("deploy", "--ref=slow", timeout=300)
    assert again.returncode == 0, f"{out}\n{err}\nthen\n{again.stdout}\n{again.stderr}"
    check_once(fleet)
    return f"first {deploy.returncode}, again 0"


@pytest.mark.parametrize("accident", ["controller killed", "terminal closed", "sshd killed"])
def test_migrations_run_once_whatever_happens(on_v1: Fleet, accident: str) -> None:
    survive(on_v1, accident, 5)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_at_every_second_of_ten(on_v1: Fleet) -> None:
    failed = {}
    for accident in ACCIDENTS:
        for second in SECONDS:
            began = time.monotonic()
            try:
                told = survive(on_v1, accident, second - 0.5)
            except AssertionError as error:
                failed[f"{accident} at {second} s"] = str(error)
                told = "FAILED"
            print(f"{accident} at {second} s: {told} ({time.monotonic() - began:.0f} s)",
                  flush=True)
    assert not failed


# --- the power goes ------------------------------------------------------------------------------

ATOMIC_GATE = """
from django.db import migrations, models

from catalog.gate import wait_for_the_gate


class Migration(migrations.Migration):
    dependencies = (("catalog", "0005_note_stock"),)
    stage = "pre_deploy"
    operations = (
        migrations.AddField("product", "cents", models.IntegerField(null=True)),
        migrations.RunPython(wait_for_the_gate, migrations.RunPython.noop),
    )
"""
WAIT = """
import time


def wait_for_the_gate(apps, schema_editor):
    while True:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("select to_regclass('gate')")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.05)
"""
IN_GATE = ("select count(*) from pg_stat_activity where pid <> pg_backend_pid() "
           "and query like '%to_regclass(''gate'')%'")


def power_cut(fleet: Fleet, tag: str, here: Callable[[], Any]) -> None:
    """web1 loses its power while the migration of ``tag`` works, and is on again."""
    deploy = fleet.start("deploy", f"--ref={tag}")
    wait_for("the migration works", here, 60)
    fleet.lab.kill("web1")
    deploy.kill()
    deploy.communicate(timeout=60)
    fleet.lab.boot("web1")
    wait_for("the service is back", lambda: fleet.status_of("web1", "/healthz") == 200, 60)


def test_power_cut_in_a_transaction(on_v1: Fleet) -> None:
    on_v1.commit("atomic", {"catalog/gate.py": WAIT,
                            "catalog/migrations/0006_gate.py": ATOMIC_GATE})
    power_cut(on_v1, "atomic", lambda: on_v1.sql(IN_GATE) != [["0"]])
    assert on_v1.migrations()[3:] == ["0004_product_stock", "0005_note_stock"]
    assert "a run did not end" in on_v1.fab("status", check=4).stderr
    on_v1.open_gate()
    done = on_v1.fab("deploy", "--ref=atomic", check=0)
    assert ("an earlier run ended, or failed, while it applied catalog.0006_gate: "
            "it was rolled back, nothing is left of it") in done.stdout
    assert on_v1.migrations()[3:] == ["0004_product_stock", "0005_note_stock", "0006_gate"]


def test_power_cut_outside_of_a_transaction(on_v1: Fleet) -> None:
    """Never a blind retry: a person looks, and says so."""
    on_v1.add_gate()
    power_cut(on_v1, "gate", on_v1.at_gate)
    on_v1.open_gate()
    for _ in range(2):
        done = on_v1.fab("deploy", "--ref=gate", check=1)
        assert "ended, or failed, while it applied catalog.0006_gate" in done.stdout
        assert "--accept-risk=catalog.0006_gate" in done.stderr
        assert on_v1.at_gate() == ["gate: waiting"]
        assert len(set(on_v1.serving().values())) == 1
    on_v1.fab("deploy", "--ref=gate", "--accept-risk=catalog.0006_gate", check=0)
    assert on_v1.at_gate() == ["gate: waiting", "gate: waiting", "gate: passed"]
    assert on_v1.migrations()[5:] == ["0006_gate"]


def test_a_host_that_ends_every_process_with_its_session(on_v1: Fleet) -> None:
    """The job is a unit of the deploy user's own systemd."""
    folder = "/etc/systemd/logind.conf.d"
    on_v1.on("web1", f"mkdir -p {folder} && printf '[Login]\\nKillUserProcesses=yes\\n' "
                     f">{folder}/kill.conf && systemctl restart systemd-logind")
    try:
        on_v1.add_gate()
        deploy = on_v1.start("deploy", "--ref=gate")
        wait_for("the migration waits", on_v1.at_gate, 60)
        deploy.kill()
        deploy.communicate(timeout=60)
        kill_sessions(on_v1)
        worker, *_ = on_v1.pids("web1", "jobs/migrate/worker.py")
        assert "/fabfleet-shop-migrate.scope" in on_v1.on("web1", f"cat /proc/{worker}/cgroup")
        on_v1.open_gate()
        on_v1.fab("deploy", "--ref=gate", check=0)
        assert on_v1.at_gate() == ["gate: waiting", "gate: passed"]
        assert len(set(on_v1.serving().values())) == 1
    finally:
        on_v1.on("web1", f"rm {folder}/kill.conf && systemctl restart systemd-logind")


def kill_sessions(fleet: Fleet) -> None:
    """Log the deploy user out of web1, as often as it is logged in."""
    def sessions() -> list[str]:
        lines = fleet.on("web1", "loginctl list-sessions --no-legend").splitlines()
        return [line.split()[0] for line in lines if " deploy " in line]

    for session in sessions():
        fleet.on("web1", f"loginctl terminate-session {session}", check=False)
    wait_for("nobody is logged in", lambda: not sessions(), 30)


# --- many at once, and somebody in the way --------------------------------------------------------

def test_eight_controllers_migrate_once(on_v1: Fleet, tmp_path: Path) -> None:
    """Those of one environment are kept apart by its lock, those of several by the database's."""
    append = lasting("once: appended", 2, "0005_note_stock")
    on_v1.commit("append", {"catalog/migrations/0006_append.py": append})
    environments = [on_v1.alone(host) for host in on_v1.web]
    running = [on_v1.start("deploy", "--ref=append", f"--env={environments[number % 3]}",
                           environment={"FABFLEET_STATE": str(tmp_path / str(number))})
               for number in range(8)]
    ended = [(*process.communicate(timeout=150), process.returncode) for process in running]
    codes = sorted(code for _, _, code in ended)
    assert codes == [0, 0, 0, 75, 75, 75, 75, 75], ended
    rows = on_v1.sql("select count(*) from catalog_auditentry where what = 'once: appended'")
    assert rows == [["1"]]
    assert on_v1.migrations()[3:] == ["0004_product_stock", "0005_note_stock", "0006_append"]
    assert sum("catalog.0006_append: applied" in out for out, _, _ in ended) == 1


def test_a_long_reader_keeps_nobody_else_waiting(on_v1: Fleet) -> None:
    """The migration gives up, says who has the lock, and tries again; nobody queues behind it."""
    on_v1.write_inventory(migrations={"retries": 2, "lock_timeout": 1.5})

    def read() -> None:
        with suppress(LabError):  # it is ended by force
            on_v1.sql("begin; select count(*) from catalog_product; select pg_sleep(60)")

    threading.Thread(target=read, daemon=True).start()
    wait_for("the reader reads", lambda: on_v1.sql(READERS) == [["1"]])
    took: list[float] = []

    def probe() -> None:
        began = time.monotonic()
        on_v1.sql("select count(*) from catalog_product")
        took.append(time.monotonic() - began)

    with on_v1.sampled(probe):
        done = on_v1.fab("deploy", "--ref=v2", check=1)
    on_v1.sql(READERS.replace("count(*)", "pg_terminate_backend(pid)"))
    assert "no lock within 1.5 s (attempt 1 of 3)" in done.stdout
    assert "catalog.0004_product_stock waits for a lock, held by pid " in done.stdout
    assert on_v1.migrations()[3:] == []
    assert len(took) > 20
    print(f"{len(took)} probes, the slowest took {max(took):.2f} s")
    assert max(took) < 1.5 + 0.5
    on_v1.fab("deploy", "--ref=v2", check=0)


READERS = ("select count(*) from pg_stat_activity where query like '%pg_sleep%' "
           "and pid <> pg_backend_pid()")


# --- one environment for all ---------------------------------------------------------------------

RECORD = """
import json
import os
import sys

from django.db import migrations


def record(apps, schema_editor):
    with open("/proc/self/environ", "rb") as text:
        began = text.read().decode().split(chr(0))
    with open("/tmp/seen-by-the-migration", "w") as out:
        json.dump({"environ": sorted(filter(None, began)), "user": os.getuid(), "cwd": os.getcwd(),
                   "python": sys.executable, "group": os.getgid()}, out)


class Migration(migrations.Migration):
    dependencies = (("catalog", "0005_note_stock"),)
    stage = "pre_deploy"
    operations = (migrations.RunPython(record),)
"""
FROM_SYSTEMD = {"INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "SYSTEMD_EXEC_PID"}
SECRET = "s3cr3t-that-nobody-may-see"


def test_a_migration_sees_what_the_service_sees(
    on_v1: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_v1.commit("record", {"catalog/migrations/0006_record.py": RECORD})
    monkeypatch.setenv("SHOP_TOKEN_HERE", SECRET)
    on_v1.write_inventory(app={"secrets": {"TOKEN": {"env": "SHOP_TOKEN_HERE"}}})
    with on_v1.sampled(lambda: arguments_of_all(on_v1), every=0.02) as samples:
        done = on_v1.fab("deploy", "--ref=record", check=0)
    migration = json.loads(on_v1.on("web1", "cat /tmp/seen-by-the-migration"))
    service = worker(on_v1)
    assert {*service["environ"]} ^ {*migration["environ"]} == set()
    assert migration == service
    assert f"TOKEN={SECRET}" in migration["environ"]
    assert len(samples) > 20
    assert [text for _, text in samples if "program.py" in text], "the migration was not sampled"
    assert [text for _, text in samples if SECRET in text] == []
    assert SECRET not in done.stdout + done.stderr
    written = on_v1.on("web1", f"grep -rl {SECRET} {ROOT} /var/log /tmp || true").split()
    assert written == [f"{ROOT}/.fabfleet/secrets.env", "/tmp/seen-by-the-migration"]
    assert [path for path in on_v1.journals() if SECRET in path.read_text()] == []


def worker(fleet: Fleet) -> dict[str, Any]:
    """What the first worker of web1's gunicorn was started with."""
    pid = fleet.on("web1", f"pgrep -P {fleet.main_pid('web1')} | head -1").strip()
    environ = [each for each in fleet.on("web1", f"cat /proc/{pid}/environ").split("\0") if each]
    python = fleet.on("web1", f"tr '\\0' '\\n' </proc/{pid}/cmdline | head -1").strip()
    return {
        "environ": sorted(each for each in environ if each.split("=")[0] not in FROM_SYSTEMD),
        "user": int(fleet.on("web1", f"stat -c %u /proc/{pid}")),
        "group": int(fleet.on("web1", f"stat -c %g /proc/{pid}")),
        "cwd": fleet.on("web1", f"readlink /proc/{pid}/cwd").strip(),
        "python": python,
    }


def arguments_of_all(fleet: Fleet) -> str:
    """The command lines of all processes, on the migration host and here."""
    there = fleet.on("web1", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", check=False)
    here = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            here.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return there + " ".join(here)
