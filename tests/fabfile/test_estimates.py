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
    assert measured(RUN) == Estimate(20.5, {"close": 2, "stop": 8, "start": 10, "open": 0.5},
                                     {"close": 20.5, "stop": 18.5})
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
        for event, stage, at in (("stage", "stop", 0), ("stage", "start", seconds - 1),
                                 ("plan-ended", "", seconds)):
            now[0] = float(at)
            journal.write(event, stage=stage)
        journal.close()
    assert estimate(prod) == Estimate(7, {"stop": 6, "start": 1}, {"stop": 7})
    assert estimate(prod).going_back == 1
    (tmp_path / "state" / prod.key / "run9.jsonl").write_text("no journal\n")
    assert estimate(prod).whole == 7


def test_what_is_left_is_not_made_of_different_runs(
    prod: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with long jobs to wait for, and one with a long migration."""
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    now = [0.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    for number, (tasks, rest) in enumerate(((600, 20), (1, 120))):
        journal = Journal(prod.key, f"run{number}")
        for event, stage, at in (("stage", "stop-tasks", 0), ("stage", "close", tasks),
                                 ("stage", "start", tasks + rest - 1),
                                 ("plan-ended", "", tasks + rest)):
            now[0] = float(at)
            journal.write(event, stage=stage)
        journal.close()
    assert estimate(prod).left == {"stop-tasks": 620, "close": 120}


@pytest.mark.parametrize("names", [["close"], ["stop"], ["stop-tasks", "timers"]])
def test_what_stops_and_starts_nothing_is_no_maintenance(names: list[str]) -> None:
    """A page by hand, `fab stop`, a job that did not end in time: the next one takes longer."""
    stages: list[dict[str, Any]] = [
        {"event": "stage", "stage": name, "at": float(at)} for at, name in enumerate(names)]
    assert measured([*stages, {"event": "plan-ended", "at": 9.0}]) is None


def test_a_clock_that_was_set_meanwhile_tells_nothing() -> None:
    back = [{**each, "at": each["at"] - 3600 if each["at"] > 15 else each["at"]} for each in RUN]
    assert measured(back) is None
