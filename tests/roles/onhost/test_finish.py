from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.roles.onhost.programs import Done, listed, make_current, put_release, run


@contextmanager
def held(root: Path, release: str) -> Iterator[None]:
    """As if a process of the release still ran."""
    with (root / ".fabfleet" / "releases" / release / "in-use").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """r1 to r5, each good in its turn; r5 is current."""
    for number in range(1, 6):
        put_release(tmp_path, f"r{number}", venv="old" if number < 3 else "new")
        record(tmp_path, f"r{number}")
    for venv in ("old", "new", "unknown"):
        (tmp_path / "venvs" / venv / "bin").mkdir(parents=True)
    make_current(tmp_path, "r5")
    return tmp_path


def record(root: Path, release: str) -> None:
    with (root / ".fabfleet" / "history.jsonl").open("a") as history:
        history.write(json.dumps({"release": release, "at": 1}) + "\n")


def finish(root: Path, keep: int = 3, **values: Any) -> Done:
    return run("finish", {"root": str(root), "record": None, "keep": keep, **values})


def kept(root: Path) -> list[str]:
    found = listed(root / "releases")
    assert listed(root / "static") == found
    assert listed(root / ".fabfleet" / "releases") == found
    return found


def test_the_newest_good_ones_stay(root: Path) -> None:
    assert finish(root).answer == {"removed": ["r1", "r2"]}
    assert kept(root) == ["r3", "r4", "r5"]
    assert (root / "current" / "code.py").read_text() == "r5"


@pytest.mark.parametrize("keep", [1, 2, 5, 99])
def test_as_many_as_are_wanted(root: Path, keep: int) -> None:
    assert finish(root, keep).exit == 0
    assert kept(root) == ["r1", "r2", "r3", "r4", "r5"][-keep:]


def test_the_current_one_stays_even_if_it_is_old(root: Path) -> None:
    make_current(root, "r1")
    assert finish(root, 2).answer == {"removed": ["r2", "r3"]}
    assert kept(root) == ["r1", "r4", "r5"]


def test_one_that_a_process_still_runs_stays_until_that_has_ended(root: Path) -> None:
    with held(root, "r1"):
        assert finish(root, 1).answer == {"removed": ["r2", "r3", "r4"]}
        assert kept(root) == ["r1", "r5"]
        assert listed(root / "venvs") == ["new", "old"]
    assert finish(root, 1).answer == {"removed": ["r1"]}
    assert listed(root / "venvs") == ["new"]


def test_only_good_ones_count(root: Path) -> None:
    put_release(root, "bad1")
    put_release(root, "bad2")
    assert finish(root, 5).answer == {"removed": ["bad1", "bad2"]}
    assert kept(root) == ["r1", "r2", "r3", "r4", "r5"]


def test_a_release_that_was_good_again_counts_as_new(root: Path) -> None:
    record(root, "r1")
    assert finish(root, 2).answer == {"removed": ["r2", "r3", "r4"]}


def test_what_was_left_half_done_goes(root: Path) -> None:
    for name in (".staging-r9", ".gone-r0"):
        (root / "releases" / name / "sub").mkdir(parents=True)
    (root / ".fabfleet" / "wheelhouse" / "cafe").mkdir(parents=True)
    assert finish(root, 9).answer == {"removed": []}
    assert listed(root / "releases") == ["r1", "r2", "r3", "r4", "r5"]
    assert listed(root / ".fabfleet" / "wheelhouse") == []


def test_environments_that_no_release_needs_go(root: Path) -> None:
    finish(root, 9)
    assert listed(root / "venvs") == ["new", "old"]
    finish(root, 1)
    assert listed(root / "venvs") == ["new"]


def test_a_release_without_an_environment_needs_none(root: Path) -> None:
    put_release(root, "r6")
    make_current(root, "r6")
    assert finish(root, 1, record={"release": "r6"}).exit == 0
    assert listed(root / "venvs") == []


def test_history_is_a_line_a_deploy_with_the_host_s_own_clock(root: Path) -> None:
    before = time.time()
    finish(root, record={"release": "r5", "commit": "c", "ref": "main", "origin": "o"})
    last = json.loads((root / ".fabfleet/history.jsonl").read_text().splitlines()[-1])
    assert before <= last.pop("at") <= time.time()
    assert last == {"release": "r5", "commit": "c", "ref": "main", "origin": "o"}


def test_the_first_deploy_begins_the_history(tmp_path: Path) -> None:
    put_release(tmp_path, "r1")
    make_current(tmp_path, "r1")
    assert finish(tmp_path, record={"release": "r1"}).answer == {"removed": []}
    assert (tmp_path / ".fabfleet" / "history.jsonl").stat().st_mode & 0o777 == 0o644
    assert len((tmp_path / ".fabfleet/history.jsonl").read_text().splitlines()) == 1


def test_a_line_that_a_crash_cut_off_spoils_nothing(root: Path) -> None:
    with (root / ".fabfleet" / "history.jsonl").open("a") as history:
        history.write('{"release": "r6", "a')
    assert finish(root, 2, record={"release": "r5"}).answer == {"removed": ["r1", "r2", "r3"]}
    assert finish(root, 2, record={"release": "r5"}).answer == {"removed": []}
    assert kept(root) == ["r4", "r5"]
