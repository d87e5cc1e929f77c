"""Whether the site is closed, as the hosts in front of it say. Reading only."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from secrets import token_hex
from typing import Any

from fabfile.engine import asking
from fabfile.engine.fleet import everywhere
from fabfile.engine.outcome import Outcome
from fabfile.engine.transport import Transport
from fabfile.environment import Environment
from fabfile.errors import Unavailable
from inventories.model import Host
from roles import maintenance
from roles.command import OnHost, SecretRef
from roles.maintenance import Closed, Site

# The secret of the way past the page lives in our own environment, and nowhere on our disk.
VARIABLE = "FABFLEET_MAINTENANCE_PASS"
WITHOUT = ("to go on without such a host, take it out of maintenance.hosts; to open at the others "
           "what is closed: fab maintenance.off")


def site(environment: Environment) -> Site | None:
    """What can be closed, with a secret for the next time; None where nothing shows a page."""
    found = environment.site
    if found is None:
        return None
    os.environ.setdefault(VARIABLE, token_hex(16))
    return replace(found, secret=SecretRef("env", VARIABLE))


def look(transport: Transport, found: Site | None) -> Closed | None:
    """How it is closed, or None. Raises :class:`Unavailable` where a host in front gives no answer.
    """
    closed, silent = look_partly(transport, found)
    if silent:
        hint = [WITHOUT] if found and found.hosts else []
        raise Unavailable("\n".join([*silent, *hint]))
    return closed


def look_partly(transport: Transport, found: Site | None) -> tuple[Closed | None, list[str]]:
    """(how it is closed, or None, as the hosts say that answer; in words those that do not).

    Raises :class:`Unavailable` where none does.
    """
    if found is None:
        return None, []
    steps = {step.host: step for step in maintenance.look(found)}

    def ask(host: Host) -> Outcome:
        action = steps[host.name].actions[0]
        assert isinstance(action, OnHost)
        return asking.ask(transport, host, action, timeout=30)

    asked = found.hosts or tuple(host for host, _ in found.stands)
    outcomes = everywhere(list(asked), ask)
    silent = [f"{name}: cannot be asked whether the site is closed: {each.reason.strip()}"
              for name, each in outcomes.items() if not each]
    if len(silent) == len(asked):
        raise Unavailable("\n".join(silent))
    told = [json.loads(each.stdout.splitlines()[-1]) for each in outcomes.values() if each]
    records = [each for each in told if each["closed"] or _by_run(each["record"])]
    return (_closed(records, len(asked)) if records else None), silent


def _by_run(record: dict[str, Any] | None) -> bool:
    """Where nothing is closed, a record of a run tells that one died on its way to closing or
    opening; one by hand is what a failure left behind."""
    return record is not None and bool(record["by_run"])


def _closed(told: list[dict[str, Any]], hosts: int) -> Closed:
    known = [each["record"] for each in told if each["record"]]
    record: dict[str, Any] = min(known, key=lambda each: each["since"]) if known else {
        "since": 0, "reason": "", "who": "", "by_run": False, "until": 0, "run": "", "pass": ""}
    whole = len(told) == hosts and all(each["closed"] and each["shown"] for each in told)
    return Closed(record["since"], record["reason"], record["who"], record["by_run"],
                  record["until"], record["run"], record["pass"], whole, record.get("told", ""))
