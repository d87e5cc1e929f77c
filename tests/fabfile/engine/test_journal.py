from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from fabfile.engine.journal import Journal, new_run_id, read, runs, state_folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path))
    return tmp_path


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FABFLEET_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert state_folder() == Path("/home/someone/.local/state/fabfleet")
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert state_folder() == Path("/xdg/fabfleet")


def test_events_come_back_in_order(state: Path) -> None:
    journal = Journal("shop-prod", "run1")
    before = round(time.time(), 3)
    journal.write("started", step="größe\n", host="web1")
    journal.write("ended")
    journal.close()
    assert journal.path == state / "shop-prod" / "run1.jsonl"
    assert journal.path.stat().st_mode & 0o777 == 0o600
    first, second = read(journal.path)
    assert before <= first.pop("at") <= time.time() + 0.001
    assert first == {"event": "started", "step": "größe\n", "host": "web1"}
    assert second["event"] == "ended"


def test_a_line_is_there_before_the_next_thing_happens() -> None:
    journal = Journal("shop-prod", "run1")
    journal.write("started")
    assert [event["event"] for event in read(journal.path)] == ["started"]
    journal.close()


def test_a_last_line_that_was_cut_off_is_left_out() -> None:
    journal = Journal("shop-prod", "run1")
    journal.write("one")
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"event": "tw')
    assert [event["event"] for event in read(journal.path)] == ["one"]


def test_a_run_that_never_began_leaves_none() -> None:
    journal = Journal("shop-prod", "run1")
    journal.discard()
    assert runs("shop-prod") == []


def test_runs_the_oldest_first(state: Path) -> None:
    for run in ("20260102-000000-aaa", "20260101-000000-bbb"):
        Journal("shop-prod", run).close()
    assert [path.stem for path in runs("shop-prod")] == [
        "20260101-000000-bbb", "20260102-000000-aaa"
    ]
    assert runs("shop-other") == []


def test_ids_of_runs() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", new_run_id())
    assert new_run_id() != new_run_id()
