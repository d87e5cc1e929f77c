from __future__ import annotations

from pathlib import Path

from tests.roles.onhost.programs import listed, make_current, put_release, run
from tests.roles.onhost.test_finish import held


def discard(root: Path, release: str = "bad") -> int:
    return run("discard", {"root": str(root), "release": release}).exit


def test_everything_of_a_release_goes_and_nothing_else(tmp_path: Path) -> None:
    put_release(tmp_path, "good")
    put_release(tmp_path, "bad")
    (tmp_path / "releases" / ".staging-bad").mkdir()
    (tmp_path / "static" / ".staging-bad").mkdir()
    make_current(tmp_path, "good")
    assert discard(tmp_path) == 0
    for folder in ("releases", "static", ".fabfleet/releases"):
        assert listed(tmp_path / folder) == ["good"]


def test_the_current_release_stays(tmp_path: Path) -> None:
    put_release(tmp_path, "bad")
    make_current(tmp_path, "bad")
    assert discard(tmp_path) == 0
    assert listed(tmp_path / "releases") == ["bad"]


def test_a_release_that_a_process_runs_stays(tmp_path: Path) -> None:
    put_release(tmp_path, "bad")
    with held(tmp_path, "bad"):
        assert discard(tmp_path) == 0
        assert listed(tmp_path / "releases") == ["bad"]
    assert discard(tmp_path) == 0
    assert listed(tmp_path / "releases") == []


def test_before_the_first_deploy(tmp_path: Path) -> None:
    (tmp_path / "releases" / ".staging-bad").mkdir(parents=True)
    assert discard(tmp_path) == 0
    assert listed(tmp_path / "releases") == []


def test_nothing_is_there(tmp_path: Path) -> None:
    assert discard(tmp_path) == 0
