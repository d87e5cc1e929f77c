"""A plan is a value: frozen, comparable, JSON there and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabfile.plan import Plan, Stage, Turn, dump, from_json, to_json
from fabfile.strategies import rollback, rolling, staging, together
from fabfile.strategies.targets import Fleet
from roles.command import (
    Action,
    Command,
    LocalFile,
    OnController,
    OnHost,
    Raw,
    Run,
    SecretRef,
    Upload,
    command,
    either,
    pipe,
    then,
)
from roles.role import Step
from tests.fabfile.fleets import fresh, live, make_fleet, open_fleet, ready

TEXT = st.text(max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
COMMANDS: st.SearchStrategy[Command] = st.recursive(
    st.lists(TEXT | st.builds(Raw, TEXT), max_size=4).map(lambda words: command(*words)),
    lambda inner: st.builds(
        lambda join, parts: join(*parts),
        st.sampled_from([then, either, pipe]), st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Run, COMMANDS),
    st.builds(
        OnHost, TEXT, st.dictionaries(TEXT, JSON, max_size=3),
        st.dictionaries(TEXT, st.builds(LocalFile, TEXT, TEXT), max_size=2),
        st.dictionaries(TEXT, st.builds(SecretRef, TEXT, TEXT), max_size=2), COMMANDS,
    ),
    st.builds(Upload, TEXT, TEXT, st.none() | TEXT, TEXT),
    st.builds(OnController, TEXT, st.dictionaries(TEXT, TEXT, max_size=2)),
)
# Actions are tried one by one; what plans are tried with need not be as odd.
SEVERAL_ACTIONS = st.lists(
    st.sampled_from([Run(command("x")), Upload("a", "b"), OnHost("y"), OnController("z")]),
    max_size=2,
).map(tuple)
STEPS = st.builds(
    Step, TEXT, TEXT, SEVERAL_ACTIONS, st.floats(0, 1e6), SEVERAL_ACTIONS, st.booleans(),
    st.booleans(),
)
SEVERAL_STEPS = st.lists(STEPS, max_size=2).map(tuple)
STAGES = st.builds(
    Stage, TEXT, st.sampled_from(["parallel", "rolling", "once"]),
    st.lists(st.builds(Turn, TEXT, SEVERAL_STEPS, SEVERAL_STEPS), max_size=3).map(tuple),
    st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), st.sampled_from([0, 0.5]),
    st.integers(0, 2), st.booleans(),
)
PLANS = st.builds(
    Plan, TEXT, TEXT, TEXT, TEXT, st.lists(STAGES, max_size=2).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple),
)


def again(plan: Plan) -> Plan:
    return from_json(json.loads(dump(plan)))


@given(ACTIONS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_action_comes_back_from_json(action: Action) -> None:
    turn = Turn("web1", (Step("x", "web1", (action,)),))
    plan = Plan("release", "prod", "r1", "rolling", (Stage("x", "once", (turn,)),))
    assert again(plan) == plan
    assert dump(again(plan)) == dump(plan)


@given(PLANS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_plan_comes_back_from_json(plan: Plan) -> None:
    assert again(plan) == plan
    assert dump(again(plan)) == dump(plan)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """One host in every state, with secrets and hooks."""
    environment = open_fleet(
        tmp_path, app={"user": "shop", "secrets": {"TOKEN": {"env": "TOKEN"}}},
        hooks={"before": {"turn": [{"run": "x", "on": "each"}], "roll": [{"run": "y"}]}},
    )
    return make_fleet(environment, ready("web1"), live("web2"), fresh("web3", tools={}),
                      pending=["shop.0002_stock"])


@pytest.mark.parametrize("strategy", [
    staging.plan, staging.discard, rolling.plan, together.plan, rollback.plan,
])
def test_real_plans_come_back_from_json(fleet: Fleet, strategy: Callable[[Fleet], Plan]) -> None:
    plan = strategy(fleet)
    assert not plan.is_empty
    assert again(plan) == plan
    assert strategy(fleet) == plan


def test_a_command_is_its_words_never_one_string() -> None:
    assert to_json(Run(then(command("echo", Raw("$x"), "a b"), command("true")))) == {
        "kind": "run",
        "command": {
            "joint": "&&",
            "parts": [{"words": ["echo", {"raw": "$x"}, "a b"]}, {"words": ["true"]}],
        },
    }


def test_every_action_says_its_kind() -> None:
    actions = [Run(command("x")), OnHost("x"), Upload("a", "b"), OnController("x")]
    assert [to_json(each)["kind"] for each in actions] == ["run", "onhost", "upload", "controller"]


# --- what a plan can be asked ---------------------------------------------------------------


def step(host: str, name: str = "x") -> Step:
    return Step(name, host, (Run(command("true")),))


def turns(count: int) -> tuple[Turn, ...]:
    return tuple(Turn(f"web{n}", (step(f"web{n}"),)) for n in range(1, count + 1))


def test_a_plan_never_changes() -> None:
    plan = Plan("release", "prod", "r1", "rolling", (Stage("roll", "rolling", turns(1)),))
    (stage,) = plan.stages
    for value, name in ((plan, "notes"), (stage, "turns"), (stage.turns[0], "host")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, ())


def test_plans_are_compared_by_what_they_do() -> None:
    plan = Plan("release", "prod", "r1", "rolling", (Stage("roll", "rolling", turns(2)),))
    assert plan == replace(plan)
    assert plan != replace(plan, notes=("a note",))
    assert plan != replace(plan, stages=(Stage("roll", "rolling", turns(2), sizes=(2,)),))
    assert plan != replace(plan, stages=(Stage("roll", "rolling", turns(2)[::-1]),))


@pytest.mark.parametrize(("mode", "sizes", "found"), [
    ("parallel", (1,), [5]),
    ("parallel", (2,), [5]),
    ("rolling", (1,), [1, 1, 1, 1, 1]),
    ("rolling", (2,), [2, 2, 1]),
    ("rolling", (9,), [5]),
    ("rolling", (1, 3), [1, 3, 1]),
    ("rolling", (1, 2), [1, 2, 2]),
    ("once", (1,), [1, 1, 1, 1, 1]),
])
def test_batches(mode: Any, sizes: tuple[int, ...], found: list[int]) -> None:
    stage = Stage("x", mode, turns(5), sizes)
    assert [len(each) for each in stage.batches] == found
    assert sum(stage.batches, ()) == stage.turns


@pytest.mark.parametrize("mode", ["parallel", "rolling", "once"])
def test_no_turns_no_batches(mode: Any) -> None:
    assert Stage("x", mode, ()).batches == ()


def test_steps_are_those_that_run_when_nothing_fails() -> None:
    back = (step("web1", "back"),)
    plan = Plan("release", "prod", "r1", "rolling", (
        Stage("a", "once", (Turn("web2", (step("web2", "one"), step("web2", "two")), back),)),
        Stage("b", "parallel", turns(2)),
    ))
    assert [(stage, each.name, each.host) for stage, each in plan.steps()] == [
        ("a", "one", "web2"), ("a", "two", "web2"), ("b", "x", "web1"), ("b", "x", "web2"),
    ]
    assert plan.hosts == ("web2", "web1")
    assert not plan.is_empty


def test_an_empty_plan() -> None:
    plan = Plan("stage", "prod", "r1", "stage", (Stage("a", "parallel", ()),), ("nothing new",))
    assert plan.is_empty
    assert plan.hosts == ()
    assert again(plan).notes == ("nothing new",)
