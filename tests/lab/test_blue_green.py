"""The strategy blue-green: web3 waits for what web1 and web2 serve, and HAProxy flips."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.lab.fleet import Fleet, wait_for
from tests.lab.load import Load, crowd, visited

BALANCER: dict[str, Any] = {"driver": "haproxy", "backend": "web", "deadline": 20}
BLUE, GREEN = {"web1", "web2"}, {"web3"}


@pytest.fixture
def groups(on_v1: Fleet) -> Iterator[Fleet]:
    """All three on v1 and in rotation; the next deploy takes web3 out for itself."""
    on_v1.write_inventory(balancer=BALANCER, deploy={"strategy": "blue-green"})
    listed = on_v1.inventory / on_v1.env / "hosts.yml"
    hosts = yaml.safe_load(listed.read_text())
    for name, members in (("blue", BLUE), ("green", GREEN)):
        hosts[name] = {"hosts": {host: {} for host in members}}
    listed.write_text(yaml.safe_dump(hosts))
    on_v1.fab("hosts.setup", check=0)
    yield on_v1
    on_v1.write_inventory(balancer=BALANCER)
    on_v1.fab("start", check=0)


def serving(fleet: Fleet) -> set[str]:
    return {str(fleet.answer("proxy1").get("host")) for _ in range(30)}


def flip_seconds(fleet: Fleet) -> float:
    events = [each for each in fleet.journal() if each.get("step") == "balancer.flip"]
    return float(events[-1]["at"] - events[0]["at"])


def until_asked(load: Load, more: int = 50) -> None:
    so_far = load.asked
    wait_for("somebody got an answer", lambda: load.asked > so_far + more)


@pytest.mark.timeout(600)
def test_there_and_back_loses_nothing_and_starts_nothing_anew(groups: Fleet) -> None:
    old, new = groups.current("web1"), groups.release_id("--ref=v2")
    # One slow visitor: two would take both workers of the one host that serves.
    with visited(groups.address["proxy1"], crowd(slow=1)) as load:
        until_asked(load)
        first = groups.fab("deploy", "--ref=v2", check=0)
        assert serving(groups) == GREEN
        assert groups.serving() == {"web1": old, "web2": old, "web3": new}
        assert "web[1-2] wait with the other release" in first.stdout
        there = flip_seconds(groups)
        status = groups.fab("status", check=0).stdout
        assert "web1 waits: the balancer sends it no requests" in status
        again = groups.fab("deploy", "--ref=v2", check=0).stdout
        assert "already served on 1 host" in again
        pids = [groups.pids(host, "gunicorn --bind") for host in groups.web]
        groups.fab("rollback", check=0)
        back = flip_seconds(groups)
        assert serving(groups) == BLUE
        groups.fab("deploy", "--ref=v2", check=0)
        assert serving(groups) == GREEN
        assert [groups.pids(host, "gunicorn --bind") for host in groups.web] == pids
        until_asked(load)
    print(f"{load}; flipped in {there:.2f} s, back in {back:.2f} s")
    assert load.lost == []
    assert set(load.answers) == {old, new}


@pytest.mark.timeout(600)
def test_a_contract_waits_until_the_way_back_is_given_up(groups: Fleet) -> None:
    groups.fab("deploy", "--ref=v2", check=0)
    with visited(groups.address["proxy1"], crowd(quick=4, slow=0)) as load:
        until_asked(load)
        waits = groups.fab("deploy", "--ref=v8", check=4)
        assert "the way back: web3" in waits.stderr
        assert serving(groups) == BLUE
        groups.fab("deploy.finish", check=0)
        until_asked(load)
    assert load.lost == []
    assert len(set(groups.serving().values())) == 1
    assert serving(groups) == BLUE
    assert "nothing is pending" in groups.fab("deploy.finish", check=0).stdout


@pytest.mark.timeout(600)
def test_a_sick_release_is_never_flipped_to(groups: Fleet) -> None:
    old = groups.current("web1")
    with visited(groups.address["proxy1"], crowd(quick=4, slow=0)) as load:
        until_asked(load)
        failed = groups.fab("deploy", "--ref=v4", check=1)
        until_asked(load)
    assert "web3: wsgi.health: not healthy" in failed.stderr
    assert load.lost == []
    assert set(load.answers) == {old}
    assert serving(groups) == BLUE


@pytest.mark.timeout(600)
def test_killed_at_the_flip_the_same_command_finishes(groups: Fleet) -> None:
    new = groups.release_id("--ref=v2")
    process = groups.begin("deploy", "--ref=v2", at="started/balancer.flip/proxy1")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    groups.until_quiet()
    groups.fab("deploy", "--ref=v2", check=0)
    assert serving(groups) == GREEN
    assert groups.serving()["web3"] == new
