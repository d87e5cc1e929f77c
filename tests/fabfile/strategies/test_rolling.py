from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile.environment import Environment
from fabfile.strategies import rolling
from fabfile.strategies.targets import Fleet
from roles.migrations import Portion
from tests.fabfile.fleets import (
    NEW,
    OLD,
    arguments,
    fresh,
    live,
    make_fleet,
    open_fleet,
    ready,
    told,
)
from tests.fabfile.strategies.outline import hosts, names, outline, stage_of

TURN = ["release.switch", "wsgi.restart", "wsgi.health"]


def test_migrate_once_then_one_host_at_a_time_the_first_is_the_canary(prod: Environment) -> None:
    plan = rolling.plan(make_fleet(prod, pending=["shop.0002_stock"]))
    assert (plan.name, plan.strategy, plan.environment, plan.release) == (
        "release", "rolling", "prod", NEW
    )
    assert outline(plan) == [
        ("migrate", "once", [("web1", ["migrations.apply"])]),
        ("roll", "rolling", [("web1", TURN), ("web2", TURN), ("web3", TURN)]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in ("web1", "web2", "web3")]),
    ]
    assert [len(batch) for batch in stage_of(plan, "roll").batches] == [1, 1, 1]


def test_nothing_pending_nothing_migrated(prod: Environment) -> None:
    assert names(rolling.plan(make_fleet(prod))) == ["roll", "finish"]


def test_a_host_that_fails_is_put_back_on_what_it_had(prod: Environment) -> None:
    fleet = make_fleet(prod, ready("web1"), ready("web2", current="older", releases=("older",)),
                       ready("web3"))
    first, second, _ = stage_of(rolling.plan(fleet), "roll").turns
    assert told(first.recover)[:2] == [
        f"release.switch: test -d /srv/shop/releases/{OLD} && "
        f"ln -sfn releases/{OLD} /srv/shop/.current-new && "
        "mv -T /srv/shop/.current-new /srv/shop/current",
        "wsgi.restart: sudo -n /usr/bin/systemctl restart shop-wsgi.service",
    ]
    assert [step.name for step in first.recover] == TURN
    assert arguments(first.steps[-1].actions[0])["release"] == NEW
    assert arguments(first.recover[-1].actions[0])["release"] == OLD
    assert arguments(second.recover[-1].actions[0])["release"] == "older"


def test_a_first_deploy_that_fails_leaves_nothing_running_and_nothing_current(
    prod: Environment,
) -> None:
    fleet = make_fleet(prod, fresh("web1"), fresh("web2"), fresh("web3"))
    assert told(stage_of(rolling.plan(fleet), "roll").turns[0].recover) == [
        "wsgi.stop: sudo -n /usr/bin/systemctl stop shop-wsgi.service",
        "release.switch: rm -f /srv/shop/current",
    ]


def test_hosts_that_serve_it_already_are_only_asked(prod: Environment) -> None:
    plan = rolling.plan(make_fleet(prod, live("web1"), ready("web2"), live("web3")))
    assert outline(plan) == [
        ("confirm", "parallel", [("web1", ["wsgi.health"]), ("web3", ["wsgi.health"])]),
        ("roll", "rolling", [("web2", TURN)]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in ("web1", "web2", "web3")]),
    ]


def test_a_second_deploy_of_the_same_only_looks(prod: Environment) -> None:
    facts = [live(host, history=({"release": NEW},)) for host in ("web1", "web2", "web3")]
    plan = rolling.plan(make_fleet(prod, *facts))
    assert names(plan) == ["confirm", "finish"]
    assert {arguments(step.actions[0])["record"] for stage, step in plan.steps()
            if stage == "finish"} == {None}


def test_the_migration_host_may_be_outside_of_the_chosen_ones(prod: Environment) -> None:
    plan = rolling.plan(make_fleet(prod, chosen=["web2"], pending=["shop.0002_stock"]))
    assert hosts(plan, "migrate") == ["web1"]
    assert hosts(plan, "roll") == ["web2"]
    assert hosts(plan, "finish") == ["web2"]


def fleet_with(folder: Path, expand: Portion | None = None, **deploy: Any) -> Fleet:
    return replace(make_fleet(open_fleet(folder, deploy=deploy)), expand=expand)


@pytest.mark.parametrize(("batch", "sizes"), [
    (1, [1, 1, 1]), (2, [2, 1]), ("50%", [1, 1, 1]), ("67%", [2, 1]), ("1%", [1, 1, 1]),
    ([1, "100%"], [1, 2]), ("100%", [3]),
])
def test_so_many_at_a_time(tmp_path: Path, batch: Any, sizes: list[int]) -> None:
    roll = stage_of(rolling.plan(fleet_with(tmp_path, batch=batch)), "roll")
    assert [len(each) for each in roll.batches] == sizes


def test_a_canary_is_watched_alone_before_the_others_follow(tmp_path: Path) -> None:
    canary = {"seconds": 20, "command": "./errors --since 1m"}
    roll = stage_of(rolling.plan(fleet_with(tmp_path, batch=3, canary=canary)), "roll")
    assert [len(each) for each in roll.batches] == [1, 2]
    assert [[step.name for step in turn.steps] for turn in roll.turns] == [
        [*TURN, "wsgi.watch", "canary"], TURN, TURN]
    watch, decide = roll.turns[0].steps[-2:]
    assert arguments(watch.actions[0])["watch"] == 20
    assert watch.timeout > 20
    assert decide.host == "controller"
    assert decide.actions[0].shown == "./errors --since 1m"


def test_what_happens_when_hosts_fail(tmp_path: Path) -> None:
    plain = stage_of(rolling.plan(fleet_with(tmp_path)), "roll")
    assert (plain.pause, plain.may_fail, plain.revert) == (0, 0, False)
    settings: Any = {"pause": 5, "max_failures": 2, "on_failure": "revert"}
    chosen = stage_of(rolling.plan(fleet_with(tmp_path, **settings)), "roll")
    assert (chosen.pause, chosen.may_fail, chosen.revert) == (5, 2, True)


def test_nobody_goes_back_over_what_was_accepted_as_a_risk(tmp_path: Path) -> None:
    risky = Portion("expand", {"default": ("shop.0002",)}, {"default": (("shop.0002", "0"),)},
                    accepted=("shop.0002",))
    plan = rolling.plan(fleet_with(tmp_path, risky, on_failure="revert"))
    assert not stage_of(plan, "roll").revert


def test_hosts_that_were_skipped_are_written_down_and_taken_off_again(prod: Environment) -> None:
    fleet = replace(make_fleet(prod, chosen=["web1", "web2"]), skipped=("web3",))
    turn, = stage_of(rolling.plan(fleet), "catch-up").turns
    assert turn.host == "web1"
    assert arguments(turn.steps[0].actions[0]) == {
        "root": "/srv/shop", "release": NEW, "ref": "main", "skipped": ["web3"],
        "done": ["web1", "web2"]}
    debt = {"web3": {"release": OLD, "since": 0}}
    later = make_fleet(prod, ready("web1", owed=debt), ready("web2"), ready("web3"))
    turn, = stage_of(rolling.plan(later), "catch-up").turns
    assert arguments(turn.steps[0].actions[0])["done"] == ["web1", "web2", "web3"]
    assert "catch-up" not in names(rolling.plan(make_fleet(prod)))


def test_what_was_off_before_a_run_that_died_stays_off(tmp_path: Path) -> None:
    """Also where another method than that run's goes on."""
    environment = open_fleet(tmp_path, ("web1",), groups={"worker": ["web1"],
                                                          "scheduler": ["web1"]},
                             workers={"pools": {"mail": {"command": ["run-mail"]},
                                                "main": {"command": ["run-main"]}}},
                             scheduler={"command": ["run-beat"]})
    left = ready("web1", paused={"off": ["scheduler", "worker-mail"], "timers": []})
    fleet = make_fleet(environment, left, pending=["shop.0002_stock"])
    plan = rolling.plan(replace(fleet, scheduler=fleet.migration))
    assert names(plan) == ["scheduler-stop", "migrate", "roll", "finish"]
    (turn,) = stage_of(plan, "roll").turns
    assert [step.name for step in turn.steps] == [*TURN, "workers.start", "timers.resume"]
    (begun,) = [step for step in turn.steps if step.name == "workers.start"]
    assert arguments(begun.actions[0])["pools"] == ["main"]
