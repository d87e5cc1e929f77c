"""``fab backup``, ``fab backup.list`` and ``fab backup.drill``: all of it on the migration host."""

from __future__ import annotations

import json
import time
from typing import Any

from fabfile.engine import backups
from fabfile.engine.backups import Record
from fabfile.errors import Refused
from fabfile.plan import Plan, Stage, Turn
from fabfile.session import Session, connected
from roles import backup
from roles.role import Target


def take(env: str, inventory: str, dry_run: bool, as_json: bool) -> None:
    """``fab backup``."""
    with connected(env, inventory, json=as_json) as session:
        target = migration_target(session)
        found = backups.check(session.transport, target)
        if found["problems"]:
            raise Refused("\n".join([*(f"{target.name}: {line}" for line in found["problems"]),
                                     "nothing was changed"]))
        if dry_run:
            line = (f"a backup would be kept in {target.name}:{found['folder']} and take up to "
                    f"{_size(found['expected'])}")
            _tell(session, as_json, found, [line])
            return
        again = f"fab backup --env={session.environment.name}"
        with session.run("backup") as run:
            key = run.runner.journal.run
            turn = Turn(target.name, (backup.dump(target, key),))
            stage = Stage("backup", "once", (turn,))
            run.execute_or_fail(Plan("backup", session.environment.name, target.release.id,
                                     "backup", (stage,)), again)
        made = backups.of_key(session.transport, target, key)
        _tell(session, as_json, made, [line for each in made for line in described(target, each)])


def show(env: str, inventory: str, as_json: bool) -> None:
    """``fab backup.list``."""
    with connected(env, inventory, json=as_json) as session:
        found = backups.listing(session.transport, _migration_target(session))
        host = session.environment.migration_host.name
        lines = [listed(each) for each in reversed(found["backups"])]
        lines = [f"{host}:{found['folder']}", *lines] if lines else ["there is no backup yet"]
        lines += [drill_line(each) for each in found["drills"][-1:]] or ["never drilled"]
        _tell(session, as_json, found, lines)


def practise(env: str, inventory: str, file: str, as_json: bool) -> None:
    """``fab backup.drill``."""
    with connected(env, inventory, json=as_json) as session:
        target = migration_target(session)
        found = backups.drill(session.transport, target, file or None)["drills"]
        lines = [line for each in found for line in drilled(target, each)]
        _tell(session, as_json, found, lines)


# --- the one host ------------------------------------------------------------------------------


def migration_target(session: Session) -> Target:
    """The migration host with the release that is current there. Raises :class:`Refused`."""
    target = _migration_target(session)
    session.deployed_on(target.host)
    return target


def _migration_target(session: Session) -> Target:
    """Only this host is looked at: what the others do is of no importance here."""
    authority = session.environment.migration_host
    session.hosts = (authority,)
    facts = session.probe()[authority.name]
    return session.fleet_of(facts.current or "").migration


# --- in words ----------------------------------------------------------------------------------


def _tell(session: Session, as_json: bool, value: Any, lines: list[str]) -> None:
    if as_json:
        print(json.dumps(value, indent=1, sort_keys=True))
        return
    for line in lines:
        session.lines.write(line)


def described(target: Target, record: Record) -> list[str]:
    if "reference" in record:
        return [f"backup.command: {record['reference']} ({record['seconds']:.1f} s)"]
    size, seconds = _size(record["bytes"]), record["seconds"]
    return [
        f"{record['alias']} ({record['vendor']}): {target.name}:{record['file']}",
        f"  {size} in {seconds:.1f} s, sha256 {record['sha256']}",
    ]


def listed(record: Record) -> str:
    at = _time(record["started"])
    if "reference" in record:
        return f"{at}  backup.command: {record['reference']}"
    gone = "" if record["there"] else "  GONE"
    return (f"{at}  {record['name']}  {_size(record['bytes'])} in "
            f"{record['seconds']:.1f} s  release {record['release']}{gone}")


def drill_line(record: Record) -> str:
    how = "went well" if record["ok"] else f"FAILED: {record['error'].splitlines()[0]}"
    return f"last drill: {_time(record['at'])}, {record['seconds']:.1f} s: {how}"


def drilled(target: Target, found: Record) -> list[str]:
    """What a drill has found, and how each table's rows compare with the live ones."""
    rows, release = found["rows"], target.release.id
    width = max(map(len, rows), default=0)
    pending, ahead = ", ".join(found["pending"]), ", ".join(found["ahead"])
    took = f"{found['restore_seconds']:.1f} s ({found['seconds']:.1f} s with all checks)"
    lines = [
        f"{found['alias']} ({found['vendor']}): {found['file']} was restored in {took}",
        f"  migrations that {release} would still run there: {pending or 'none'}",
    ]
    if ahead:
        lines.append(f"  migrations there that {release} has not: {ahead}")
    lines.append(f"  {'rows':{width}} {'backup':>12} {'live now':>12}")
    return lines + [f"  {table:{width}} {_count(then):>12} {_count(now):>12}"
                    for table, (then, now) in rows.items()]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} kB"


def _count(rows: int | None) -> str:
    return "no table" if rows is None else str(rows)


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
