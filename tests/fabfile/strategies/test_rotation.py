"""Hosts behind a balancer: out of rotation for their turn, and into it again when they are well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.errors import InventoryError
from fabfile.strategies import rolling, together
from fabfile.strategies.targets import Fleet
from roles.migrations import Portion
from tests.fabfile.fleets import arguments, live, make_fleet, open_fleet, ready
from tests.fabfile.strategies.outline import stage_of

BEHIND = {"driver": "haproxy", "backend": "web"}
IN, OUT = "balancer.undrain", "balancer.drain"


def behind(folder: Path, *states: str) -> Fleet:
    """Three hosts behind two proxies."""
    environment = open_fleet(folder, proxies=["lb1", "lb2"], balancer=BEHIND)
    facts = [(live if state == "live" else ready)(f"web{n}") for n, state in enumerate(states, 1)]
    return make_fleet(environment, *facts)


def test_out_on_every_balancer_restarted_and_in_again(tmp_path: Path) -> None:
    turn = stage_of(rolling.plan(behind(tmp_path)), "roll").turns[1]
    assert [(step.name, step.host) for step in turn.steps] == [
        (OUT, "lb1"), (OUT, "lb2"), ("release.switch", "web2"), ("wsgi.restart", "web2"),
        ("wsgi.health", "web2"), (IN, "lb1"), (IN, "lb2"),
    ]
    told = arguments(turn.steps[0].actions[0])
    assert (told["action"], told["server"], told["backends"]) == ("drain", "web2", ["web"])


def test_haproxy_counts_what_the_canary_answers(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, proxies=["lb1", "lb2"], balancer=BEHIND,
                             deploy={"canary": {"seconds": 20, "errors": 2}})
    first, second, _ = stage_of(rolling.plan(make_fleet(environment)), "roll").turns
    assert [(step.name, step.host) for step in first.steps][-3:] == [
        ("balancer.watch", "lb1"), ("balancer.watch", "lb2"), ("wsgi.health", "web1")]
    told = arguments(first.steps[-2].actions[0])
    assert (told["server"], told["seconds"], told["percent"]) == ("web1", 10, 2)
    assert "balancer.watch" not in [step.name for step in second.steps]


def test_a_host_that_is_put_back_comes_into_rotation_only_when_it_is_well(tmp_path: Path) -> None:
    turn = stage_of(rolling.plan(behind(tmp_path)), "roll").turns[0]
    assert [(step.name, step.host, step.if_well) for step in turn.recover] == [
        ("release.switch", "web1", False), ("wsgi.restart", "web1", False),
        ("wsgi.health", "web1", False), (IN, "lb1", True), (IN, "lb2", True),
    ]


def test_a_host_that_an_earlier_run_left_out_comes_in(tmp_path: Path) -> None:
    plan = rolling.plan(behind(tmp_path, "live", "ready", "live"))
    assert [[step.name for step in turn.steps] for turn in stage_of(plan, "confirm").turns] == [
        ["wsgi.health", IN, IN]] * 2


def test_where_all_are_stopped_nobody_has_to_be_taken_out(tmp_path: Path) -> None:
    portion = Portion("all", {"default": ("shop.0002",)}, {"default": (("shop.0002", "0"),)})
    plan = together.plan(replace(behind(tmp_path), expand=portion))
    assert OUT not in [step.name for _, step in plan.steps()]
    assert [step.name for step in stage_of(plan, "start").turns[0].steps] == [
        "wsgi.start", "wsgi.health", IN, IN]


def test_a_balancer_that_is_not_there_is_found_out_at_once(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"balancer\.hosts: no host or group proxy"):
        open_fleet(tmp_path, balancer=BEHIND)
