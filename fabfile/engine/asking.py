"""One of the programs of ``roles/onhost``, run on a host now and outside of any plan."""

from __future__ import annotations

import json
from typing import Any

from fabfile.engine.outcome import Outcome
from fabfile.engine.transport import Call, Transport
from inventories.model import Host
from roles.command import OnHost
from roles.onhost import ship

SENTINEL = "@@FABFLEET "


def ask(transport: Transport, host: Host, question: OnHost, timeout: float) -> Outcome:
    """``question`` brings neither files nor secrets; ``timeout`` in seconds."""
    line = ship.line(question.interpreter).line
    package = ship.package(question.program, question.arguments, {})
    return transport.run(host, Call(line, package, timeout=timeout))


def answer(outcome: Outcome) -> dict[str, Any] | None:
    """The JSON behind the sentinel; the project may have printed lines of its own around it."""
    for text in outcome.stdout.splitlines():
        if outcome and text.startswith(SENTINEL):
            found: dict[str, Any] = json.loads(text.removeprefix(SENTINEL))
            return found
    return None


def silent_database(outcome: Outcome) -> str | None:
    """Why the database did not answer, where it was that; where in Django it was noticed helps
    nobody."""
    reason = outcome.reason.strip()
    return reason.partition("\nTraceback ")[0] if "OperationalError" in reason else None
