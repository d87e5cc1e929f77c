"""The controller dies, or the migration host does: the site serves, the same command goes on."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.fleet import ROOT, Fleet, wait_for
from tests.lab.kill_at import name

KILL_AT = str(Path(__file__).with_name("kill_at.py"))
V2_MIGRATIONS = ["0001_initial", "0002_auditentry", "0003_first_products", "0004_product_stock",
                 "0005_note_stock"]
# The longest time in which nobody may get an answer through the proxy.
LONGEST_SILENCE = 1.5
LEFTOVERS = (".staging-*", ".gone-*", ".new-*", "*.new", ".current-new")


@dataclass(frozen=True)
class Sample:
    """One question to one server, from ``start`` to ``end`` in seconds."""

    start: float
    end: float
    ok: bool


@dataclass
class Watch:
    """What the web hosts and the proxy answered all the while."""

    hosts: dict[str, list[Sample]] = field(default_factory=dict)
    through_proxy: list[list[Sample]] = field(default_factory=list)

    def together_down(self) -> list[tuple[str, str]]:
        """Pairs of hosts that did not answer at one moment."""
        down = {host: [each for each in samples if not each.ok]
                for host, samples in self.hosts.items()}
        return [(one, other) for one, other in itertools.combinations(down, 2)
                if any(a.start <= b.end and b.start <= a.end
                       for a in down[one] for b in down[other])]

    def silence(self) -> float:
        """The longest time without a 200 through the proxy."""
        samples = [each for client in self.through_proxy for each in client]
        good = [each.end for each in samples if each.ok]
        moments = sorted([min(each.start for each in samples), *good,
                          max(each.end for each in samples)])
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def check(self) -> None:
        assert all(len(samples) > 5 for samples in (*self.hosts.values(), *self.through_proxy))
        assert self.together_down() == []
        assert self.silence() <= LONGEST_SILENCE


def ask(fleet: Fleet, host: str, path: str) -> Sample:
    start = time.monotonic()
    ok = fleet.status_of(host, path) == 200
    return Sample(start, time.monotonic(), ok)


@contextmanager
def watched(fleet: Fleet) -> Iterator[Watch]:
    """The site is asked all the while: each host, and the proxy by three at once."""
    watch = Watch()
    with ExitStack() as stack:
        hosts = {host: stack.enter_context(
            fleet.sampled(partial(ask, fleet, host, "/version"), 0.1)) for host in fleet.web}
        clients = [stack.enter_context(
            fleet.sampled(partial(ask, fleet, "proxy1", "/healthz"), 0.2)) for _ in range(3)]
        yield watch
    watch.hosts = {host: [each for _, each in found] for host, found in hosts.items()}
    watch.through_proxy = [[each for _, each in found] for found in clients]


def leftovers(fleet: Fleet, host: str) -> list[str]:
    """What only a deploy that was cut short leaves behind."""
    names = " -o ".join(f"-name '{each}'" for each in LEFTOVERS)
    return fleet.on(host, f"cd {ROOT} && find . -path './venvs/*/*' -prune -o "
                          f"\\( {names} \\) -print").split()


def check_told(fleet: Fleet, dead: str) -> None:
    """``fab status`` says where every host is, and that the run ``dead`` did not end."""
    before = fleet.currents()
    told = fleet.fab("status", "--json", check=4)
    after = fleet.currents()
    status = json.loads(told.stdout)
    for host in fleet.web:
        assert status["hosts"][host]["current"] in (before[host], after[host])
    assert (status["lock"]["run"], status["lock"]["alive"]) == (dead, False)
    assert f"a run did not end: run {dead} by " in told.stderr


def check_done(fleet: Fleet, release: str, migrations: list[str]) -> None:
    """Everything is as after a deploy that nobody disturbed."""
    assert set(fleet.currents().values()) == {release}
    assert set(fleet.serving().values()) == {release}
    assert fleet.migrations() == migrations
    assert fleet.sql("select count(*) from catalog_product") == [["5"]]
    notes = fleet.sql("select what from catalog_auditentry where what like 'The catalogue%'")
    assert len(notes) == 1
    assert fleet.lock_record() == {}
    fleet.until_quiet()
    assert fleet.everywhere(partial(leftovers, fleet)) == {host: [] for host in fleet.web}


def check_killed_at(fleet: Fleet, where: str, release: str) -> None:
    """Kill a deploy of v2 there; everything promised of that holds."""
    fleet.recall()
    with watched(fleet) as watch:
        dead = fleet.fab(where, "deploy", "--ref=v2", driver=KILL_AT)
        assert dead.returncode == -signal.SIGKILL, dead.stdout + dead.stderr
        run = fleet.journals()[-1].stem
        check_told(fleet, run)
        again = fleet.fab("deploy", "--ref=v2", check=0)
        assert f"taking over from run {run} by " in again.stdout
    watch.check()
    check_done(fleet, release, V2_MIGRATIONS)


def journal_of_v2(fleet: Fleet) -> list[dict[str, Any]]:
    """The journal of a whole deploy from v1 to v2."""
    fleet.recall()
    fleet.fab("deploy", "--ref=v2", check=0)
    return fleet.journal()


@pytest.mark.timeout(900)
def test_killed_at_every_kind_of_boundary(on_v1: Fleet) -> None:
    """Every line of the journal that is about all; of the steps that every host does, by turns the
    start on the first host and the end on the middle one. The soak below takes all of them."""
    events = journal_of_v2(on_v1)
    release = on_v1.current("web1")
    once = Counter(event["step"] for event in events if event["event"] == "started")
    turns = {step: ("started", "web1") if number % 2 else ("finished", "web2")
             for number, step in enumerate(step for step in once if once[step] > 1)}
    wheres = [name(event) for event in events if "step" not in event or once[event["step"]] == 1
              or (event["event"], event["host"]) == turns[event["step"]]]
    print(*wheres, sep="\n")
    assert {"run", "stage/roll", "started/migrations.apply/web1", "ended"} <= {*wheres}
    assert any(where.startswith("started/wsgi.") for where in wheres)
    assert any(where.startswith("finished/wsgi.") for where in wheres)
    for where in wheres:
        check_killed_at(on_v1, where, release)
    assert json.loads(on_v1.fab("lock", "--json", check=0).stdout)["lock"] is None


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_boundary(on_v1: Fleet) -> None:
    events = journal_of_v2(on_v1)
    release = on_v1.current("web1")
    failed = {}
    for number, event in enumerate(events, 1):
        started = time.monotonic()
        try:
            check_killed_at(on_v1, str(number), release)
        except AssertionError as error:
            failed[f"{number} {name(event)}"] = str(error)
        print(f"{number}/{len(events)} {name(event)} {time.monotonic() - started:.1f} s "
              f"{'FAILED' if f'{number} {name(event)}' in failed else 'ok'}", flush=True)
    assert not failed


def die_while_web2_collects(fleet: Fleet) -> str:
    """The run that was killed while a step of it works on web2, held back there."""
    fleet.hold("web2")
    deploy = fleet.start("deploy", "--ref=v2")
    wait_for("web2 collects", lambda: fleet.pids("web2", "^sleep 0.05"))
    deploy.kill()
    deploy.communicate()
    return fleet.journals()[-1].stem


def test_what_a_dead_run_left_working_ends_before_the_next_run_decides(on_v1: Fleet) -> None:
    """The dead run's step on web2 ends while the next run has begun: neither breaks the other."""
    dead = die_while_web2_collects(on_v1)
    again = on_v1.start("deploy", "--ref=v2")
    try:
        wait_for("the next run has begun", lambda: on_v1.journals()[-1].stem != dead
                 and on_v1.journals()[-1].read_text())
    finally:
        on_v1.let_go("web2")
    out, err = again.communicate(timeout=90)
    assert again.returncode == 0, out + err
    assert f"taking over from run {dead}" in out
    check_done(on_v1, on_v1.release_id("--ref=v2"), V2_MIGRATIONS)


def test_another_release_sweeps_up_what_a_dead_run_staged(on_v1: Fleet) -> None:
    """The next run goes elsewhere, so it does not finish what the dead one had begun."""
    die_while_web2_collects(on_v1)
    on_v1.on("web2", "kill -9 $(pgrep -u deploy -f /tmp/hold)")
    on_v1.write_inventory()
    assert [Path(each).parent.name for each in leftovers(on_v1, "web2")] == ["static"]
    on_v1.fab("deploy", "--ref=v1", check=0)
    assert on_v1.everywhere(partial(leftovers, on_v1)) == {host: [] for host in on_v1.web}
    releases = on_v1.everywhere(lambda host: on_v1.on(host, f"ls {ROOT}/releases").split())
    assert releases == {host: [on_v1.current(host)] for host in on_v1.web}


@pytest.mark.timeout(240)
def test_power_cut_in_the_middle_of_a_migration(on_v1: Fleet) -> None:
    on_v1.add_gate()
    deploy = on_v1.start("deploy", "--ref=gate")
    try:
        wait_for("the migration waits", on_v1.at_gate, 60)
        on_v1.lab.kill("web1")
    finally:
        deploy.kill()
        deploy.communicate()
    on_v1.lab.boot("web1")
    on_v1.open_gate()
    # It was no transaction, so nobody knows what it did, and it is not tried again unasked.
    on_v1.fab("deploy", "--ref=gate", check=1)
    assert on_v1.at_gate() == ["gate: waiting"]
    on_v1.fab("deploy", "--ref=gate", "--accept-risk=catalog.0006_gate", check=0)
    assert on_v1.at_gate() == ["gate: waiting", "gate: waiting", "gate: passed"]
    check_done(on_v1, on_v1.release_id("--ref=gate"), [*V2_MIGRATIONS, "0006_gate"])


@pytest.mark.timeout(240)
def test_the_run_itself_outlives_a_power_cut_of_the_migration_host(on_v1: Fleet) -> None:
    on_v1.add_gate()
    deploy = on_v1.start("deploy", "--ref=gate")
    try:
        wait_for("the migration waits", on_v1.at_gate, 60)
        on_v1.lab.kill("web1")
        on_v1.lab.boot("web1")
        on_v1.open_gate()
        out, err = deploy.communicate(timeout=120)
    finally:
        deploy.kill()
    assert deploy.returncode == 1, out + err
    assert "ended, or failed, while it applied catalog.0006_gate" in out
    assert on_v1.at_gate() == ["gate: waiting"]
    assert on_v1.migrations() == V2_MIGRATIONS
    assert len(set(on_v1.serving().values())) == 1
