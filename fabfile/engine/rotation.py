"""Which hosts their balancers send no requests to. Reading only."""

from __future__ import annotations

import json
from collections.abc import Iterable

from fabfile.engine import asking
from fabfile.engine.transport import Transport
from fabfile.environment import Environment
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
                said = _state(transport, host, action, balancer.server_name(target))
                if said:
                    found[target.name] = f"{step.host}: {said}"
    return found


def _state(transport: Transport, host: Host, question: OnHost, server: str) -> str:
    """What the server is called there where it is drained, else nothing."""
    outcome = asking.ask(transport, host, question, timeout=30)
    lines = outcome.stdout.splitlines()
    if not outcome or not lines:
        return ""
    return next((str(each["status"]) for each in json.loads(lines[-1])["servers"]
                 if each["server"] == server and each["drained"]), "")
