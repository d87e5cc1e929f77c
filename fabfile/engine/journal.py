"""The append-only record of a run, on the controller; the engine writes the hosts' own.

A line is on disk before the step it announces begins, so whoever reads it after a crash knows the
last thing that may have happened.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ASKED_BY = "FABFLEET_ASKED_BY"


def state_folder() -> Path:
    """Where the controller keeps its journals: $FABFLEET_STATE or the XDG state folder."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(os.environ.get("FABFLEET_STATE") or f"{home}/fabfleet")


def new_run_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def asked_by() -> str:
    """For whom this runs, where that is somebody else than who started it; else nothing."""
    asked = os.environ.get(ASKED_BY, "")
    return "".join(sign for sign in asked if sign.isprintable())[:80]


def operator() -> str:
    """Who runs this, for locks and records: user@machine, after whoever asked for it."""
    here = f"{getpass.getuser()}@{socket.gethostname()}"
    asked = asked_by()
    return f"{asked} via {here}" if asked else here


class Journal:
    """One run's file ``<state>/<environment>/<run>.jsonl``."""

    def __init__(self, environment: str, run: str) -> None:
        self.run = run
        folder = state_folder() / environment
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{run}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"at": round(time.time(), 3), "event": event, **values}, sort_keys=True)
        os.write(self._file, line.encode() + b"\n")
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def discard(self) -> None:
        """A run that never began leaves no journal."""
        self.close()
        self.path.unlink()


def keep_incident(environment: str, incident: str) -> None:
    """What the next run has to end if this one does not."""
    path = _incident(environment)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(incident)


def forget_incident(environment: str, incident: str) -> None:
    """It has ended."""
    if left_incident(environment) == incident:
        _incident(environment).unlink(missing_ok=True)


def left_incident(environment: str) -> str:
    """The id of the maintenance that an earlier run from this controller has begun and not ended,
    or nothing."""
    path = _incident(environment)
    return path.read_text().strip() if path.exists() else ""


def _incident(environment: str) -> Path:
    return state_folder() / environment / "incident"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a journal; a last line that a crash cut off is left out."""
    with path.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def runs(environment: str) -> list[Path]:
    """Journals of earlier runs from this controller, the oldest first."""
    return sorted((state_folder() / environment).glob("*.jsonl"))
