from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.engine.cache import cache_folder, made_once


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FABFLEET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FABFLEET_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/fabfleet")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/fabfleet")
    monkeypatch.setenv("FABFLEET_CACHE", "/ours")
    assert cache_folder() == Path("/ours")


def test_made_once(cache: Path) -> None:
    made: list[Path] = []

    def make(new: Path) -> None:
        made.append(new)
        (new / "x").touch()

    first = made_once("kind", "key", make)
    assert made_once("kind", "key", make) == first == cache / "kind" / "key"
    assert len(made) == 1
    assert names(first) == ["x"]
    assert first.stat().st_mode & 0o777 == 0o755


def test_a_crash_in_between_leaves_nothing_half(cache: Path) -> None:
    def crash(new: Path) -> None:
        (new / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once("kind", "key", crash)
    assert names(cache / "kind") == []
    assert names(made_once("kind", "key", lambda new: (new / "whole").touch())) == ["whole"]


def test_of_two_at_once_the_first_wins(cache: Path) -> None:
    def slow(new: Path) -> None:
        (new / "second").touch()
        made_once("kind", "key", lambda other: (other / "first").touch())

    assert names(made_once("kind", "key", slow)) == ["first"]
    assert names(cache / "kind") == ["key"]


def test_a_maker_s_own_error_is_not_hidden(cache: Path) -> None:
    with pytest.raises(FileNotFoundError):
        made_once("kind", "key", lambda new: (new / "a" / "b").touch())
