"""The command that goes on, as it was typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fabfile import typed
from fabfile.engine.journal import Journal
from fabfile.environment import Environment

Ran = Callable[..., str]


@pytest.fixture
def ran(prod: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    """What goes on after one more run."""
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))

    def add(number: int, task: str, *argv: str, release: str = "r1") -> str:
        journal = Journal(prod.key, f"2026010{number}-000000-aaaaaa")
        journal.write("run", task=task, environment="prod", argv=[task, *argv])
        journal.write("plan", plan={"name": "stage", "release": release})
        journal.close()
        return typed.again(prod)

    return add


def test_where_nothing_is_known_it_is_said_in_general(prod: Environment, ran: Ran) -> None:
    assert typed.again(prod) == "fab deploy --env=prod --ref=..."
    assert ran(1, "maintenance.on", "--reason=x") == "fab deploy --env=prod --ref=..."


def test_the_deploy_that_was_typed_last(ran: Ran) -> None:
    ran(1, "deploy", "--ref=v1")
    assert ran(2, "deploy", "--ref=v 2", "--maintenance", "--yes", "--env=prod") == (
        "fab deploy '--ref=v 2' --maintenance --env=prod")
    assert ran(3, "restart") == "fab deploy '--ref=v 2' --maintenance --env=prod"


def test_a_rollback_goes_on_to_where_it_was_going(ran: Ran) -> None:
    """Half way, what would be chosen without --to is the release that it came from."""
    ran(1, "deploy", "--ref=v2")
    assert ran(2, "rollback", "--reverse", "--maintenance") == (
        "fab rollback --reverse --maintenance --env=prod --to=r1")
    assert ran(3, "rollback", "--to=v1") == "fab rollback --to=v1 --env=prod"
