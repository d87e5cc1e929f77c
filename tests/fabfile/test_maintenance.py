"""What is said of a closed site."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fabfile import typed
from fabfile.display.lines import Lines
from fabfile.engine import closing
from fabfile.engine.fleet import FleetTransport
from fabfile.engine.outcome import Kind, Outcome
from fabfile.errors import Pending, Unavailable, UsageError
from fabfile.maintenance import _addresses, close, lines, open_again, show
from fabfile.plan import Stage
from fabfile.session import Session
from inventories.model import Host
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


def test_closed_by_nobody_knows_whom() -> None:
    found = lines(SITE, Closed(0, "", "", by_run=False), "prod")
    assert found[0] == "https://shop.test/ is closed; since when, by whom and why stands nowhere"
    assert found[-1] == "  to open it: fab maintenance.off --env=prod"


def test_closed_by_a_run_that_is_gone_and_not_everywhere() -> None:
    found = lines(SITE, replace(CLOSED, by_run=True, run="r1", until=moment("2027-01-01 06:00"),
                                everywhere=False), "prod")
    assert "by run r1 of eve@desk" in found[0]
    assert found[1] == "  expected to be open by 2027-01-01 06:00 UTC"
    assert found[2].startswith("  NOT ALL hosts in front show the page")
    assert found[-1] == ("    as it is: fab start --env=prod, look past the page, then "
                         "fab maintenance.off --env=prod")


def test_what_a_person_tells_visitors_of_what_a_run_left_closed() -> None:
    found = lines(SITE, replace(CLOSED, by_run=True, reason="Release r2", told="back at six"),
                  "prod")
    assert found[0].endswith("of eve@desk: Release r2")
    assert found[1] == "  visitors are told: back at six"
    assert "  ways out:" in found


def test_what_a_host_in_front_says_of_it() -> None:
    """Also of what an older Fabfleet has closed there."""
    older = {"since": 1.0, "reason": "Release r2", "who": "eve@desk", "by_run": True, "until": 0,
             "run": "r1", "pass": "5ec3e7"}
    told = {"closed": True, "shown": True, "record": older}
    found = closing._closed([told], 1)
    assert found == Closed(1.0, "Release r2", "eve@desk", by_run=True, run="r1", secret="5ec3e7")
    told["record"] = {**older, "told": "back at six"}
    assert closing._closed([told], 1) == replace(found, told="back at six")


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


def test_its_names_are_those_of_its_addresses(tmp_path: Path) -> None:
    urls = ["https://shop.test/", "https://www.shop.test/"]
    environment = open_fleet(tmp_path, ("web1",), proxies=["lb1"],
                             maintenance={"driver": "haproxy"}, app={"name": "shop", "urls": urls})
    assert environment.site is not None
    assert environment.site.names == ("shop.test", "www.shop.test")


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
    monkeypatch.setattr("fabfile.maintenance._run", lambda *_, **typed: None)
    monkeypatch.setattr(closing, "look", lambda *_: None)
    with pytest.raises(UsageError, match=r"--allow=") if refused else nullcontext():
        close("prod", "", "disks", "", "198.51.100.0/24", True)


# --- one host in front that is dead ---------------------------------------------------------------


class Front:
    """Two hosts in front of the site, of which some are dead."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environment = open_fleet(
            folder, ("web1",), proxies=["lb1", "lb2"], maintenance={"driver": "haproxy"},
            app={"name": "shop", "urls": ["https://shop.test/"]})
        self.dead = {"lb2"}
        self.closed = True
        self.ran: list[dict[str, str]] = []

        @contextmanager
        def connected(*_: Any, **typed: Any) -> Iterator[Session]:
            yield Session(self.environment, self.environment.hosts, FleetTransport((), "prod"),
                          Lines(sys.stdout))

        monkeypatch.setattr("fabfile.maintenance.connected", connected)
        monkeypatch.setattr("fabfile.maintenance._run",
                            lambda *words, **typed: self.ran.append(typed))
        monkeypatch.setattr("fabfile.engine.asking.ask", self.ask)
        monkeypatch.setattr(typed, "again", lambda _: "fab deploy --env=prod --ref=v2")

    def ask(self, transport: Any, host: Host, action: Any, timeout: float) -> Outcome:
        if host.name in self.dead:
            return Outcome(host.name, Kind.UNREACHABLE, message="no route")
        record = {"since": time.time(), "reason": "Release r2", "who": "eve@desk", "by_run": True,
                  "until": 0, "run": "r1", "pass": ""} if self.closed else None
        told = json.dumps({"closed": self.closed, "shown": self.closed, "record": record})
        return Outcome(host.name, Kind.OK, stdout=f"{told}\n")

    def look(self) -> Closed | None:
        return closing.look(FleetTransport((), "prod"), self.environment.site)


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Front:
    return Front(tmp_path, monkeypatch)


@pytest.mark.parametrize("closed", [True, False])
def test_one_that_is_dead_keeps_nobody_from_opening_the_others(front: Front, closed: bool) -> None:
    """Also where those are open: what the dead one would say is not known."""
    front.closed = closed
    open_again("prod", "there", yes=True)
    assert front.ran == [{"inventory": "there"}]


def test_one_that_is_dead_hides_no_way_out(
    front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Pending, match="the site is closed"):
        show("prod", "", as_json=False)
    told = capsys.readouterr().out
    assert "NOT ALL hosts in front show the page" in told
    assert "fab deploy --env=prod --ref=v2" in told
    assert "lb2: cannot be asked whether the site is closed: no route" in told


def test_what_is_open_as_far_as_anybody_says_is_not_ok(
    front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    front.closed = False
    with pytest.raises(Unavailable, match="not all hosts in front have answered"):
        show("prod", "", as_json=False)
    capsys.readouterr()
    with pytest.raises(Unavailable):
        show("prod", "", as_json=True)
    (line,) = json.loads(capsys.readouterr().out)["silent"]
    assert line.startswith("lb2: cannot be asked")


def test_where_all_are_dead_nothing_is_known(front: Front) -> None:
    front.dead = {"lb1", "lb2"}
    with pytest.raises(Unavailable, match="lb1: cannot be asked whether the site is closed"):
        show("prod", "", as_json=False)
    with pytest.raises(Unavailable, match="lb1: cannot be asked whether the site is closed"):
        open_again("prod", "", yes=True)


def test_a_deploy_needs_all_of_them(front: Front) -> None:
    with pytest.raises(Unavailable, match=r"lb2: cannot be asked .*\n.*fab maintenance\.off"):
        front.look()


def test_what_is_typed_again_is_whole(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.dead = set()
    close("prod", "there", "new disks", "2h", "192.0.2.7", True)
    assert front.ran == [{"inventory": "there", "reason": "new disks", "until": "2h",
                          "allow": "192.0.2.7"}]


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
        monkeypatch.setattr("fabfile.maintenance._run",
                            lambda *words, **typed: ran.extend(words[2]))
        monkeypatch.setattr(closing, "look_partly", lambda *_: (None, []))
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
