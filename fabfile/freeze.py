"""A freeze is a person's decision: no run takes it over, and only ``fab unlock`` lifts it."""

from __future__ import annotations

import json
from typing import Any

from fabfile.engine import asking, probe
from fabfile.engine.journal import operator
from fabfile.engine.lock import describe, describe_freeze
from fabfile.errors import Failed, LockHeld, Refused
from fabfile.session import Session, connected
from roles.command import OnHost, command


def _authority(session: Session) -> Any:
    host = session.environment.migration_host
    facts = probe.look_or_refuse(session.transport, session.environment, [host])[host.name]
    if not facts.writable:
        raise Refused(f"{host.name}: {session.environment.paths(host).root} is not writable for "
                      f"{facts.user}")
    return facts


def _ask(session: Session, record: dict[str, Any] | None) -> dict[str, Any]:
    host = session.environment.migration_host
    arguments = {"root": session.environment.paths(host).root, "record": record}
    python = command(host.connection.python or "python3", "-I")
    question = OnHost("freeze", arguments, interpreter=python)
    outcome = asking.ask(session.transport, host, question, timeout=60)
    try:
        answer: dict[str, Any] = json.loads(outcome.stdout)
    except ValueError:
        raise Failed(f"{host.name}: {outcome.reason}") from None
    return answer


def freeze(env: str, inventory: str, reason: str) -> None:
    with connected(env, inventory) as session:
        _authority(session)
        answer = _ask(session, {"owner": operator(), "reason": reason})
        if "already" in answer:
            raise LockHeld(f"{session.environment.name} is already "
                           f"{describe_freeze(answer['already'])}")
        session.lines.write(f"{session.environment.name} is frozen: no deploy until "
                            f"fab unlock --env={session.environment.name}")


def show(env: str, inventory: str, as_json: bool) -> None:
    with connected(env, inventory, json=as_json) as session:
        facts = _authority(session)
        if as_json:
            print(json.dumps({"lock": facts.lock, "freeze": facts.freeze}, indent=1))
            return
        session.lines.write(f"lock: {describe(facts.lock) if facts.lock else 'free'}")
        if facts.freeze:
            session.lines.write(describe_freeze(facts.freeze))


def lift(env: str, inventory: str) -> None:
    with connected(env, inventory) as session:
        _authority(session)
        answer = _ask(session, None)
        if "held" in answer:
            raise LockHeld(f"{session.environment.name}: a living run holds the lock, which only "
                           f"itself lets go: {describe(answer['held'])}")
        if answer["lifted"]:
            session.lines.write(f"no longer {describe_freeze(answer['lifted'])}")
        if answer["cleared"]:
            session.lines.write(f"cleared: {describe(dict(answer['cleared'], alive=False))}")
        if not answer["lifted"] and not answer["cleared"]:
            session.lines.write(f"{session.environment.name} was not locked")
