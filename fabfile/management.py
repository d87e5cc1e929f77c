"""``fab manage``: a management command exactly as the service would run it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from fabfile.backups import migration_target
from fabfile.engine.outcome import Kind
from fabfile.engine.transport import Call
from fabfile.errors import Interrupted, Unavailable
from fabfile.session import connected
from roles.launch import launch_as_service

# Nobody means to wait longer; what takes days belongs into a unit of its own.
LONGEST = 24 * 3600


def run(env: str, inventory: str, words: list[str]) -> int:
    """Its exit status. Raises :class:`Unavailable` when nobody knows it."""
    with connected(env, inventory, json=True) as session:
        target = migration_target(session)
        line = launch_as_service(target, "python", "manage.py", *words).line
        call = Call(line, timeout=LONGEST, tell=_writer(sys.stdout), tell_error=_writer(sys.stderr))
        try:
            outcome = session.transport.run(target.host, call)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {words[0]} may still run on {target.name}") from None
    if outcome.kind in (Kind.OK, Kind.FAILED):
        return outcome.exit or 0
    raise Unavailable(f"{target.name}: {outcome.kind.value}: {outcome.reason}")


def _writer(out: TextIO) -> Callable[[str], None]:
    """Passes output on; when nobody reads it any more, the command still runs to its end."""
    readers = [out]

    def write(text: str) -> None:
        try:
            for each in readers:
                each.write(text)
                each.flush()
        except BrokenPipeError:
            readers.clear()

    return write
