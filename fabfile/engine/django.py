"""What Django itself says of a staged release. Reading only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fabfile.engine.transport import Call, Transport
from fabfile.errors import Failed, Unavailable
from roles.migrations import pending
from roles.onhost import ship
from roles.role import Target

SENTINEL = "@@FABFLEET "


@dataclass(frozen=True)
class Pending:
    """``migrations`` are what this code has and a database has not, as ``app.name``; ``ahead``
    what a database has and this code has not."""

    migrations: tuple[str, ...]
    ahead: tuple[str, ...]


def ask_pending(transport: Transport, target: Target) -> Pending:
    """Raises :class:`Unavailable` when the database does not answer, :class:`Failed` when Django
    cannot tell."""
    question = pending(target)
    line = ship.line(question.interpreter).line
    package = ship.package(question.program, {}, {})
    outcome = transport.run(target.host, Call(line, package, timeout=120))
    for text in outcome.stdout.splitlines():
        if outcome and text.startswith(SENTINEL):
            return _read(json.loads(text.removeprefix(SENTINEL))["databases"])
    where = f"{target.name}: pending migrations cannot be read"
    reason = outcome.reason.strip()
    if "OperationalError" in reason:
        # The database did not answer; where in Django that was noticed helps nobody.
        said = reason.partition("\nTraceback ")[0]
        raise Unavailable(f"{where}: {said}\nnothing that serves was changed")
    raise Failed(f"{where}: {reason}\nnothing that serves was changed")


def _read(databases: Mapping[str, Mapping[str, Any]]) -> Pending:
    several = len(databases) > 1

    def names(key: str) -> tuple[str, ...]:
        return tuple(f"{name} ({alias})" if several and alias != "default" else name
                     for alias, each in databases.items() for name in each[key])

    return Pending(names("pending"), names("ahead"))
