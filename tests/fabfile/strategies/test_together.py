from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fabfile.environment import Environment
from fabfile.strategies import rolling, together
from tests.fabfile.fleets import arguments, fresh, live, make_fleet, open_fleet, ready, told
from tests.fabfile.strategies.outline import names, outline, stage_of

ALL = ("web1", "web2", "web3")


def test_stop_all_migrate_switch_all_start_one_at_a_time(prod: Environment) -> None:
    plan = together.plan(make_fleet(prod, pending=["shop.0002_stock"]))
    assert (plan.name, plan.strategy) == ("release", "together")
    assert outline(plan) == [
        ("stop-tasks", "parallel", [(host, ["timers.pause"]) for host in ALL]),
        ("stop", "parallel", [(host, ["wsgi.stop"]) for host in ALL]),
        ("migrate", "once", [("web1", ["migrations.apply"])]),
        ("switch", "parallel", [(host, ["release.switch"]) for host in ALL]),
        ("start", "rolling", [(host, ["wsgi.start", "wsgi.health"]) for host in ALL]),
        ("timers", "parallel", [(host, ["timers.resume"]) for host in ALL]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in ALL]),
    ]
    assert [len(stage.batches) for stage in plan.stages] == [1, 1, 1, 1, 3, 1, 1]


def test_without_migrations_the_rest_is_the_same(prod: Environment) -> None:
    assert names(together.plan(make_fleet(prod))) == [
        "stop-tasks", "stop", "switch", "start", "timers", "finish"]


def test_all_serve_again_where_migrating_fails(prod: Environment) -> None:
    fleet = make_fleet(prod, *map(ready, ALL), pending=["shop.0002_stock"])
    (turn,) = stage_of(together.plan(fleet), "migrate").turns
    assert [(step.name, step.host, step.if_well) for step in turn.recover] == [
        ("migrations.untouched", "web1", False),
        *((name, host, True) for host in ALL
          for name in ("wsgi.start", "wsgi.health", "timers.resume")),
    ]
    (asked,) = turn.recover[0].actions
    assert arguments(asked) == {"env": {}, "only": {"default": ["shop.0002_stock"]}, "back": False}


def test_after_the_migrations_a_hook_has_no_way_back(tmp_path: Path) -> None:
    """Or it could be too late for it, with all stopped and the database changed."""
    hooks = {"before": {"migrate": [{"run": "b", "on": "controller"}]},
             "after": {"migrate": [{"run": "a", "on": "controller"}]}}
    environment = open_fleet(tmp_path, ALL, hooks=hooks)
    fleet = make_fleet(environment, *map(ready, ALL), pending=["shop.0002_stock"])
    plan = together.plan(fleet)
    back = {stage.name: bool(stage.turns[0].recover) for stage in plan.stages
            if "migrate" in stage.name}
    assert back == {"before-migrate": True, "migrate": True, "after-migrate": False}


def test_a_first_deploy_has_nothing_to_serve_again(prod: Environment) -> None:
    plan = together.plan(make_fleet(prod, *map(fresh, ALL), pending=["shop.0002_stock"]))
    back = stage_of(plan, "migrate").turns[0].recover
    assert {step.name for step in back} == {"migrations.untouched", "timers.resume"}


def test_nobody_is_put_back_once_the_database_has_moved(prod: Environment) -> None:
    plan = together.plan(make_fleet(prod, *map(ready, ALL), pending=["shop.0002_stock"]))
    others = [stage for stage in plan.stages if stage.name != "migrate"]
    assert [turn.recover for stage in others for turn in stage.turns] == [()] * 18


def test_all_hosts_stop_even_those_that_serve_it(prod: Environment) -> None:
    plan = together.plan(make_fleet(prod, live("web1"), ready("web2"), live("web3")))
    assert told(step for turn in stage_of(plan, "stop").turns for step in turn.steps) == [
        "wsgi.stop: sudo -n /usr/bin/systemctl stop shop-wsgi.service"
    ] * 3


def test_nothing_stops_where_all_is_served_already(prod: Environment) -> None:
    fleet = make_fleet(prod, *map(live, ALL))
    assert together.plan(fleet) == rolling.plan(fleet)
    assert names(together.plan(fleet)) == ["confirm", "finish"]


def test_pending_migrations_stop_all_even_where_all_is_served(prod: Environment) -> None:
    plan = together.plan(make_fleet(prod, *map(live, ALL), pending=["shop.0002_stock"]))
    assert names(plan) == ["stop-tasks", "stop", "migrate", "switch", "start", "timers", "finish"]


def test_all_go_back_when_the_first_does_not_start(prod: Environment) -> None:
    plan = together.plan(make_fleet(prod, *map(ready, ALL)))
    (start,) = [stage for stage in plan.stages if stage.name == "start"]
    names = [[(step.host, step.name) for step in turn.recover] for turn in start.turns]
    one = ["release.switch", "wsgi.restart", "wsgi.health", "timers.resume"]
    hosts = [turn.host for turn in start.turns]
    assert names[0] == [(host, name) for host in hosts for name in one]
    assert names[1:] == [[(host, name) for name in one] for host in hosts[1:]]


def test_before_any_start_all_go_back_from_the_switch(prod: Environment) -> None:
    plan = together.plan(make_fleet(prod, *map(ready, ALL)))
    resume = stage_of(plan, "switch").resume
    assert [step.name for step in resume or ()] == [
        "release.switch", "wsgi.restart", "wsgi.health", "timers.resume"] * 3
    assert stage_of(plan, "start").resume == ()
    moved = together.plan(make_fleet(prod, *map(ready, ALL), pending=["shop.0002_stock"]))
    assert stage_of(moved, "switch").resume == ()


def test_code_that_the_database_has_outgrown_is_never_started_again(prod: Environment) -> None:
    """A run that is gone has migrated, and this one fails at whatever."""
    for pending in ([], ["shop.0003_more"]):
        fleet = replace(make_fleet(prod, *map(ready, ALL), pending=pending), left=True,
                        outgrown=True)
        plan = together.plan(fleet)
        assert {stage.resume for stage in plan.stages} <= {(), None}
        assert {turn.recover for stage in plan.stages for turn in stage.turns} == {()}


def test_where_an_earlier_run_may_have_migrated_in_part_that_is_looked_at_first(
    prod: Environment
) -> None:
    fleet = make_fleet(prod, *map(ready, ALL), pending=["shop.0002_stock"])
    for left in (False, True):
        resume = stage_of(together.plan(replace(fleet, left=left)), "stop").resume or ()
        assert ("migrations.untouched" in [step.name for step in resume]) is left
        assert {step.if_well for step in resume[1:]} == {left}
