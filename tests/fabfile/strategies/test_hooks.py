"""The user's own commands, in each place that a strategy has for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fabfile.environment import open_environment
from fabfile.errors import InventoryError
from fabfile.plan import Plan
from fabfile.strategies import rolling, staging, together
from fabfile.strategies.targets import Fleet
from roles.command import OnController
from tests.fabfile.fleets import NEW, live, make_fleet, open_fleet
from tests.fabfile.strategies.outline import names, outline, stage_of

MOMENTS = ("stage", "stop", "migrate", "switch", "start", "roll", "turn", "finish")


def fleet_with(folder: Path, pending: bool = True, **hooks: Any) -> Fleet:
    environment = open_fleet(folder, ["web1", "web2"], hooks=hooks)
    return make_fleet(environment, pending=["shop.0002_stock"] if pending else [])


def everywhere(folder: Path) -> Fleet:
    """A hook before and after each moment."""
    return fleet_with(
        folder,
        before={moment: [{"run": f"before {moment}"}] for moment in MOMENTS},
        after={moment: [{"run": f"after {moment}"}] for moment in MOMENTS},
    )


def around(*moments: str) -> list[str]:
    return [name for each in moments for name in (f"before-{each}", each, f"after-{each}")]


def test_around_every_stage(tmp_path: Path) -> None:
    fleet = everywhere(tmp_path)
    assert names(staging.plan(fleet)) == around("stage")
    assert names(rolling.plan(fleet)) == around("migrate", "roll", "finish")
    expected = ["stop-tasks", *around("stop", "migrate", "switch", "start"), "timers",
                *around("finish")]
    assert names(together.plan(fleet)) == expected


def test_around_the_turn_of_each_host(tmp_path: Path) -> None:
    turns = stage_of(rolling.plan(everywhere(tmp_path)), "roll").turns
    inner = ["release.switch", "wsgi.restart", "wsgi.health"]
    for number, turn in enumerate(turns, 1):
        assert [step.name for step in turn.steps] == ["hook before turn", *inner, "hook after turn"]
        (action,) = turn.steps[0].actions
        assert isinstance(action, OnController)
        assert action.environment["FABFLEET_BATCH"] == str(number)
        assert [step.name for step in turn.recover] == inner


def test_a_hook_on_the_controller_is_told_what_goes_on(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, before={"roll": [{"run": "tell it", "timeout": 5}]})
    stage = stage_of(rolling.plan(fleet), "before-roll")
    ((turn,), mode) = stage.turns, stage.mode
    (step,) = turn.steps
    assert (mode, turn.host, step.name, step.timeout) == (
        "once", "controller", "hook before roll", 5
    )
    assert step.actions == (OnController("tell it", {
        "FABFLEET_ENVIRONMENT": "prod", "FABFLEET_RELEASE": NEW, "FABFLEET_DRY_RUN": "0",
        "FABFLEET_HOST": "controller", "FABFLEET_BATCH": "0",
    }),)


def stage_outline(plan: Plan, name: str) -> list[tuple[str, list[str]]]:
    return next(turns for found, _, turns in outline(plan) if found == name)


def test_a_hook_on_each_host_or_on_one(tmp_path: Path) -> None:
    hooks = [{"run": "a", "on": "each"}, {"run": "b", "on": "web2"}]
    plan = rolling.plan(fleet_with(tmp_path, after={"roll": hooks, "turn": hooks}))
    assert stage_outline(plan, "after-roll") == [
        (host, ["hook after roll"]) for host in ("web1", "web2", "web2")
    ]
    first, second = stage_of(plan, "roll").turns
    assert [(step.host, step.name) for step in first.steps[3:]] == [
        ("web1", "hook after turn"), ("web2", "hook after turn")
    ]
    assert [step.host for step in second.steps[3:]] == ["web2", "web2"]


def test_each_means_the_hosts_of_the_stage(tmp_path: Path) -> None:
    fleet = fleet_with(tmp_path, before={"migrate": [{"run": "a", "on": "each"}]})
    assert stage_outline(rolling.plan(fleet), "before-migrate") == [
        ("web1", ["hook before migrate"])
    ]


def test_a_stage_without_work_has_no_hooks(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, ["web1"], hooks={
        "before": {moment: [{"run": "x"}] for moment in MOMENTS}})
    plan = rolling.plan(make_fleet(environment, live("web1")))
    assert names(plan) == ["confirm", "before-finish", "finish"]
    assert staging.plan(make_fleet(environment, live("web1"))).is_empty


def test_a_hook_on_a_host_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as caught:
        fleet_with(tmp_path, before={"roll": [{"run": "a"}, {"run": "b", "on": "web9"}]})
    assert str(caught.value).endswith(
        "hosts.yml: web.vars.hooks.before.roll.1.on: "
        "expected controller, each or one of web1, web2, got 'web9'"
    )


def test_a_moment_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as caught:
        fleet_with(tmp_path, before={"deploy": [{"run": "a"}]})
    assert "hooks.before.deploy" in str(caught.value)
    with pytest.raises(InventoryError):
        open_environment("prod", str(tmp_path))
