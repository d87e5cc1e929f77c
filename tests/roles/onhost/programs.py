"""The programs of ``roles/onhost``, run as a host runs them: one shell line, the rest on stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.command import command
from roles.onhost import ship

# Our own interpreter: `python3` may be a slow shim of a version manager.
LINE = ship.line(command(sys.executable, "-I")).line


@dataclass(frozen=True)
class Done:
    exit: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """The JSON of the last line."""
        return json.loads(self.out.splitlines()[-1])


def run(
    program: str, arguments: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> Done:
    done = subprocess.run(
        ["sh", "-c", LINE], input=ship.package(program, arguments, files or {}),
        capture_output=True, check=False, timeout=20,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def strict_umask() -> Iterator[None]:
    """For what is run meanwhile, as on hosts where files are for their owner only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def start(program: str, arguments: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """The program, with its standard input still open. ``end`` it."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec {LINE}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(ship.package(program, arguments, {}))
    process.stdin.flush()
    return process


def end(process: subprocess.Popen[bytes]) -> Done:
    """Close its standard input and wait."""
    out, err = process.communicate(timeout=20)
    return Done(process.returncode, out.decode(), err.decode())


def hear(process: subprocess.Popen[bytes]) -> Any:
    """The next line it says, as JSON."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def tell(process: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


# --- a made-up deploy root ------------------------------------------------------------------


def put_release(root: Path, name: str, venv: str | None = None, **runtime: Any) -> Path:
    """A complete release as ``publish`` leaves it."""
    tree, state = root / "releases" / name, root / ".fabfleet" / "releases" / name
    for folder in (tree, root / "static" / name, state):
        folder.mkdir(parents=True)
    (tree / "code.py").write_text(name)
    (state / "in-use").touch()
    record = {
        "release": name, "directory": str(tree), "venv": venv and str(root / "venvs" / venv),
        "environment": {}, "commands": {}, **runtime,
    }
    (state / "runtime.json").write_text(json.dumps(record))
    return tree


def make_current(root: Path, name: str) -> None:
    (root / "current").unlink(missing_ok=True)
    os.symlink(f"releases/{name}", root / "current")


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []
