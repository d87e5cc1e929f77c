"""The fleet's lock, held on one host while this process lives (``roles/onhost/lock.py``)."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from fabfile.engine.journal import operator
from fabfile.engine.transport import ConnectionBroken, Stream, Transport
from fabfile.errors import LockHeld, Unavailable
from inventories.model import Host
from roles.command import command
from roles.onhost import ship

# The host gives the lock up after SILENCE seconds without a word from us; we notice a lost lock
# well before somebody else can have it.
SILENCE = 30.0
BEAT = 3.0
ANSWER = 12.0


def ago(since: float, now: float | None = None) -> str:
    """A span in words, such as ``4 min``; both in seconds since the epoch."""
    seconds = max(0, int((time.time() if now is None else now) - since))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def describe(record: Mapping[str, Any]) -> str:
    """Who holds it, since when, in which phase, and whether that process still lives."""
    if not record:
        return "a run that has just begun"
    life = "alive" if record.get("alive", True) else "GONE"
    if not record.get("alive", True) and record.get("lost_at"):
        life = f"GONE, last heard of {ago(record['lost_at'])} ago"
    return (
        f"run {record.get('run')} by {record.get('owner')} (process {record.get('pid')}), "
        f"since {ago(record.get('since', 0))}, phase {record.get('phase')}, that process is {life}"
    )


def describe_freeze(record: Mapping[str, Any]) -> str:
    return f"frozen by {record['owner']} {ago(record['at'])} ago: {record['reason']}"


class FleetLock:
    """Acquired in the constructor's caller by :meth:`acquire`; safe to use from several threads."""

    def __init__(
        self, transport: Transport, host: Host, root: str, run: str, environment: str
    ) -> None:
        self.transport, self.host, self.root = transport, host, root
        self.environment = environment
        self.record: dict[str, Any] = {
            "run": run, "owner": operator(), "pid": os.getpid(), "phase": "starting",
        }
        self.abandoned: Mapping[str, Any] | None = None
        # When the lock's file was last written before us, in ns since the epoch: a probe that
        # saw the same value saw what is still true.
        self.written_before: int | None = None
        self._stream: Stream | None = None
        self._guard = threading.RLock()
        self._stop = threading.Event()
        self._heard = 0.0
        self._beating: threading.Thread | None = None

    def acquire(self) -> None:
        """Raises :class:`LockHeld` when somebody else has it, :class:`Unavailable`."""
        self._open()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()

    def _open(self) -> None:
        again = self.written_before is not None
        arguments = {
            "root": self.root, "record": self.record, "silence": SILENCE, "again": again,
        }
        python = command(self.host.connection.python or "python3", "-I")
        line = ship.line(python).line
        package = ship.package("lock", arguments, {})
        try:
            self._stream = self.transport.stream(self.host, line, package)
            answer = json.loads(self._stream.receive(ANSWER) or "{}")
        except (ConnectionBroken, TimeoutError, ValueError) as error:
            raise Unavailable(f"{self.host.name}: cannot ask for the lock: {error}") from None
        if "held" in answer:
            self._close()
            if again and answer["held"].get("run") == self.record["run"]:
                raise Unavailable(f"{self.host.name}: the lock's holder there still waits for the "
                                  f"connection that broke")
            raise LockHeld(
                f"{self.environment} is locked on {self.host.name}: {describe(answer['held'])}. "
                f"Wait for it, or look: fab status --env={self.environment}"
            )
        if "passed" in answer:
            self._close()
            raise LockHeld(f"{self.environment}: the lock was free for a while, and another run "
                           f"or fab unlock took it; look: fab status --env={self.environment}")
        if "frozen" in answer:
            self._close()
            raise LockHeld(
                f"{self.environment} is {describe_freeze(answer['frozen'])}. "
                f"Lift it: fab unlock --env={self.environment}"
            )
        if "acquired" not in answer:
            self._close()
            raise Unavailable(f"{self.host.name}: the lock gave no answer: {answer}")
        if not again:
            self.written_before, self.abandoned = answer["before"], answer["abandoned"]
        self._heard = time.monotonic()

    def _tell(self, message: Mapping[str, Any]) -> None:
        with self._guard:
            if self._stream is None:
                raise ConnectionBroken("no connection to the lock")
            self._stream.send(json.dumps(message))
            if self._stream.receive(ANSWER) is None:
                raise ConnectionBroken("the lock's holder has ended")
            self._heard = time.monotonic()

    def phase(self, name: str) -> None:
        """Say in the record what is going on now; takes the lock anew if the connection broke."""
        self.record["phase"] = name
        self.confirm()

    def confirm(self) -> None:
        """As :meth:`ensure`, however short ago the host was heard."""
        self._heard = 0.0
        self.ensure()

    def ensure(self) -> None:
        """Raises :class:`LockHeld` or :class:`Unavailable` where the lock is no longer ours.

        Asked before every step, so it costs a round trip only when the last sign of life is old.
        """
        if self._stream is not None and time.monotonic() - self._heard < 2 * BEAT:
            return
        deadline = time.monotonic() + 60
        while True:
            try:
                self._renew()
                return
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _renew(self) -> None:
        """Tell the holder that we live; take the lock anew where the connection broke."""
        with self._guard:
            try:
                self._tell({"record": {"phase": self.record["phase"]}})
            except (ConnectionBroken, TimeoutError):
                self._close()
                if not self._stop.is_set():
                    self._open()

    def _beat(self) -> None:
        """All the while, because one step may take hours and the lock must not be lost in it."""
        while not self._stop.wait(BEAT):
            try:
                self._renew()
            except (LockHeld, Unavailable):
                continue  # the next ensure() tries again, or says that it is lost

    def abandon(self) -> None:
        """From now on the lock is not kept; its record stays behind, as after a crash."""
        self._stop.set()

    def release(self) -> None:
        """On every way out; what cannot be told to the host, the host notices by itself."""
        self._stop.set()
        try:
            self._tell({"release": True})
        except (ConnectionBroken, TimeoutError):
            return  # the holder on the host sees the end of the connection
        finally:
            self._close()

    def _close(self) -> None:
        with self._guard:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
