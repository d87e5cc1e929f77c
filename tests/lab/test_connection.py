"""Connections break, hosts fall silent, commands are killed: nothing hangs, nothing runs twice,
and nothing counts as done of which nobody knows the end."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.lab.fleet import ROOT, Fleet, wait_for

# The pulse notices a frozen peer after 20 seconds, and a new connection to it fails after 15.
SECONDS_TO_GIVE_UP = 60.0
MIGRATED = ["0004_product_stock", "0005_note_stock", "0006_gate"]


def at_the_gate(fleet: Fleet) -> subprocess.Popen[str]:
    """A deploy whose migration waits for ``open_gate``."""
    fleet.add_gate()
    process = fleet.start("deploy", "--ref=gate")
    wait_for("the migration waits", fleet.at_gate, 60)
    return process


def until_said(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    assert any(text in line for line in process.stdout), text


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and all that it said since."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out + err


def check_migrated_once(fleet: Fleet) -> None:
    """One process ran the migrations, each of them once, and every host serves the release."""
    assert fleet.at_gate() == ["gate: waiting", "gate: passed"]
    assert fleet.migrations()[3:] == MIGRATED
    release = fleet.release_id("--ref=gate")
    assert set(fleet.serving().values()) == {release}
    assert set(fleet.currents().values()) == {release}


# --- in the midst of a migration -----------------------------------------------------------------


def test_sshd_drops_the_connection_during_a_migration(on_v1: Fleet) -> None:
    deploy = at_the_gate(on_v1)
    holder = on_v1.lock_record()["holder"]
    sessions = on_v1.pids("web1", "^sshd: deploy")
    assert sessions
    on_v1.on("web1", f"kill -9 {' '.join(map(str, sessions))}")
    until_said(deploy, "looking for the job again")
    until_said(deploy, "following the job")
    wait_for("the lock is taken anew", lambda: on_v1.lock_record()["holder"] != holder
             and "lost_at" not in on_v1.lock_record())
    assert "that process is alive" in on_v1.fab("deploy", "--ref=gate", check=75).stderr
    on_v1.open_gate()
    code, said = end(deploy)
    assert code == 0, said
    check_migrated_once(on_v1)


@pytest.mark.soak
def test_the_network_of_the_migration_host_is_cut_during_a_migration(on_v1: Fleet) -> None:
    deploy = at_the_gate(on_v1)
    on_v1.lab.cut("web1")
    try:
        until_said(deploy, "looking for the job again")
    finally:
        on_v1.lab.heal("web1")
    until_said(deploy, "following the job")
    on_v1.open_gate()
    code, said = end(deploy)
    assert code == 0, said
    check_migrated_once(on_v1)


def test_the_next_run_follows_the_migration_of_a_dead_one(on_v1: Fleet) -> None:
    dead = at_the_gate(on_v1)
    run = on_v1.journals()[-1].stem
    dead.kill()
    dead.communicate()
    again = on_v1.start("deploy", "--ref=gate")
    until_said(again, f"following the job that run {run} started")
    on_v1.open_gate()
    code, said = end(again)
    assert code == 0, said
    check_migrated_once(on_v1)


# --- silence -------------------------------------------------------------------------------------


def test_a_peer_that_freezes_while_staging_is_named_and_given_up(on_v1: Fleet) -> None:
    old = on_v1.currents()
    on_v1.hold("web2")
    deploy = on_v1.begin("deploy", "--ref=v2", at="started/static.collect/web2")
    wait_for("web2 collects", lambda: on_v1.pids("web2", "^sleep 0.05"))
    started = time.monotonic()
    assert on_v1.lab.freeze_sshd("web2") > 0
    try:
        code, said = end(deploy)
    finally:
        on_v1.lab.thaw_sshd("web2")
    assert time.monotonic() - started < SECONDS_TO_GIVE_UP
    assert code in (1, 69), said
    assert "web2: static.collect: unreachable: gave no sign of life for 15 s" in said
    assert "  web2  did not answer: " in said
    assert f"next: fab deploy --env={on_v1.env} --ref=v2" in said
    assert on_v1.currents() == old
    on_v1.let_go("web2")
    on_v1.fab("deploy", "--ref=v2", check=0)
    assert len(set(on_v1.serving().values())) == 1


@pytest.mark.soak
def test_a_peer_that_freezes_during_the_upload(on_v1: Fleet) -> None:
    """rsync has a way of its own through the connection."""
    deploy = on_v1.begin("deploy", "--ref=v2", at="started/release.upload/web2")
    on_v1.lab.freeze_sshd("web2")
    started = time.monotonic()
    try:
        code, said = end(deploy)
    finally:
        on_v1.lab.thaw_sshd("web2")
    assert time.monotonic() - started < SECONDS_TO_GIVE_UP
    assert code in (1, 69), said
    assert "web2" in said
    assert "gave no sign of life for 15 s" in said
    on_v1.fab("deploy", "--ref=v2", check=0)


def test_hosts_that_cannot_be_reached_are_all_named_before_anything_begins(on_v1: Fleet) -> None:
    known = on_v1.journals()
    before = on_v1.lab.tree_digest("web1", [ROOT])
    for host in ("web2", "web3"):
        on_v1.lab.cut(host)
    try:
        refused = on_v1.fab("deploy", "--ref=v2", check=69)
    finally:
        for host in ("web2", "web3"):
            on_v1.lab.heal(host)
    for host in ("web2", "web3"):
        assert f"{host}: unreachable: deploy@{on_v1.address[host]} port 22: " in refused.stderr
    assert "web1: " not in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert on_v1.lab.tree_digest("web1", [ROOT]) == before
    assert on_v1.journals() == known


# --- killed, and late ----------------------------------------------------------------------------


KILLED = {
    "what sshd started": ("^timeout .*/srv/shop/.fabfleet/busy", "lost"),
    "what that watches": ("^sh .*/srv/shop/.fabfleet/busy", "lost"),
    "the work itself": ("^sh -c mkdir -p .STATIC_ROOT", "failed"),
}


@pytest.mark.parametrize("whom", KILLED)
def test_a_killed_command_is_never_a_success(on_v1: Fleet, whom: str) -> None:
    """What works on behalf of a killed parent may well end as it should, and nobody knows."""
    pattern, outcome = KILLED[whom]
    old = on_v1.currents()
    on_v1.hold("web2")
    deploy = on_v1.begin("deploy", "--ref=v2", at="started/static.collect/web2")
    wait_for("web2 collects", lambda: on_v1.pids("web2", "^sleep 0.05"))
    (victim,) = on_v1.pids("web2", pattern)
    on_v1.on("web2", f"kill -9 {victim}")
    on_v1.let_go("web2")
    code, said = end(deploy)
    assert code == (1 if outcome == "lost" else 3), said
    (event,) = [each for each in on_v1.journal() if each["event"] == "finished"
                and (each["step"], each["host"]) == ("static.collect", "web2")]
    assert event["outcome"] == outcome
    assert on_v1.currents() == old
    on_v1.fab("deploy", "--ref=v2", check=0)


def test_what_a_command_leaves_in_the_background_is_not_waited_for(on_v1: Fleet) -> None:
    hook = {"run": "sleep 300 &", "on": "web2", "timeout": 250}
    on_v1.write_inventory(hooks={"before": {"stage": [hook]}})
    on_v1.fab("deploy", "--ref=v2", check=0, timeout=60)
    (left,) = on_v1.pids("web2", "^sleep 300")
    on_v1.on("web2", f"kill {left}")


@pytest.mark.parametrize("line", ["sleep 300; true", "sudo -n -u shop sleep 300"])
def test_a_step_that_takes_too_long_ends_on_the_host_too(on_v1: Fleet, line: str) -> None:
    """Also where it works as the service's user."""
    hook = {"run": line, "on": "web2", "timeout": 1}
    on_v1.write_inventory(hooks={"before": {"stage": [hook]}})
    late = on_v1.fab("deploy", "--ref=v2", check=1)
    assert "web2: hook before stage: timed out: did not end within 1 s and was stopped" in \
        late.stderr
    wait_for("it is gone", lambda: not on_v1.pids("web2", "^sleep 300"), 10)
