"""Look at all hosts at once, without changing anything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from fabfile.engine.fleet import everywhere
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.transport import Call, Transport
from fabfile.environment import Environment
from fabfile.errors import Refused, Unavailable
from inventories.model import Host
from roles.command import command
from roles.onhost import ship
from roles.python import PythonSettings
from roles.registry import roles
from roles.role import HostFacts

TOOLS = ("rsync", "uv", "timeout")
PYTHON_MISSING = 127


def question(environment: Environment, host: Host) -> dict[str, Any]:
    """What to look for on this host, every role's wishes together."""
    asked: dict[str, Any] = {
        "root": environment.paths(host).root,
        "tools": list(TOOLS),
        "interpreter": environment.of(PythonSettings, "python", host).interpreter,
        "units": [],
        "supervisor": None,
        "files": [],
    }
    for role in roles():
        for key, value in role.probe(host, environment.settings[host.name]).items():
            asked[key] = asked[key] + value if isinstance(value, list) else value
    return asked


def ask(transport: Transport, environment: Environment, host: Host) -> Outcome:
    python = command(host.connection.python or "python3", "-I")
    package = ship.package("probe", question(environment, host), {})
    return transport.run(host, Call(ship.line(python).line, package, timeout=30))


def look(
    transport: Transport, environment: Environment, hosts: Iterable[Host]
) -> tuple[dict[str, HostFacts], dict[str, Outcome]]:
    """(facts by host, what went wrong by host)."""
    outcomes = everywhere(hosts, lambda host: ask(transport, environment, host))
    facts = {name: read(name, outcome) for name, outcome in outcomes.items() if outcome}
    return facts, {name: outcome for name, outcome in outcomes.items() if not outcome}


def read(host: str, outcome: Outcome) -> HostFacts:
    data: Mapping[str, Any] = json.loads(outcome.stdout)
    names = {each.name for each in fields(HostFacts)}
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                              for key, value in data.items() if key in names}
    return HostFacts(host=host, **values)


def explain(outcome: Outcome) -> str:
    """One host's failed probe in words."""
    if outcome.exit == PYTHON_MISSING or "python3: not found" in outcome.stderr:
        return ("python3 is not on this host; install it there (apt install python3), or set "
                "ansible_python_interpreter")
    return outcome.reason


def look_or_refuse(
    transport: Transport, environment: Environment, hosts: Iterable[Host]
) -> dict[str, HostFacts]:
    """Raises :class:`Unavailable` or :class:`Refused`, naming every host that failed."""
    facts, failed = look(transport, environment, hosts)
    if failed:
        lines = [f"{name}: {outcome.kind.value}: {explain(outcome)}"
                 for name, outcome in failed.items()]
        lines.append("nothing was changed")
        silent = {Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.LOST}
        gone = any(outcome.kind in silent for outcome in failed.values())
        raise (Unavailable if gone else Refused)("\n".join(lines))
    return facts
