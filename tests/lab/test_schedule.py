"""Deploys that begin by themselves, started by the systemd of a host of the lab."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from shlex import quote

import pytest

from tests.lab.desk import NAME, Desk
from tests.lab.fleet import GATE, Fleet, wait_for

HAPROXY = {"balancer": {"driver": "haproxy", "backend": "web", "deadline": 20},
           "maintenance": {"driver": "haproxy"}}


@pytest.fixture(scope="module")
def ready(desk: Desk) -> Desk:
    fleet = desk.fleet
    fleet.reset()
    fleet.write_inventory(**HAPROXY)
    fleet.fab("hosts.setup", check=0)
    fleet.fab("deploy", "--ref=v1", check=0)
    fleet.remember()
    desk.furnish(**HAPROXY)
    return desk


@pytest.fixture
def working(ready: Desk) -> Iterator[Desk]:
    """On v1, with nothing scheduled and nobody told of anything."""
    ready.fleet.recall()
    ready.fleet.write_inventory(**HAPROXY)
    ready.on("rm -rf /opt/desk/state; truncate -s 0 /opt/desk/notices")
    yield ready
    ready.fleet.end_started()
    ready.on(f"sed -i '/^hooks: /d' {ready.settings}")
    for name in {line.rpartition(".")[0] for line in ready.timers().split()}:
        ready.on(f"systemctl disable -q --now {name}.timer; rm /etc/systemd/system/{name}.*; "
                 f"systemctl daemon-reload")


def is_closed(fleet: Fleet) -> bool:
    return fleet.status_of("proxy1", "/version") == 503


@pytest.mark.timeout(300)
def test_it_runs_once_and_a_reboot_changes_nothing(working: Desk) -> None:
    fleet = working.fleet
    new = fleet.release_id("--ref=v2")
    name = working.schedule("--ref=v2")
    assert working.record(name)["release"] == new
    assert fleet.currents() != dict.fromkeys(fleet.web, new)
    assert working.on(f"systemctl is-enabled fabfleet-{name}.timer").strip() == "enabled"
    working.move(name)
    found = working.until(name, "finished", "failed", "skipped")
    assert found["state"] == "finished", found["why"]
    assert set(fleet.serving().values()) == {new}
    assert not is_closed(fleet)
    assert working.notices() == [("deploy", "started"), ("deploy", "finished")]
    assert working.timers() == ""
    assert "closed for " in working.on(f"cat /opt/desk/state/scheduled/{name}.log")
    fleet.lab.reboot(NAME)
    working.python("fabfile.unattended", "run", name)
    assert working.runs() == 1


@pytest.mark.timeout(300)
def test_where_the_machine_goes_down_in_the_midst_it_is_not_begun_again(working: Desk) -> None:
    """The migration goes on by itself; the site stays closed until somebody goes on."""
    fleet = working.fleet
    fleet.commit("gated", {"catalog/migrations/0006_gate.py": GATE}, parent="v2")
    working.update_site()
    name = working.schedule("--ref=gated", "--accept-risk=catalog.0006_gate")
    working.move(name)
    wait_for("the migration runs", fleet.at_gate, 60)
    fleet.lab.kill(NAME)
    fleet.open_gate()
    fleet.lab.boot(NAME)
    found = working.until(name, "interrupted", "finished")
    assert found["state"] == "interrupted"
    assert "it is not begun again by itself" in found["why"]
    assert working.notices()[-1] == ("scheduled deploy", "failed")
    assert working.timers() == ""
    assert working.runs() == 1
    assert is_closed(fleet)
    assert "by run " in working.fab("maintenance.status", check=4).stdout
    again = working.fab("deploy", "--ref=gated", "--maintenance",
                        "--accept-risk=catalog.0006_gate")
    assert "closed for " in again.stdout
    assert not is_closed(fleet)
    assert fleet.at_gate().count("gate: waiting") == 1


@pytest.mark.timeout(300)
def test_what_was_due_while_the_machine_was_off_begins_when_it_is_on_again(working: Desk) -> None:
    """As long as it is not too late."""
    fleet = working.fleet
    new = fleet.release_id("--ref=v2")
    name = working.schedule("--ref=v2")
    working.move(name, seconds=5)
    fleet.lab.kill(NAME)
    assert set(fleet.currents().values()) != {new}
    fleet.lab.boot(NAME)
    found = working.until(name, "finished", "failed", "skipped")
    assert found["state"] == "finished", found["why"]
    assert set(fleet.serving().values()) == {new}
    assert working.runs() == 1


def somebody_deploys(desk: Desk) -> None:
    process = desk.fleet.begin("deploy", "--ref=v3", at="stage/stage")
    process.send_signal(signal.SIGSTOP)


def somebody_has_deployed(desk: Desk) -> None:
    desk.fleet.commit("other", {"docs/other.txt": "Another\n"}, parent="v1")
    desk.fleet.fab("deploy", "--ref=other", check=0)


def other_hooks(desk: Desk) -> None:
    hooks = "hooks: {before: {stage: [{run: touch /opt/desk/hooked}]}}"
    desk.on(f"echo {quote(hooks)} >>{desk.settings}")


def frozen(desk: Desk) -> None:
    desk.fleet.fab("lock", "--reason=the sale", check=0)


def nothing(desk: Desk) -> None:
    pass


SKIPS: dict[str, tuple[Callable[[Desk], None], float, str]] = {
    "lock held": (somebody_deploys, 600, "run "),
    "frozen": (frozen, 600, "the sale"),
    "another plan": (somebody_has_deployed, 600, "the plan is another one than what was approved"),
    "other hooks": (other_hooks, 600, "are others than what was approved"),
    "too late": (nothing, -1, "it was to begin by "),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", SKIPS)
def test_it_is_skipped_and_somebody_is_told(working: Desk, case: str) -> None:
    prepare, latest, why = SKIPS[case]
    fleet = working.fleet
    name = working.schedule("--ref=v2")
    prepare(working)
    before = fleet.currents()
    working.move(name, latest=latest)
    found = working.until(name, "finished", "failed", "skipped")
    assert found["state"] == "skipped", found["why"]
    assert why in found["why"]
    assert working.notices()[-1][1] == "skipped"
    assert fleet.currents() == before
    assert "hooked" not in working.on("ls /opt/desk")
    assert working.timers() == ""
    assert not is_closed(fleet)
    shown = working.fab("maintenance.scheduled").stdout
    assert f"{name}: skipped: " in shown
    assert why in shown


@pytest.mark.timeout(300)
def test_a_host_that_is_down_is_a_reason_to_skip(working: Desk) -> None:
    fleet = working.fleet
    name = working.schedule("--ref=v2")
    fleet.lab.kill("web2")
    try:
        working.move(name)
        found = working.until(name, "finished", "failed", "skipped", seconds=200)
    finally:
        fleet.lab.boot("web2")
    assert (found["state"], "web2: unreachable" in found["why"]) == ("skipped", True)
    assert working.notices() == [("scheduled deploy", "skipped")]


@pytest.mark.timeout(300)
def test_cancelled_it_never_runs(working: Desk) -> None:
    name = working.schedule("--ref=v2")
    working.fab("maintenance.cancel", f"--id={name}")
    assert working.timers() == ""
    assert working.record(name)["state"] == "cancelled"
    working.python("fabfile.unattended", "run", name)
    assert working.runs() == 0
    working.fab("maintenance.cancel", f"--id={name}", check=2)


@pytest.mark.timeout(300)
def test_what_could_not_run_by_itself_is_not_scheduled(working: Desk) -> None:
    """A secret that only this terminal has, for example."""
    working.on("mv /opt/desk/key /opt/desk/elsewhere")
    try:
        refused = working.fab("maintenance.schedule", "--at=90m", "--ref=v2", check=3)
    finally:
        working.on("mv /opt/desk/elsewhere /opt/desk/key")
    assert "this is what a rehearsal met that has nothing of your terminal" in refused.stderr
    assert "nothing was scheduled" in refused.stderr
    assert working.scheduled() == []
    assert working.timers() == ""
