"""Whether the code that is there may be started again after a run that is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from fabfile import agreement
from fabfile.environment import Environment
from fabfile.errors import Failed
from fabfile.session import Session
from fabfile.strategies.targets import Fleet
from roles.maintenance import Closed
from roles.migrations import Judged
from roles.role import Target
from tests.fabfile.fleets import OLD, UNIT, make_fleet, ready

ALL = ("web1", "web2", "web3")
BY_RUN = Closed(1.0, "Release x", "eve@desk", by_run=True)
BY_HAND = replace(BY_RUN, by_run=False)


def fleet_of(prod: Environment, closed: Closed | None = None, *, serving: bool = True,
             back: bool = False) -> Fleet:
    made = [ready(host) if serving else ready(host, services={UNIT: "inactive"}, running=())
            for host in ALL]
    return replace(make_fleet(prod, *made), closed=closed, back=back)


class Asked:
    """What Django says of the release that is there."""

    def __init__(self, **plan: Any) -> None:
        self.plan: dict[str, Any] = {"ahead": [], "pending": [], **plan}
        self.releases: list[str] = []

    def __call__(self, _transport: object, target: Target) -> Judged:
        self.releases.append(target.release.id)
        return Judged({"default": self.plan})


def settled(monkeypatch: pytest.MonkeyPatch, fleet: Fleet, asked: Any) -> tuple[bool, bool]:
    monkeypatch.setattr(agreement, "ask_plan", asked)

    class Nobody:
        transport = None

    found = agreement.settled(cast(Session, Nobody()), fleet)
    return found.left, found.outgrown


@pytest.mark.parametrize("closed", [None, BY_HAND])
def test_where_somebody_serves_nobody_is_asked(
    prod: Environment, monkeypatch: pytest.MonkeyPatch, closed: Closed | None
) -> None:
    asked = Asked(ahead=["shop.0002_stock"])
    assert settled(monkeypatch, fleet_of(prod, closed), asked) == (False, False)
    assert asked.releases == []


@pytest.mark.parametrize(("closed", "serving"), [(BY_RUN, True), (BY_RUN, False), (None, False)])
def test_where_a_run_has_left_it_the_code_that_is_there_is_asked(
    prod: Environment, monkeypatch: pytest.MonkeyPatch, closed: Closed | None, serving: bool
) -> None:
    fleet = fleet_of(prod, closed, serving=serving)
    asked = Asked()
    assert settled(monkeypatch, fleet, asked) == (True, False)
    assert asked.releases == [OLD]
    moved = Asked(ahead=["shop.0002_stock"])
    assert settled(monkeypatch, fleet, moved) == (True, True)


def test_on_the_way_back_it_may_lack_what_it_needs(
    prod: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits until no older code runs, it does not need."""
    for phase, outgrown in (("before", True), ("offline", True), ("after", False)):
        asked = Asked(pending=[{"migration": "shop.0002_stock", "phase": phase}])
        assert settled(monkeypatch, fleet_of(prod, BY_RUN, back=True), asked) == (True, outgrown)
        assert settled(monkeypatch, fleet_of(prod, BY_RUN), asked) == (True, False)


def test_where_nobody_can_tell_it_is_not_started(
    prod: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Judged:
        raise Failed("no module named shop")

    assert settled(monkeypatch, fleet_of(prod, BY_RUN), fails) == (True, True)
    gone = fleet_of(prod, BY_RUN)
    gone = replace(gone, migration=replace(
        gone.migration, facts=replace(gone.migration.facts, releases=())))
    assert settled(monkeypatch, gone, Asked()) == (True, True)
