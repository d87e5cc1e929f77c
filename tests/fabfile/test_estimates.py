"""How long a maintenance takes, from journals of earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fabfile.engine.journal import Journal
from fabfile.environment import Environment
from fabfile.estimates import Estimate, estimate, measured

RUN: list[dict[str, Any]] = [
    {"event": "run", "at": 0.5}, {"event": "stage", "stage": "stage", "at": 1.0},
    {"event": "plan-ended", "at": 2.0}, {"event": "stage", "stage": "close", "at": 10.0},
    {"event": "stage", "stage": "stop", "at": 12.0},
    {"event": "stage", "stage": "start", "at": 20.0},
    {"event": "stage", "stage": "open", "at": 30.0}, {"event": "plan-ended", "at": 30.5},
    {"event": "ended", "at": 40.0}]


def test_how_long_it_took() -> None:
    assert measured(RUN) == Estimate(20.5, {"close": 2, "stop": 8, "start": 10, "open": 0.5})
    assert measured(RUN[:3]) is None
    assert measured(RUN[:-2]) is None


def test_the_longest_of_the_last_ones_counts(
    prod: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    assert estimate(prod) == Estimate()
    now = [0.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    for number, seconds in enumerate((99, 1, 2, 7, 4, 5)):  # of which the first is forgotten
        journal = Journal(prod.key, f"run{number}")
        for event, at in (("stage", 0.0), ("plan-ended", float(seconds))):
            now[0] = at
            journal.write(event, stage="stop")
        journal.close()
    assert estimate(prod) == Estimate(7, {"stop": 7})
    assert estimate(prod).going_back == 0
