"""Which hosts their balancers send no requests to. Reading only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from fabfile.engine import asking
from fabfile.engine.outcome import Outcome
from fabfile.engine.transport import Transport
from fabfile.environment import Environment
from fabfile.errors import Unavailable
from inventories.model import Host
from roles import balancer
from roles.command import OnHost
from roles.role import Target


def drained(
    transport: Transport, environment: Environment, targets: Iterable[Target]
) -> dict[str, str]:
    """{host: on which balancer it is out, and how it is called there}, as far as they answer.

    A balancer that is asked from the controller (AWS, a command) is not asked here.
    """
    found: dict[str, str] = {}
    for target in targets:
        for step in balancer.look(target, environment.balancers(target.host)):
            action, host = step.actions[0], environment.inventory.hosts.get(step.host)
            if isinstance(action, OnHost) and host is not None:
                said = _out(_asked(transport, host, action), balancer.server_name(target))
                if said:
                    found[target.name] = f"{step.host}: {said}"
    return found


def rotating(
    transport: Transport, environment: Environment, targets: Iterable[Target]
) -> frozenset[str]:
    """The hosts that all their balancers send requests to, as HAProxy and nginx say.

    Raises :class:`Unavailable` where one of them gives no answer.
    """
    known: dict[str, list[dict[str, Any]]] = {}
    found = []
    for target in targets:
        balancers = environment.balancers(target.host)
        for step in balancer.look(target, balancers):
            action, host = step.actions[0], environment.inventory.hosts[step.host]
            assert isinstance(action, OnHost)
            if host.name not in known:
                outcome = asking.ask(transport, host, action, timeout=30)
                if not outcome:
                    raise Unavailable(f"{host.name}: cannot be asked which hosts it sends "
                                      f"requests to: {outcome.reason}")
                known[host.name] = _servers(outcome)
        name = balancer.server_name(target)
        if balancers and not any(_out(known[host.name], name) for host in balancers):
            found.append(target.name)
    return frozenset(found)


def _asked(transport: Transport, host: Host, question: OnHost) -> list[dict[str, Any]]:
    outcome = asking.ask(transport, host, question, timeout=30)
    return _servers(outcome) if outcome else []


def _servers(outcome: Outcome) -> list[dict[str, Any]]:
    lines = outcome.stdout.splitlines()
    found: list[dict[str, Any]] = json.loads(lines[-1])["servers"] if lines else []
    return found


def _out(servers: Iterable[Mapping[str, Any]], name: str) -> str:
    """What the server is called where it is drained, else nothing."""
    return next((str(each["status"]) for each in servers if each["drained"]
                 and name in (each["server"], re.sub(r":\d+$", "", each["server"]))), "")
