"""What Django itself says of a release. Reading only."""

from __future__ import annotations

from typing import Any

from fabfile.engine import asking
from fabfile.engine.transport import Transport
from fabfile.errors import Failed, Unavailable
from roles import migrations
from roles.migrations import Judged
from roles.role import Target


def ask_plan(transport: Transport, target: Target) -> Judged:
    """The pending migrations, judged. Raises :class:`Unavailable` when the database does not
    answer, :class:`Failed` when Django cannot tell."""
    answer = question(transport, target)
    return Judged(answer["plans"], answer["decision"], answer["hash"])


def question(transport: Transport, target: Target, **more: Any) -> dict[str, Any]:
    """The whole answer of ``roles/onhost/migrating/ask.py``; raises as :func:`ask_plan`."""
    outcome = asking.ask(transport, target.host, migrations.ask(target, **more), timeout=300)
    found = asking.answer(outcome)
    if found is not None:
        return found
    where = f"{target.name}: pending migrations cannot be read"
    silent = asking.silent_database(outcome)
    if silent is not None:
        raise Unavailable(f"{where}: {silent}\nnothing that serves was changed")
    raise Failed(f"{where}: {outcome.reason.strip()}\nnothing that serves was changed")
