"""What is said of a closed site."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fabfile.display.lines import Lines
from fabfile.engine import closing
from fabfile.engine.fleet import FleetTransport
from fabfile.errors import UsageError
from fabfile.maintenance import _addresses, close, lines, open_again
from fabfile.plan import Stage
from fabfile.session import Session
from roles.maintenance import Closed, MaintenanceSettings, Site
from roles.role import HostFacts
from tests.fabfile.fleets import OLD, UNIT, open_fleet, ready

SITE = Site("shop-prod", MaintenanceSettings(driver="haproxy"), (), "https://shop.test/", "/up")
CLOSED = Closed(time.time() - 65, "new shelves", "eve@desk", by_run=False, secret="5ec3e7")


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_open() -> None:
    assert lines(SITE, None, "prod") == ["https://shop.test/ is open"]


def test_closed_by_hand() -> None:
    found = lines(SITE, CLOSED, "prod")
    assert "by hand of eve@desk: new shelves" in found[0]
    assert found[1:] == [
        "  to look past the page: https://shop.test/?shop_prod_maintenance=5ec3e7",
        "  to open it: fab maintenance.off --env=prod",
    ]


def test_closed_by_a_run_that_is_gone_and_not_everywhere() -> None:
    found = lines(SITE, replace(CLOSED, by_run=True, run="r1", until=moment("2027-01-01 06:00"),
                                everywhere=False), "prod")
    assert "by run r1 of eve@desk" in found[0]
    assert found[1] == "  expected to be open by 2027-01-01 06:00 UTC"
    assert found[2].startswith("  NOT ALL hosts in front show the page")
    assert found[-1] == ("    as it is: fab start --env=prod, look past the page, then "
                         "fab maintenance.off --env=prod")


def test_closed_by_a_rollback_that_is_gone() -> None:
    """To go back once more would lead to the newer code, on a database that lacks what it needs."""
    found = lines(SITE, replace(CLOSED, by_run=True, reason="Back to release r1"), "prod")
    assert found[-3:-1] == [
        "    go on:    the same rollback once more, fab rollback --env=prod --reverse "
        "--maintenance --to=r1",
        "    go forth: the newer release again, fab deploy --env=prod --maintenance --ref=..."]


@pytest.mark.parametrize(("text", "expected"), [
    ("192.0.2.7, 2001:DB8:0:0::1", ("192.0.2.7", "2001:db8::1")),
    ("198.51.100.0/24,2001:DB8:0::/48", ("198.51.100.0/24", "2001:db8::/48")), ("", ()),
])
def test_addresses_as_servers_compare_them(text: str, expected: tuple[str, ...]) -> None:
    assert _addresses(text) == expected


@pytest.mark.parametrize(("driver", "refused"), [("haproxy", False), ("nginx", True),
                                                 ("apache", True), ("stand-in", True)])
def test_networks_only_where_they_would_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, refused: bool
) -> None:
    environment = open_fleet(tmp_path, ("web1",), proxies=["lb1"], maintenance={"driver": driver},
                             app={"name": "shop", "urls": ["https://shop.test/"]})

    @contextmanager
    def connected(*_: Any) -> Iterator[Session]:
        yield Session(environment, environment.hosts, FleetTransport((), "prod"),
                      Lines(sys.stdout))

    monkeypatch.setattr("fabfile.maintenance.connected", connected)
    monkeypatch.setattr("fabfile.maintenance._run", lambda *_: None)
    monkeypatch.setattr(closing, "look", lambda *_: None)
    with pytest.raises(UsageError, match=r"--allow=") if refused else nullcontext():
        close("prod", "", "disks", "", "198.51.100.0/24", True)


# --- our stand-in ---------------------------------------------------------------------------------


@pytest.fixture
def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Stage]]:
    """What is run of a task, on hosts of which this is known, while no stand-in answers."""
    environment = open_fleet(tmp_path, ("web1",), maintenance={"driver": "stand-in"},
                             app={"name": "shop", "urls": ["https://shop.test/"]})
    ran: list[Stage] = []

    def make(task: Callable[..., None], facts: HostFacts, *words: Any) -> list[Stage]:
        session = Session(environment, environment.hosts, FleetTransport((), "prod"),
                          Lines(sys.stdout))
        session.facts = {"web1": facts}

        @contextmanager
        def connected(*_: Any) -> Iterator[Session]:
            yield session

        monkeypatch.setattr(Session, "probe", lambda _: session.facts)
        monkeypatch.setattr("fabfile.maintenance.connected", connected)
        monkeypatch.setattr("fabfile.maintenance._run", lambda *words: ran.extend(words[2]))
        monkeypatch.setattr(closing, "look", lambda *_: None)
        task("prod", "", *words)
        return ran

    return make


def test_servers_that_a_dead_stand_in_has_left_stopped_are_started(by_hand: Any) -> None:
    found = by_hand(open_again, ready("web1", services={UNIT: "inactive"}, running=()),
                    True)
    assert [step.name for step in found[0].turns[0].steps] == [
        "maintenance.step-aside", "wsgi.start", "wsgi.health"]


def test_servers_that_serve_are_left_alone(by_hand: Any) -> None:
    assert by_hand(open_again, ready("web1", running=(OLD,)), True) == []


def test_where_no_stand_in_can_be_the_server_goes_on(by_hand: Any) -> None:
    found = by_hand(close, ready("web1"), "disks", "", "", True)
    (turn,) = found[0].turns
    assert [step.name for step in turn.steps][-2:] == ["wsgi.stop", "maintenance.stand-in"]
    assert [step.name for step in turn.recover] == [
        "maintenance.step-aside", "wsgi.start", "wsgi.health"]
