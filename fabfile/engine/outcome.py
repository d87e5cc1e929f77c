"""What one command on one host came to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """``lost`` is a command whose exit status never came: it is never a success."""

    OK = "ok"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    TIMED_OUT = "timed out"
    LOST = "lost"


# Nobody answered, so nobody knows more than that.
SILENT = frozenset({Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.LOST})


@dataclass(frozen=True)
class Outcome:
    """``message`` says in words what went wrong; ``seconds`` is the time it took."""

    host: str
    kind: Kind
    exit: int | None = None
    stdout: str = ""
    stderr: str = ""
    message: str = ""
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return self.kind is Kind.OK

    @property
    def reason(self) -> str:
        """The most telling line or lines there are."""
        if self.message:
            return self.message
        return (self.stderr.strip() or self.stdout.strip()) or f"exit status {self.exit}"


# timeout(1) ends a command that took too long with 124, or 137 when it had to use SIGKILL.
TIMEOUT_EXITS = (124, 137)


def of_exit(
    host: str, status: int | None, stdout: str, stderr: str, seconds: float, limit: float
) -> Outcome:
    """The outcome of a command that ended with ``status`` (None: nobody knows)."""
    common = {"host": host, "stdout": stdout, "stderr": stderr, "seconds": seconds}
    if status is None or status < 0:
        lost = "the connection ended before the command told its exit status"
        return Outcome(kind=Kind.LOST, exit=None, message=lost, **common)  # type: ignore[arg-type]
    if status in TIMEOUT_EXITS and seconds >= limit:
        late = f"did not end within {limit:g} s and was stopped"
        return Outcome(kind=Kind.TIMED_OUT, exit=status, message=late, **common)  # type: ignore[arg-type]
    kind = Kind.OK if status == 0 else Kind.FAILED
    return Outcome(kind=kind, exit=status, **common)  # type: ignore[arg-type]
