"""Whoever the inventory names hears of a run; whoever does not listen delays nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fabfile.engine.post import PAUSE, TRIES
from fabfile.status_page import BEGUN, GOES_ON, LONGER, OVER, TO_COME
from tests.lab.fleet import Fleet
from tests.notifications.statuspage import COMPONENTS, PAGE, TOKEN, statuspage
from tests.notifications.test_sending import SECRET, Service

# Seconds in which a process gives its lock back and ends, on a busy machine too.
LEEWAY = 8


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Service, Service]]:
    """One that listens, and one that takes half a minute."""
    good, slow = Service(200), Service(200, seconds=30)
    monkeypatch.setenv("HOOK", good.address)
    monkeypatch.setenv("SLACK", slow.address)
    monkeypatch.setenv("KEY", "k3y-of-the-hook")
    yield good, slow
    for each in (good, slow):
        each.server.close()


def notify(fleet: Fleet, **services: Any) -> None:
    fleet.write_inventory(notifications={
        "timeout": 1, "webhook": {"url": {"env": "HOOK"}, "key": {"env": "KEY"}}, **services})


def test_who_listens_hears_of_the_beginning_and_the_end(
    on_v1: Fleet, listening: tuple[Service, Service]
) -> None:
    good, _ = listening
    notify(on_v1)
    new = on_v1.release_id("--ref=v2")
    on_v1.fab("deploy", "--ref=v2", check=0)
    failed = on_v1.fab("deploy", "--ref=v4", check=1)
    on_v1.fab("rollback", check=0)
    told = [json.loads(body) for body in good.bodies]
    assert [(each["task"], each["kind"]) for each in told] == [
        ("deploy", "started"), ("deploy", "finished"), ("deploy", "started"), ("deploy", "failed"),
        ("rollback", "started"), ("rollback", "finished")]
    assert told[1]["release"] == new
    assert (told[1]["hosts"], told[1]["mode"], told[1]["ref"]) == (3, "rolling", "v2")
    assert told[3]["detail"].startswith("web1: wsgi.health: not healthy")
    assert told[3]["next"] == f"fab deploy --env={on_v1.env} --ref=v4"
    everything = failed.stdout + failed.stderr + "".join(
        path.read_text() for path in on_v1.journals())
    for secret in (SECRET, "k3y-of-the-hook"):
        assert secret not in everything


def test_who_is_slow_dead_or_missing_is_only_noted(
    on_v1: Fleet, listening: tuple[Service, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    notify(on_v1, slack={"url": {"env": "SLACK"}}, email={
        "server": "127.0.0.1", "port": 9, "sender": "a@x.test", "to": ["b@x.test"]})
    done = on_v1.fab("deploy", "--ref=v2", check=0)
    late = time.time() - on_v1.journal()[-1]["at"]
    print(f"over {late:.1f} s after the run")
    assert late < TRIES * 1 + PAUSE + LEEWAY
    assert "notifications: " in done.stdout
    assert SECRET not in done.stdout + done.stderr
    monkeypatch.delenv("SLACK")
    again = on_v1.fab("deploy", "--ref=v2", check=0)
    assert "notifications: secret env:SLACK: this environment variable is not set" in again.stdout


@pytest.mark.timeout(600)
def test_a_status_page_shows_a_maintenance_until_the_site_is_open(
    on_v1: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v7 leaves the site closed; v2 opens it."""
    monkeypatch.setenv("STATUSPAGE_TOKEN", TOKEN)
    with statuspage() as page:
        on_v1.write_inventory(
            balancer={"driver": "haproxy", "backend": "web", "deadline": 20},
            maintenance={"driver": "haproxy"},
            notifications={"statuspage": {
                "page": PAGE, "token": {"env": "STATUSPAGE_TOKEN"}, "url": page.url,
                "components": list(COMPONENTS)}})
        on_v1.fab("hosts.setup", check=0)
        held = on_v1.fab("deploy", "--ref=v7", "--maintenance",
                         "--accept-risk=catalog.0006_prices_in_cents", check=1)
        begun = [("scheduled", TO_COME), ("in_progress", BEGUN), ("in_progress", LONGER)]
        assert page.told() == begun
        assert set(page.states.values()) == {"under_maintenance"}
        opened = on_v1.fab("deploy", "--ref=v2", "--maintenance", check=0, timeout=300)
        assert page.told() == [*begun, ("in_progress", GOES_ON), ("completed", OVER)]
        assert set(page.states.values()) == {"operational"}
        on_v1.fab("deploy", "--ref=v2", check=0)
        assert len(page.asked) == 5
    everything = held.stdout + held.stderr + opened.stdout + opened.stderr + "".join(
        path.read_text() for path in on_v1.journals())
    assert TOKEN not in everything
