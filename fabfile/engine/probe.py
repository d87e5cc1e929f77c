"""Look at all hosts at once, without changing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from fabfile.engine import asking
from fabfile.engine.fleet import everywhere
from fabfile.engine.outcome import SILENT, Outcome
from fabfile.engine.transport import Transport
from fabfile.environment import Environment
from fabfile.errors import Refused, Unavailable
from inventories.model import Host
from roles.command import OnHost, command
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
        "instances": [],
        "links": [],
        "supervisor": None,
        "files": [],
    }
    for role in roles():
        for key, value in role.probe(host, environment.settings[host.name]).items():
            asked[key] = asked[key] + value if isinstance(value, list) else value
    return asked


def ask(transport: Transport, environment: Environment, host: Host) -> Outcome:
    python = command(host.connection.python or "python3", "-I")
    look_around = OnHost("probe", question(environment, host), interpreter=python)
    return asking.ask(transport, host, look_around, timeout=30)


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
    transport: Transport, environment: Environment, hosts: Iterable[Host],
    may_be_silent: Callable[[str], bool] | None = None,
) -> dict[str, HostFacts]:
    """Facts of all hosts, but of those that may be silent and are.

    Raises :class:`Unavailable` or :class:`Refused`, naming every other host that failed.
    """
    facts, failed = look(transport, environment, hosts)
    counted = {name: outcome for name, outcome in failed.items()
               if outcome.kind not in SILENT or not (may_be_silent and may_be_silent(name))}
    if counted:
        lines = [f"{name}: {outcome.kind.value}: {explain(outcome)}"
                 for name, outcome in counted.items()]
        lines.append("nothing was changed")
        gone = any(outcome.kind in SILENT for outcome in counted.values())
        raise (Unavailable if gone else Refused)("\n".join(lines))
    return facts
