from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.roles.onhost.programs import Done, end, hear, run, start, tell

Holder = subprocess.Popen[bytes]


def arguments(
    root: Path, name: str, silence: float = 10, again: bool = False
) -> dict[str, Any]:
    record = {"run": name, "phase": "starting"}
    return {"root": str(root), "record": record, "silence": silence, "again": again}


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """Run ``a`` has the lock."""
    process = start("lock", arguments(tmp_path, "a"))
    yield process
    end(process)


def record(root: Path) -> Any:
    return json.loads((root / ".fabfleet" / "lock").read_text() or "null")


def other(root: Path, again: bool = False) -> Done:
    return run("lock", arguments(root, "b", again=again))


def test_the_first_has_it_and_says_who_it_is(tmp_path: Path, holder: Holder) -> None:
    answer = hear(holder)
    assert (answer["acquired"], answer["abandoned"]) == (True, None)
    written = record(tmp_path)
    assert (written["run"], written["phase"], written["holder"]) == ("a", "starting", holder.pid)
    assert written["since"] <= written["heartbeat"] <= time.time()


def test_a_second_is_told_who_has_it(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    done = other(tmp_path)
    assert (done.exit, done.answer) == (75, {"held": record(tmp_path)})
    assert record(tmp_path)["run"] == "a"


def test_the_record_follows_the_phases(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    began = record(tmp_path)
    tell(holder, {"record": {"phase": "roll"}})
    at = hear(holder)["at"]
    assert record(tmp_path) == {**began, "phase": "roll", "heartbeat": at}
    tell(holder, {"ping": True})
    assert record(tmp_path)["phase"] == "roll"
    assert hear(holder)["at"] >= at


def test_a_message_may_come_in_pieces(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    assert holder.stdin is not None
    for piece in (b'{"record": {"pha', b'se": "x"}}\n{"ping"', b": true}\n"):
        holder.stdin.write(piece)
        holder.stdin.flush()
        time.sleep(0.02)
    hear(holder)
    hear(holder)
    assert record(tmp_path)["phase"] == "x"


def test_letting_go_leaves_nothing_behind(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    tell(holder, {"release": True})
    assert hear(holder) == {"released": True}
    assert end(holder).exit == 0
    assert record(tmp_path) is None
    assert other(tmp_path).out.startswith('{"acquired": true, "abandoned": null')


def test_a_controller_that_is_gone_leaves_a_note_and_the_lock_free(
    tmp_path: Path, holder: Holder
) -> None:
    hear(holder)
    tell(holder, {"record": {"phase": "roll"}})
    hear(holder)
    assert end(holder).exit == 0
    left = record(tmp_path)
    assert (left["run"], left["phase"]) == ("a", "roll")
    assert left["since"] <= left["lost_at"] <= time.time()

    second = other(tmp_path)
    first_line = json.loads(second.out.splitlines()[0])
    assert (first_line["acquired"], first_line["abandoned"]) == (True, left)


def test_a_holder_that_was_killed_never_blocks(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    holder.kill()
    holder.wait()
    answer = json.loads(other(tmp_path).out.splitlines()[0])
    assert (answer["acquired"], answer["abandoned"]["run"]) == (True, "a")
    assert "lost_at" not in answer["abandoned"]


def test_silence_is_an_end_too(tmp_path: Path) -> None:
    silent = start("lock", arguments(tmp_path, "a", silence=0.2))
    try:
        assert hear(silent)["acquired"] is True
        assert silent.wait(5) == 0
        assert record(tmp_path)["lost_at"] > 0
    finally:
        end(silent)


def test_it_tells_when_the_file_was_written_before(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    tell(holder, {"release": True})
    end(holder)
    before = os.stat(tmp_path / ".fabfleet" / "lock").st_mtime_ns
    assert json.loads(other(tmp_path).out.splitlines()[0])["before"] == before


def test_whoever_reads_meanwhile_sees_a_whole_record(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    for phase in ("x" * 200, "y", "z" * 100):
        tell(holder, {"record": {"phase": phase}})
        hear(holder)
        assert (tmp_path / ".fabfleet" / "lock").stat().st_size == 1024
        assert record(tmp_path)["phase"] == phase


# --- after the connection broke ---------------------------------------------------------------


def test_the_same_run_goes_on_where_it_was(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    since = record(tmp_path)["since"]
    end(holder)
    (tmp_path / ".fabfleet" / "freeze").write_text("{}")  # it comes too late for this run
    resumed = start("lock", arguments(tmp_path, "a", again=True))
    answer, written = hear(resumed), record(tmp_path)
    end(resumed)
    assert (answer["acquired"], written["since"]) == (True, since)
    assert "lost_at" not in written


def test_another_run_in_between_is_the_end_of_it(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    end(holder)
    left = record(tmp_path)
    done = other(tmp_path, again=True)
    assert (done.exit, done.answer) == (75, {"passed": left})
    assert record(tmp_path) == left


def test_one_that_came_and_let_go_in_between_too(tmp_path: Path, holder: Holder) -> None:
    hear(holder)
    tell(holder, {"release": True})
    end(holder)
    done = other(tmp_path, again=True)
    assert (done.exit, done.answer) == (75, {"passed": None})
