"""The seam: everything that reaches a host goes through here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fabfile.engine.outcome import Outcome
from inventories.model import Host

# Seconds between TERM and KILL, and how much later than the host we give up ourselves.
KILL_AFTER = 5
GRACE = 15


@dataclass(frozen=True)
class Call:
    """One shell line for one host. ``timeout`` in seconds; ``tell`` gets output as it comes,
    ``tell_error`` what goes to standard error."""

    line: str
    stdin: bytes = b""
    timeout: float = 60.0
    tell: Callable[[str], None] | None = None
    tell_error: Callable[[str], None] | None = None

    @property
    def guarded(self) -> str:
        """The line as it is run: ended on the host itself when it takes too long."""
        from shlex import quote

        return f"exec timeout -k {KILL_AFTER} {self.timeout:g} sh -c {quote(self.line)}"


@dataclass(frozen=True)
class Sync:
    """One rsync of the folder ``source`` here to ``target`` there.

    ``before`` and ``after`` are shell lines around the receiving rsync, in the same round trip;
    ``after`` sees its exit status in ``$rc``.
    """

    source: str
    target: str
    link_to: str | None = None
    timeout: float = 1800.0
    before: str = ""
    after: str = ""


class ConnectionBroken(Exception):
    """The way to a host ended, or could not be opened; ``str()`` says why."""


class Stream(Protocol):
    """A command that lives as long as we do, spoken to in lines.

    All methods raise :class:`ConnectionBroken`, ``receive`` also TimeoutError.
    """

    def send(self, line: str) -> None: ...
    def receive(self, timeout: float) -> str | None:
        """The next line, or None when the other side has ended."""
    def close(self) -> None: ...


class Transport(Protocol):
    """Values in, outcomes out; no exception of any library passes."""

    def run(self, host: Host, call: Call) -> Outcome: ...
    def sync(self, host: Host, sync: Sync) -> Outcome: ...
    def stream(self, host: Host, line: str, stdin: bytes) -> Stream:
        """Raises :class:`ConnectionBroken`."""
    def close(self) -> None: ...
