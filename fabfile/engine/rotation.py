"""Which hosts their balancers send no requests to. Reading only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fabfile.engine import asking, children
from fabfile.engine.outcome import Outcome
from fabfile.engine.transport import Transport
from fabfile.environment import Environment
from fabfile.errors import Unavailable
from inventories.model import Host
from roles import balancer
from roles.command import OnController, OnHost
from roles.role import Target

# Programs that tell of all servers, whichever they are asked about.
ABOUT_ALL = ("balancing.haproxy", "balancing.nginx")


def drained(
    transport: Transport, environment: Environment, targets: Iterable[Target]
) -> dict[str, str]:
    """{host: on which balancer it is out, and how it is called there}, as far as they answer.

    A balancer that is asked from the controller (AWS, a command) is not asked here.
    """
    found: dict[str, str] = {}
    for target, host, outcome in _asked(transport, environment, targets):
        said = _out(_servers(outcome), balancer.server_name(target)) if outcome else ""
        if said:
            found[target.name] = f"{host.name}: {said}"
    return found


def rotating(
    transport: Transport, environment: Environment, targets: Iterable[Target]
) -> frozenset[str]:
    """The hosts that all their balancers send requests to, as HAProxy and nginx say.

    Raises :class:`Unavailable` where one of them gives no answer.
    """
    found: dict[str, bool] = {}
    behind = [target for target in targets if environment.balancers(target.host)]
    for target, host, outcome in _asked(transport, environment, behind):
        if not outcome:
            raise Unavailable(f"{host.name}: cannot be asked which hosts it sends requests to: "
                              f"{outcome.reason}")
        here = not _out(_servers(outcome), balancer.server_name(target))
        found[target.name] = found.get(target.name, True) and here
    return frozenset(name for name, everywhere in found.items() if everywhere)


def refuse_silent(environment: Environment, targets: Iterable[Target]) -> None:
    """Where a balancer is asked from this machine (AWS, a command), the first time would come when
    everything is stopped. Raises :class:`Unavailable` where it does not answer now, as without
    credentials."""
    for target in targets:
        for step in balancer.look(target, environment.balancers(target.host)):
            action = step.actions[0]
            if isinstance(action, OnController):
                told = {**os.environ, **action.environment}
                done = children.ask(["sh", "-c", action.line], told, step.timeout)
                if done.status:
                    said = done.err.strip() or done.out.strip() or f"exit status {done.status}"
                    raise Unavailable(f"the balancer of {target.name}, which is asked from this "
                                      f"machine, gives no answer: {said}")
                return


def _asked(
    transport: Transport, environment: Environment, targets: Iterable[Target]
) -> Iterator[tuple[Target, Host, Outcome]]:
    """Each target with what each of its balancers answers, which is asked once for all targets."""
    known: dict[tuple[str, str], Outcome] = {}
    for target in targets:
        for step in balancer.look(target, environment.balancers(target.host)):
            action, host = step.actions[0], environment.inventory.hosts.get(step.host)
            if not isinstance(action, OnHost) or host is None:
                continue
            question = {**action.arguments}
            if action.program in ABOUT_ALL:
                del question["server"]
            key = host.name, json.dumps(question, sort_keys=True)
            if key not in known:
                known[key] = asking.ask(transport, host, action, timeout=30)
            yield target, host, known[key]


def _servers(outcome: Outcome) -> list[dict[str, Any]]:
    lines = outcome.stdout.splitlines()
    found: list[dict[str, Any]] = json.loads(lines[-1])["servers"] if lines else []
    return found


def _out(servers: Iterable[Mapping[str, Any]], name: str) -> str:
    """What the server is called where it is drained, else nothing."""
    return next((str(each["status"]) for each in servers if each["drained"]
                 and name in (each["server"], re.sub(r":\d+$", "", each["server"]))), "")
