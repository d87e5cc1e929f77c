from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.roles.onhost.programs import Done, listed, run

FILES = {
    "manage.py": (0o755, b"#!/usr/bin/env python\n"),
    "shop/views.py": (0o644, b"\r\n\0binary"),
    "shop/größe $x\n.txt": (0o644, b""),
}


@dataclass
class Upload:
    """A deploy root with an upload in it, and the manifest that belongs to it."""

    root: Path
    manifest: dict[str, Any]

    @property
    def tree(self) -> Path:
        return self.root / "releases" / ".staging-r1"

    def publish(self, previous: Path | None = None, **changes: Any) -> Done:
        arguments = {
            "root": str(self.root), "release": "r1", "staging": str(self.tree),
            "previous": previous and str(previous), "runtime": {"directory": "x"}, **changes,
        }
        files = {"manifest": json.dumps(self.manifest).encode(), "launcher": b"print('launch')\n"}
        return run("publish", arguments, files)


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    found = Upload(tmp_path, {"files": {}, "folders": ["empty"]})
    for name, (mode, content) in FILES.items():
        path = found.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        found.manifest["files"][name] = [f"{mode:o}", hashlib.sha256(content).hexdigest()]
    (found.tree / "empty").mkdir()
    os.symlink("shop/views.py", found.tree / "link")
    os.symlink("shop", found.tree / "folder-link")
    found.manifest["files"] |= {"link": ["link", "shop/views.py"], "folder-link": ["link", "shop"]}
    return found


def test_a_complete_upload_becomes_a_release(upload: Upload) -> None:
    done = upload.publish()
    assert (done.exit, done.err) == (0, "")
    assert done.answer == {"files": 5, "hashed": 3}
    assert listed(upload.root / "releases") == ["r1"]
    assert (upload.root / "releases/r1/manage.py").read_bytes() == FILES["manage.py"][1]


def test_what_belongs_to_a_release(upload: Upload) -> None:
    upload.publish()
    state = upload.root / ".fabfleet"
    assert (state / "launch.py").read_text() == "print('launch')\n"
    meta = state / "releases" / "r1"
    assert listed(meta) == ["in-use", "manifest.json", "runtime.json"]
    assert json.loads((meta / "manifest.json").read_text()) == upload.manifest
    assert json.loads((meta / "runtime.json").read_text()) == {"directory": "x"}
    for name in ("launch.py", "releases/r1/runtime.json", "releases/r1/in-use"):
        assert (state / name).stat().st_mode & 0o777 == 0o644, name


def wrong_file(tree: Path) -> None:
    (tree / "manage.py").unlink()
    (tree / "manage.py").mkdir()
    (tree / "manage.py" / "x").touch()


def relink(path: Path, to: str) -> None:
    path.unlink()
    os.symlink(to, path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_with_file(path: Path) -> None:
    path.unlink()
    path.write_text("shop/views.py")


DIFFERENCES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda tree: (tree / "manage.py").unlink(), ["missing: manage.py"]),
    "missing link": (lambda tree: (tree / "link").unlink(), ["missing: link"]),
    "extra": (lambda tree: (tree / "shop" / "x").touch(), ["not in the manifest: shop/x"]),
    "extra link": (lambda tree: os.symlink("/etc/passwd", tree / "x"), ["not in the manifest: x"]),
    "content": (lambda tree: (tree / "manage.py").write_bytes(b"#!/usr/bin/env pythoN\n"),
                ["content differs: manage.py"]),
    "mode": (lambda tree: (tree / "manage.py").chmod(0o644),
             ["mode 644 instead of 755: manage.py"]),
    "setuid": (lambda tree: (tree / "manage.py").chmod(0o4755),
               ["mode 4755 instead of 755: manage.py"]),
    "link": (lambda tree: relink(tree / "link", "manage.py"),
             ["not the link to shop/views.py: link"]),
    "a file for a link": (lambda tree: replace_with_file(tree / "link"),
                          ["not the link to shop/views.py: link"]),
    "a link for a file": (lambda tree: relink(tree / "manage.py", "x"), ["not a file: manage.py"]),
    "a pipe for a file": (lambda tree: fifo(tree / "manage.py"), ["not a file: manage.py"]),
    "a folder for a file": (wrong_file,
                            ["missing: manage.py", "not in the manifest: manage.py/x"]),
    "empty folder gone": (lambda tree: (tree / "empty").rmdir(), ["empty folder differs: empty"]),
    "empty folder more": (lambda tree: (tree / "shop" / "new").mkdir(),
                          ["empty folder differs: shop/new"]),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_every_difference_is_told_and_there_is_no_release(upload: Upload, name: str) -> None:
    change, told = DIFFERENCES[name]
    change(upload.tree)
    done = upload.publish()
    *lines, last = done.err.splitlines()
    assert (done.exit, lines) == (1, told)
    assert last.startswith(f"{len(told)} of ")
    assert last.endswith(" differ from the manifest")
    assert listed(upload.root / "releases") == [".staging-r1"]
    assert not (upload.root / ".fabfleet").exists()


def test_all_differences_at_once_but_not_too_many(upload: Upload) -> None:
    for number in range(30):
        (upload.tree / f"x{number:02}").touch()
    lines = upload.publish().err.splitlines()
    assert len(lines) == 21
    assert lines[0] == "not in the manifest: x00"
    assert lines[-1] == "30 of 35 differ from the manifest"


def test_what_is_linked_to_the_previous_release_is_not_read_again(upload: Upload) -> None:
    previous = upload.root / "releases" / "r0"
    (previous / "shop").mkdir(parents=True)
    for name in ("manage.py", "shop/views.py"):
        os.link(upload.tree / name, previous / name)
    # A copy with the same content is no link, and a link to something else proves nothing.
    (previous / "shop" / "größe $x\n.txt").write_bytes(b"")
    assert upload.publish(previous).answer == {"files": 5, "hashed": 1}


def test_a_link_to_another_file_of_the_previous_release_is_read(upload: Upload) -> None:
    previous = upload.root / "releases" / "r0"
    (previous / "shop").mkdir(parents=True)
    (previous / "shop" / "views.py").write_bytes(b"wrong")
    (upload.tree / "manage.py").unlink()
    os.link(previous / "shop" / "views.py", upload.tree / "manage.py")
    (upload.tree / "manage.py").chmod(0o755)
    assert "content differs: manage.py" in upload.publish(previous).err


def test_a_release_that_is_there_stays_what_it_is(upload: Upload) -> None:
    there = upload.root / "releases" / "r1"
    there.mkdir()
    (there / "old").touch()
    assert upload.publish().exit == 1
    assert listed(there) == ["old"]


def test_the_launcher_is_replaced_whole(upload: Upload) -> None:
    state = upload.root / ".fabfleet"
    state.mkdir()
    (state / "launch.py").write_text("old")
    with (state / "launch.py").open() as old:
        assert upload.publish().exit == 0
        assert old.read() == "old"
    assert (state / "launch.py").read_text() == "print('launch')\n"
