"""What is to run by itself, and what became of it: one file each on the controller."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fabfile.engine.journal import state_folder
from fabfile.errors import UsageError

State = Literal["preparing", "waiting", "started", "finished", "pending", "failed", "skipped",
                "interrupted", "cancelled"]


@dataclass(frozen=True)
class Scheduled:
    """A deploy at ``at``, which must not begin after ``latest`` (seconds since the epoch).

    ``commit`` is what was pinned, ``digest`` the plan that was approved and ``hooks`` that of what
    runs around staging, all when it was scheduled; ``options`` are those of the deploy;
    ``incident`` is what the status page calls it; ``why`` tells of its ``state``, which is
    ``preparing`` until somebody has agreed. ``kept`` are the values of which a notice consists,
    and whom it goes to, for when the inventory cannot be read any more; secrets by reference.
    """

    id: str
    env: str
    inventory: str
    zone: str
    at: float
    latest: float
    commit: str
    ref: str
    release: str
    digest: str
    options: dict[str, Any]
    who: str
    hooks: str = ""
    incident: str = ""
    kept: Mapping[str, Any] = field(default_factory=dict)
    state: State = "waiting"
    why: str = ""
    started: float = 0
    ended: float = 0

    @property
    def what(self) -> str:
        return self.release + (f" ({self.ref})" if self.ref else "")

    @property
    def path(self) -> Path:
        return folder() / f"{self.id}.json"

    @property
    def output(self) -> Path:
        """What the run says."""
        return folder() / f"{self.id}.log"

    @property
    def room(self) -> Path:
        """Takes the place on the disk that the last word will need."""
        return folder() / f"{self.id}.room"

    @property
    def plan(self) -> Path:
        """The text of the plan that was approved."""
        return folder() / f"{self.id}.plan"

    @property
    def alarm(self) -> str:
        return f"fabfleet-{self.id}"


def folder() -> Path:
    return state_folder() / "scheduled"


def new_id(env: str, at: float) -> str:
    return f"{env}-{time.strftime('%Y%m%d-%H%M', time.gmtime(at))}-{secrets.token_hex(2)}"


def write(found: Scheduled) -> None:
    """Whole or not at all, and on the disk before anything follows from it."""
    folder().mkdir(parents=True, exist_ok=True)
    draft = found.path.with_suffix(".new")
    # Why it failed may tell the way past the page.
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(found), file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(found.path)
    descriptor = os.open(folder(), os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def read(name: str) -> Scheduled:
    """Raises :class:`UsageError` where there is none of this id, or it cannot be read."""
    path = folder() / f"{name}.json"
    try:
        return Scheduled(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise UsageError(f"{name}: nothing of this name was scheduled here; see "
                         f"fab maintenance.scheduled") from None
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read, so it will not run: {error}") from None


def listed() -> tuple[list[Scheduled], list[str]]:
    """(all, the earliest first; in words those that cannot be read)."""
    found, problems = [], []
    for path in sorted(folder().glob("*.json")):
        try:
            found.append(read(path.stem))
        except UsageError as error:
            problems.append(str(error))
    return sorted(found, key=lambda each: each.at), problems


@contextmanager
def held(found: Scheduled) -> Iterator[bool]:
    """Whether this process alone has to do with it now. The lock ends with the process, so a run
    that died is known by a state that says ``started`` while nobody holds it."""
    folder().mkdir(parents=True, exist_ok=True)
    lock = os.open(found.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


def forget(found: Scheduled) -> None:
    """As if it had never been."""
    for path in (found.path, found.plan, found.output, found.room,
                 found.path.with_suffix(".lock")):
        path.unlink(missing_ok=True)


def last_word(found: Scheduled, state: State, why: str) -> Scheduled:
    """As :func:`moved`, also where the disk is full by now: or every alarm would begin, and tell
    everybody, anew."""
    found.room.unlink(missing_ok=True)
    return moved(found, state, why)


def moved(found: Scheduled, state: State, why: str = "") -> Scheduled:
    """Write its new state down."""
    now = time.time()
    began = now if state == "started" else found.started
    ended = 0 if state == "started" else now
    new = replace(found, state=state, why=why, started=began, ended=ended)
    write(new)
    return new
