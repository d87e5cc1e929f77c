"""What the migration host says of its backups, and what a drill finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fabfile.engine import asking
from fabfile.engine.outcome import SILENT
from fabfile.engine.transport import Transport
from fabfile.errors import Failed, Unavailable
from roles import backup
from roles.command import OnHost
from roles.role import Target

Record = Mapping[str, Any]


def listing(transport: Transport, target: Target) -> Record:
    """``folder``, ``backups`` (the oldest first) and ``drills``."""
    return _ask(transport, target, backup.listing(target), 60, "its backups cannot be listed")


def check(transport: Transport, target: Target) -> Record:
    """``folder``, ``problems`` (a line for each thing that speaks against a backup) and
    ``expected`` (the bytes that it takes at most)."""
    return _ask(transport, target, backup.check(target), 120, "it cannot be asked for a backup")


def problems(transport: Transport, target: Target) -> list[str]:
    """What speaks against a backup of the target's release's databases, each with the host.

    Raises :class:`Unavailable` when a database does not answer.
    """
    return [f"{target.name}: {line}" for line in check(transport, target)["problems"]]


def drill(transport: Transport, target: Target, file: str | None) -> Record:
    """``drills``: what was found in each database. Raises :class:`Failed`."""
    limit = target.of(backup.BackupSettings, "backup").timeout + backup.GRACE
    return _ask(transport, target, backup.drill(target, file), limit, "the drill failed")


def of_key(transport: Transport, target: Target, key: str) -> list[Record]:
    """The records of the backup that was taken under this key; one a database."""
    return [each for each in listing(transport, target)["backups"] if each["key"] == key]


def _ask(
    transport: Transport, target: Target, question: OnHost, limit: float, trouble: str
) -> Record:
    outcome = asking.ask(transport, target.host, question, limit)
    found = asking.answer(outcome)
    if found is not None:
        return found
    silent = asking.silent_database(outcome)
    gone = silent is not None or outcome.kind in SILENT
    reason = silent or outcome.reason.strip()
    raise (Unavailable if gone else Failed)(f"{target.name}: {trouble}: {reason}")
