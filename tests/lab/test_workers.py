"""Celery's workers and its scheduler on real hosts: what runs finishes on the code it began with,
nothing runs twice or never, and there is one scheduler at most."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote

import pytest

from tests.lab.fleet import GATE, ROOT, Fleet, wait_for
from tests.sites import history

CELERY = {"celery": "config", "groups": ["web"], "pools": {"main": {"concurrency": 2}}}
BEAT = {"celery": "config", "groups": ["scheduler"]}
BEAT_RUNS = "celery -A config beat"
UNITS = "/etc/systemd/system/shop-worker* /etc/systemd/system/shop-scheduler*"
FORGET = (f"systemctl disable -q --now shop-workers.service shop-scheduler.service; "
          f"systemctl kill -s KILL 'shop-worker-*'; systemctl stop 'shop-worker-*'; rm -f {UNITS}; "
          f"systemctl daemon-reload; systemctl reset-failed")
NEXT = {"docs/changes/v12.txt": "Another tea\n"}


@pytest.fixture(scope="module")
def tea(three: Fleet) -> Iterator[Fleet]:
    """Three web hosts on v11 that run workers as well; web3 has the scheduler."""
    three.reset()
    with_workers(three)
    three.fab("hosts.setup", check=0)
    three.fab("deploy", "--ref=v11", check=0)
    three.fab("stop", check=0)
    three.sql("create database shop_tea owner shop template shop", "postgres")
    yield three
    for host in three.web:
        three.on(host, FORGET, check=False)
    three.sql("drop database shop_tea", "postgres")


@pytest.fixture
def brewing(tea: Fleet) -> Iterator[Fleet]:
    with_workers(tea)
    tea.on("db1", "redis-cli flushall")
    tea.reset_database("shop_tea")
    tea.fab("deploy", "--ref=v11", check=0)
    yield tea
    tea.end_started()
    for host in tea.web:
        tea.on(host, "systemctl kill -s KILL 'shop-worker-*@*'", check=False)


def with_workers(fleet: Fleet, timers: object = None, **workers: object) -> None:
    broker = {"BROKER_URL": f"redis://{fleet.address['db1']}:6379/0"}
    folder = fleet.write_inventory(workers={**CELERY, **workers}, scheduler=BEAT,
                                   release={"drain": 1}, timers=timers)
    variables = folder / "group_vars" / "all.yml"
    variables.write_text(variables.read_text().replace(
        "    HOST_NAME:", f"    BROKER_URL: {broker['BROKER_URL']}\n    HOST_NAME:"))
    with (folder / "hosts.yml").open("a") as hosts:
        hosts.write("scheduler:\n  hosts:\n    web3: {}\n")


def send(fleet: Fleet, task: str, *names: str) -> None:
    """As the application sends it."""
    calls = "; ".join(f"tasks.{task}.delay({name!r})" for name in names)
    python = f"import django; django.setup(); from catalog import tasks; {calls}"
    fleet.on("web1", f"runuser -u shop -- python3 -I {ROOT}/.fabfleet/launch.py "
                     f"--env DJANGO_SETTINGS_MODULE=config.settings -- python -c \"{python}\"")


def notes(fleet: Fleet, kind: str) -> list[str]:
    rows = fleet.sql("select what from catalog_auditentry order by id")
    return [row[0] for row in rows if row[0].startswith(kind)]


def pour(fleet: Fleet, name: str) -> None:
    fleet.sql(f"insert into catalog_auditentry (at, what) select now(), 'pour {name}'")


def working(fleet: Fleet, host: str) -> dict[str, str]:
    """{instance of the pool's unit: state}, but for those that have ended."""
    rows = fleet.on(host, "systemctl list-units --all --plain --no-legend --full 'shop-worker-*@*'")
    states = {row.split()[0]: row.split()[2] for row in rows.splitlines()}
    return {unit.partition("@")[2].removesuffix(".service"): state
            for unit, state in states.items() if state not in ("inactive", "failed")}


def current(fleet: Fleet) -> str:
    (release,) = set(fleet.currents().values())
    return str(release)


@contextmanager
def schedulers_counted(fleet: Fleet) -> Iterator[Counter[int]]:
    """How many schedulers there were in the whole fleet, looked at again and again."""
    seen: Counter[int] = Counter()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen[sum(len(fleet.services(host, BEAT_RUNS)) for host in fleet.web)] += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_what_runs_finishes_on_the_old_code_and_nothing_is_lost(brewing: Fleet) -> None:
    """A task that lasts longer than a deploy and a rollback; others that are sent meanwhile."""
    v11 = current(brewing)
    brewing.commit("v12", NEXT, parent="v11")
    send(brewing, "brew", "long")
    wait_for("it is brewing", lambda: notes(brewing, "brew long: begins"))
    sent: list[str] = []
    over = threading.Event()

    def keep_sending() -> None:
        while not over.is_set():
            names = [f"n{len(sent) + i}" for i in range(5)]
            send(brewing, "sip", *names)
            sent.extend(names)

    sender = threading.Thread(target=keep_sending)
    with schedulers_counted(brewing) as seen:
        sender.start()
        try:
            brewing.fab("deploy", "--ref=v12", check=0)
            v12 = current(brewing)
            assert all(working(brewing, host)[v12] == "active" for host in brewing.web)
            wait_for("only one old worker is left", lambda: [
                working(brewing, host).get(v11) for host in brewing.web
            ].count("deactivating") == 1)
            status = brewing.fab("status", check=0).stdout
            assert f"; also there: {v11}" in status
            again = brewing.fab("deploy", "--ref=v12", check=0).stdout
            assert "already served" in again
            brewing.fab("rollback", check=0)
        finally:
            over.set()
            sender.join()
    assert current(brewing) == v11
    busy = next(host for host in brewing.web if f"{v11}:2" in working(brewing, host))
    wait_for("v12's workers are gone", lambda: working(brewing, busy) == {
        v11: "deactivating", f"{v11}:2": "active"})
    assert set(seen) <= {0, 1}
    assert seen[1] > 10
    print(f"schedulers, by how often seen: {dict(seen)}; {len(sent)} short tasks")
    pour(brewing, "long")
    wait_for("the old worker has ended", lambda: working(brewing, busy) == {f"{v11}:2": "active"})
    assert notes(brewing, "brew") == [f"brew long: begins {v11}", f"brew long: ends {v11}"]
    assert len(sent) > 20
    wait_for("all ran", lambda: len(notes(brewing, "sip")) >= len(sent), 30)
    ran = [each.split() for each in notes(brewing, "sip")]
    assert Counter(name for _, name, _ in ran) == Counter(sent)
    assert {release for *_, release in ran} == {v11, v12}


def test_no_scheduler_during_migrations_and_one_again_whatever_happens(brewing: Fleet) -> None:
    gate = {**NEXT, "catalog/migrations/0006_gate.py": GATE}
    brewing.commit("gate11", gate, parent="v11")
    assert len(brewing.services("web3", BEAT_RUNS)) == 1
    deploy = brewing.begin("deploy", "--ref=gate11", "--accept-risk=catalog.0006_gate",
                           at="stage/migrate")
    wait_for("the migration runs", brewing.at_gate, 60)
    ticks = len(notes(brewing, "tick"))
    with schedulers_counted(brewing) as seen:
        wait_for("it was looked at", lambda: seen[0] >= 10)
    assert set(seen) == {0}
    deploy.kill()
    deploy.wait()
    told = brewing.fab("status", check=4)
    assert "web3: the scheduler does not run (shop-scheduler.service inactive); start it: " in \
        told.stderr
    assert len(notes(brewing, "tick")) <= ticks + 1
    brewing.open_gate()
    brewing.fab("deploy", "--ref=gate11", check=0)
    assert len(brewing.services("web3", BEAT_RUNS)) == 1
    assert brewing.at_gate().count("gate: waiting") == 1
    release = current(brewing)
    wait_for("it schedules", lambda: f"tick {release}" in notes(brewing, "tick"))


def test_a_migration_that_fails_leaves_the_scheduler_running(brewing: Fleet) -> None:
    v11 = current(brewing)
    files = {"catalog/migrations/0006_fails.py": FAILS}
    brewing.commit("fails11", files, parent="v11")
    brewing.fab("deploy", "--ref=fails11", "--accept-risk=catalog.0006_fails", check=1)
    assert current(brewing) == v11
    assert len(brewing.services("web3", BEAT_RUNS)) == 1
    brewing.fab("status", check=0)


FAILS = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("catalog", "0005_stock_from_shelves")]
    operations = [migrations.RunSQL("select no_such_function()", "select 1")]
"""


def test_a_contract_waits_for_tasks_on_the_old_code(brewing: Fleet) -> None:
    v11 = current(brewing)
    files = {path: data.decode() for path, data in history.read(history.HERE / "shop_v8")}
    brewing.commit("contract11", files, parent="v11")
    send(brewing, "brew", "long")
    wait_for("it is brewing", lambda: notes(brewing, "brew long: begins"))
    waits = brewing.fab("deploy", "--ref=contract11", check=4)
    assert f"processes of {v11} still run here" in waits.stderr
    before = brewing.migrations()
    still = brewing.fab("deploy.finish", check=4)
    assert f"processes of {v11} still run here" in still.stderr
    assert brewing.migrations() == before
    pour(brewing, "long")
    wait_for("no old worker is left",
             lambda: all(v11 not in working(brewing, host) for host in brewing.web))
    brewing.fab("deploy.finish", check=0)
    assert len(brewing.migrations()) == len(before) + 1
    assert len(brewing.services("web3", BEAT_RUNS)) == 1


def test_workers_that_do_not_start_are_none(brewing: Fleet) -> None:
    """The old ones were never touched; tasks that cannot be imported do not even get so far."""
    v11 = current(brewing)
    unit = f"shop-worker-main@{v11}.service"
    before = brewing.on("web1", f"systemctl show -p MainPID {unit}")
    with_workers(brewing, pools={"main": {"options": ["--no-such-option"]}})
    failed = brewing.fab("deploy", "--ref=v11", check=1)
    assert "does not stay up" in failed.stderr
    assert "No such option" in failed.stderr
    assert "web1: put back on the release it had" in failed.stderr
    assert current(brewing) == v11
    wait_for("only the old one works", lambda: working(brewing, "web1") == {v11: "active"})
    assert brewing.on("web1", f"systemctl show -p MainPID {unit}") == before

    with_workers(brewing)
    brewing.commit("broken11", {"catalog/tasks.py": "import no_such_module\n"}, parent="v11")
    refused = brewing.fab("deploy", "--ref=broken11", check=3)
    assert "No module named 'no_such_module'" in refused.stderr
    assert current(brewing) == v11


def test_stop_start_restart_and_a_power_cut(brewing: Fleet) -> None:
    v11 = current(brewing)
    brewing.fab("restart", check=0)
    wait_for("the others are gone", lambda: [
        working(brewing, host) for host in brewing.web] == [{f"{v11}:2": "active"}] * 3)
    brewing.fab("stop", check=0)
    assert [working(brewing, host) for host in brewing.web] == [{}] * 3
    assert brewing.services("web3", BEAT_RUNS) == []
    brewing.fab("start", check=0)
    assert [working(brewing, host) for host in brewing.web] == [{v11: "active"}] * 3
    assert len(brewing.services("web3", BEAT_RUNS)) == 1
    brewing.lab.kill("web3")
    brewing.lab.boot("web3")
    wait_for("its workers work", lambda: working(brewing, "web3") == {v11: "active"})
    wait_for("and its scheduler", lambda: len(brewing.services("web3", BEAT_RUNS)) == 1)
    brewing.fab("status", check=0)


def test_a_stop_waits_for_tasks_and_kills_none(brewing: Fleet) -> None:
    with_workers(brewing, stop_deadline=1)
    brewing.fab("deploy", "--ref=v11", check=0)
    v11 = current(brewing)
    send(brewing, "brew", "long")
    wait_for("it is brewing", lambda: notes(brewing, "brew long: begins"))
    brewing.commit("v12", NEXT, parent="v11")
    late = brewing.fab("deploy", "--ref=v12", "--strategy=together", check=1)
    assert "tasks still run there after 1 s (workers.stop_deadline)" in late.stderr
    assert current(brewing) == v11
    # HAProxy's own checks may miss one on a busy machine, for a moment.
    wait_for("all serve on", lambda: brewing.behind_proxy() == {*brewing.web})
    for host in brewing.web:
        assert "active" in working(brewing, host).values()
    assert len(brewing.services("web3", BEAT_RUNS)) == 1
    pour(brewing, "long")
    wait_for("it ended on the code it began with",
             lambda: notes(brewing, "brew long: ends") == [f"brew long: ends {v11}"])


def test_the_helper_does_nothing_else(brewing: Fleet) -> None:
    helper = "sudo -n /usr/local/sbin/fabfleet-shop-workers"
    for words in ("start ssh.service", "stop 'shop-worker-main@x.service;reboot'", "restart x", "",
                  "start 'shop-worker-main@x.service' ssh.service", "stop", "start --help"):
        line = f"runuser -u deploy -- {helper} {words}; echo $?"
        assert brewing.on("web1", line).strip() == "64", words




# --- around a maintenance ------------------------------------------------------------------

TIDY = {
    "service": "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'date >>/tmp/tidied'\n",
    "timer": "[Timer]\nOnActiveSec=0\nOnUnitActiveSec=200ms\nAccuracySec=10ms\n"
             "[Install]\nWantedBy=timers.target\n",
}
# As cron would, but far more often.
CRON = (f"systemd-run -q --collect --unit=jobs sh -c 'while :; do runuser -u shop -- python3 -I "
        f"{ROOT}/.fabfleet/launch.py --job -- sh -c \"date >>/tmp/jobs-done; sleep 0.2\"; "
        f"sleep 0.1; done'")


@pytest.fixture
def ticking(brewing: Fleet) -> Iterator[Fleet]:
    """A timer on each host, which somebody has stopped on web2, like its workers; and cron."""
    for host in brewing.web:
        for kind, text in TIDY.items():
            brewing.on(host, f"printf %s {quote(text)} >/etc/systemd/system/tidy.{kind}")
        brewing.on(host, f"systemctl daemon-reload; systemctl start tidy.timer; {CRON}")
    with_workers(brewing, timers={"units": ["tidy.timer"]})
    brewing.fab("hosts.setup", check=0)
    brewing.on("web2", "systemctl stop tidy.timer 'shop-worker-main@*'")
    yield brewing
    for host in brewing.web:
        brewing.on(host, "systemctl stop jobs.service tidy.timer; rm -f /etc/systemd/system/tidy.* "
                         "/tmp/tidied /tmp/jobs-done; systemctl daemon-reload")
    with_workers(brewing)


def done_by_the_clock(fleet: Fleet, host: str) -> tuple[int, int]:
    """(runs of the timer's service, runs of cron's job)."""
    tidied, jobs = fleet.on(host, "cat /tmp/tidied | wc -l; cat /tmp/jobs-done | wc -l").split()
    return int(tidied), int(jobs)


def all_is_as_it_was(fleet: Fleet) -> None:
    release = current(fleet)
    wait_for("exactly those workers that were on", lambda: [
        working(fleet, host) for host in fleet.web
    ] == [{release: "active"}, {}, {release: "active"}])
    assert len(fleet.services("web3", BEAT_RUNS)) == 1
    assert [fleet.on(host, "systemctl is-active tidy.timer || true").strip()
            for host in fleet.web] == ["active", "inactive", "active"]
    before = {host: done_by_the_clock(fleet, host) for host in fleet.web}

    def went_on() -> list[tuple[bool, bool]]:
        now = {host: done_by_the_clock(fleet, host) for host in fleet.web}
        return [(now[host][0] > before[host][0], now[host][1] > before[host][1]) for host in now]

    wait_for("timers and jobs go on", lambda: went_on() == [(True, True), (False, True),
                                                            (True, True)])


def nothing_ticks(fleet: Fleet) -> None:
    """Looked at again and again while the migration waits."""
    first = {host: done_by_the_clock(fleet, host) for host in fleet.web}
    with schedulers_counted(fleet) as seen:
        wait_for("it was looked at", lambda: seen[0] >= 30)
    assert set(seen) == {0}
    assert {host: done_by_the_clock(fleet, host) for host in fleet.web} == first
    assert [working(fleet, host) for host in fleet.web] == [{}] * 3


@pytest.mark.timeout(300)
def test_around_a_maintenance_all_is_off_and_exactly_what_was_on_is_on_again(
    ticking: Fleet
) -> None:
    """Also where the run dies in the midst, and goes on."""
    gate = {**NEXT, "catalog/migrations/0006_gate.py": GATE}
    ticking.commit("gate11", gate, parent="v11")
    risk = "--accept-risk=catalog.0006_gate"
    deploy = ticking.begin("deploy", "--ref=gate11", "--maintenance", risk, at="stage/migrate")
    wait_for("the migration runs", ticking.at_gate, 60)
    nothing_ticks(ticking)
    deploy.kill()
    deploy.wait()
    again = ticking.start("deploy", "--ref=gate11", "--maintenance", risk)
    nothing_ticks(ticking)
    ticking.open_gate()
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, out + err
    assert ticking.at_gate().count("gate: waiting") == 1
    all_is_as_it_was(ticking)


@pytest.mark.timeout(300)
def test_after_a_maintenance_that_failed_exactly_what_was_on_is_on_again(ticking: Fleet) -> None:
    files = {"catalog/migrations/0006_fails.py": FAILS}
    ticking.commit("fails11", files, parent="v11")
    ticking.fab("deploy", "--ref=fails11", "--maintenance", "--accept-risk=catalog.0006_fails",
                check=1)
    all_is_as_it_was(ticking)


@pytest.mark.timeout(300)
def test_a_job_that_does_not_end_keeps_everything_as_it_is(ticking: Fleet) -> None:
    with_workers(ticking, timers={"units": ["tidy.timer"], "deadline": 1})
    ticking.on("web1", f"systemd-run -q --collect --unit=long runuser -u shop -- python3 -I "
                       f"{ROOT}/.fabfleet/launch.py --job -- sleep 300")
    ticking.commit("v12", NEXT, parent="v11")
    failed = ticking.fab("deploy", "--ref=v12", "--maintenance", check=1)
    assert "a job of cron (launch.py --job): still running after 1 s" in failed.stderr
    ticking.on("web1", "systemctl stop long.service")
    all_is_as_it_was(ticking)
