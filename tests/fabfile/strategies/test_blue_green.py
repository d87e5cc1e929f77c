from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile.environment import Environment
from fabfile.errors import InventoryError, Refused
from fabfile.plan import Plan
from fabfile.strategies import blue_green, rollback
from fabfile.strategies.targets import Fleet
from roles.role import HostFacts
from tests.fabfile.fleets import arguments, fresh, live, make_fleet, open_fleet, ready
from tests.fabfile.strategies.outline import names, outline, stage_of

GROUPS = {"blue": ["web1", "web2"], "green": ["web3", "web4"]}
ALL = ("web1", "web2", "web3", "web4", "work1")
BLUE, GREEN = frozenset(GROUPS["blue"]), frozenset(GROUPS["green"])
BALANCER: dict[str, Any] = {"driver": "haproxy", "backend": "web"}


def opened(folder: Path, groups: Any = None, **balancer: Any) -> Environment:
    return open_fleet(folder, ALL, proxies=["lb1", "lb2"], groups=groups or GROUPS,
                      own={"work1": {"balancer": {"driver": "none"}}},
                      deploy={"strategy": "blue-green"}, balancer={**BALANCER, **balancer})


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return opened(tmp_path)


def fleet_of(environment: Environment, serving: frozenset[str], *facts: HostFacts,
             pending: tuple[str, ...] = ()) -> Fleet:
    made = make_fleet(environment, *(facts or map(ready, ALL)), pending=pending)
    return replace(made, rotating=serving)


def flips(plan: Plan) -> list[tuple[str, Any, Any]]:
    (turn,) = stage_of(plan, "flip").turns
    told = [(step.host, arguments(step.actions[0])) for step in turn.steps]
    return [(host, each["enter"], each["leave"]) for host, each in told]


@pytest.mark.parametrize(("serving", "waiting"), [(BLUE, "green"), (GREEN, "blue")])
def test_the_group_that_waits_gets_it_at_once_then_the_flip_then_the_others(
    environment: Environment, serving: frozenset[str], waiting: str
) -> None:
    plan = blue_green.plan(fleet_of(environment, serving, pending=("shop.0002",)))
    serves = "blue" if waiting == "green" else "green"
    first, second = GROUPS[waiting]
    assert (plan.name, plan.strategy) == ("release", "blue-green")
    assert outline(plan) == [
        ("migrate", "once", [("web1", ["migrations.apply"])]),
        ("roll", "parallel", [
            (host, ["release.switch", "wsgi.restart", "wsgi.health"]) for host in (first, second)]),
        ("flip", "once", [(first, ["balancer.flip"] * 2)]),
        ("roll", "rolling", [("work1", ["release.switch", "wsgi.restart", "wsgi.health"])]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in (first, second, "work1")]),
    ]
    assert flips(plan) == [(lb, GROUPS[waiting], GROUPS[serves]) for lb in ("lb1", "lb2")]
    back = stage_of(plan, "flip").turns[0].recover
    assert [(step.host, arguments(step.actions[0])["enter"]) for step in back] == [
        ("lb1", GROUPS[serves]), ("lb2", GROUPS[serves])]


def test_a_host_that_fails_goes_back_without_coming_into_rotation(
    environment: Environment
) -> None:
    plan = blue_green.plan(fleet_of(environment, BLUE))
    assert [[step.name for step in turn.recover] for turn in stage_of(plan, "roll").turns] == [
        ["release.switch", "wsgi.restart", "wsgi.health"]] * 2


def test_the_first_time_both_are_in_rotation_and_the_second_is_taken_out(
    environment: Environment
) -> None:
    plan = blue_green.plan(fleet_of(environment, BLUE | GREEN, *map(fresh, ALL)))
    assert names(plan) == ["drain", "roll", "flip", "roll", "finish"]
    assert outline(plan)[0] == (
        "drain", "once", [(host, ["balancer.drain"] * 2) for host in GROUPS["green"]])


def test_back_is_one_flip(environment: Environment) -> None:
    facts = [live("web1"), live("web2"), ready("web3"), ready("web4"), live("work1")]
    plan = rollback.plan(fleet_of(environment, GREEN, *facts))
    assert names(plan) == ["confirm", "flip", "finish"]
    assert flips(plan)[0] == ("lb1", GROUPS["blue"], GROUPS["green"])


def test_nothing_is_flipped_where_all_is_as_it_should_be(environment: Environment) -> None:
    facts = [ready("web1"), ready("web2"), live("web3"), live("web4"), live("work1")]
    fleet = fleet_of(environment, GREEN, *facts)
    assert names(blue_green.plan(fleet)) == ["confirm", "finish"]
    assert [each.name for each in blue_green.behind(fleet)] == GROUPS["blue"]


def test_a_half_done_flip_is_done_again(environment: Environment) -> None:
    """One balancer flipped, the other did not: no host is in rotation everywhere."""
    facts = [ready("web1"), ready("web2"), live("web3"), live("web4"), live("work1")]
    plan = blue_green.plan(fleet_of(environment, frozenset(), *facts))
    assert names(plan) == ["confirm", "flip", "finish"]
    assert flips(plan)[0] == ("lb1", GROUPS["green"], GROUPS["blue"])


def test_what_waits_can_follow(environment: Environment) -> None:
    facts = [ready("web1"), ready("web2"), live("web3"), live("web4"), live("work1")]
    plan = blue_green.follow(fleet_of(environment, GREEN, *facts))
    restart = ["release.switch", "wsgi.restart", "wsgi.health"]
    assert outline(plan) == [
        ("roll", "parallel", [(host, restart) for host in GROUPS["blue"]]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in GROUPS["blue"]]),
    ]


def test_other_strategies_have_nobody_waiting(environment: Environment) -> None:
    fleet = fleet_of(environment, GREEN)
    other = replace(fleet, deploy=fleet.deploy.model_copy(update={"strategy": "rolling"}))
    assert blue_green.behind(other) == ()


def test_a_group_without_hosts_in_this_run_is_refused(environment: Environment) -> None:
    fleet = fleet_of(environment, BLUE)
    only = tuple(each for each in fleet.targets if each.name not in GREEN)
    with pytest.raises(Refused, match="no host of one of them \\(blue and green\\) takes part"):
        blue_green.plan(replace(fleet, targets=only))


@pytest.mark.parametrize(("groups", "balancer", "said"), [
    ({"blue": ["web1"]}, {}, "deploy.blue_green.groups: no host that gets the code is in green;"),
    ({"blue": ["web1"], "green": ["web1"]}, {}, "web1 is in both; a host is either blue or green"),
    (GROUPS, {"driver": "health-file"}, "balancer.driver: expected haproxy or nginx with web1"),
])
def test_an_inventory_that_does_not_fit(
    tmp_path: Path, groups: Any, balancer: Any, said: str
) -> None:
    with pytest.raises(InventoryError) as refused:
        blue_green.check(opened(tmp_path, groups, **balancer))
    assert said in str(refused.value)
