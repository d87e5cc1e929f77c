from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.roles.onhost.programs import Done, end, hear, listed, run, start

WHY = {"owner": "eve@desk", "reason": "the auditors are here"}


def freeze(root: Path, record: dict[str, Any] | None) -> Done:
    return run("freeze", {"root": str(root), "record": record})


def test_a_freeze_is_written_once(tmp_path: Path) -> None:
    before = time.time()
    first = freeze(tmp_path, WHY)
    record = first.answer["frozen"]
    assert (first.exit, record["owner"], record["reason"]) == (0, "eve@desk", WHY["reason"])
    assert before <= record["at"] <= time.time()
    assert listed(tmp_path / ".fabfleet") == ["freeze"]

    second = freeze(tmp_path, {"owner": "bob@desk", "reason": "me too"})
    assert (second.exit, second.answer) == (75, {"already": record})
    assert json.loads((tmp_path / ".fabfleet" / "freeze").read_text()) == record
    assert listed(tmp_path / ".fabfleet") == ["freeze"]


def test_no_run_begins_while_it_is_frozen(tmp_path: Path) -> None:
    record = freeze(tmp_path, WHY).answer["frozen"]
    arguments = {"root": str(tmp_path), "record": {"run": "a"}, "silence": 5, "again": False}
    done = run("lock", arguments)
    assert (done.exit, done.answer) == (75, {"frozen": record})
    assert listed(tmp_path / ".fabfleet") == ["freeze"]


def test_lifting_it(tmp_path: Path) -> None:
    record = freeze(tmp_path, WHY).answer["frozen"]
    assert freeze(tmp_path, None).answer == {"lifted": record, "cleared": None}
    assert freeze(tmp_path, None).answer == {"lifted": None, "cleared": None}


def test_the_record_of_a_run_that_is_gone_is_cleared(tmp_path: Path) -> None:
    arguments = {"root": str(tmp_path), "record": {"run": "a"}, "silence": 5, "again": False}
    holder = start("lock", arguments)
    assert hear(holder)["acquired"] is True
    end(holder)  # without a word: its controller is gone
    cleared = freeze(tmp_path, None).answer["cleared"]
    assert cleared["run"] == "a"
    assert cleared["lost_at"] >= cleared["since"]
    assert (tmp_path / ".fabfleet" / "lock").read_text() == ""


def test_a_living_run_keeps_its_lock(tmp_path: Path) -> None:
    arguments = {"root": str(tmp_path), "record": {"run": "a"}, "silence": 5, "again": False}
    holder = start("lock", arguments)
    try:
        assert hear(holder)["acquired"] is True
        done = freeze(tmp_path, None)
        assert (done.exit, done.answer["held"]["run"]) == (75, "a")
        assert json.loads((tmp_path / ".fabfleet" / "lock").read_text())["run"] == "a"
    finally:
        end(holder)
