"""What is where: every task that only looks."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from fabfile import typed
from fabfile.display.lines import fold
from fabfile.engine import closing, probe, rotation
from fabfile.engine.journal import read, runs
from fabfile.engine.lock import ago, describe, describe_freeze
from fabfile.environment import Environment
from fabfile.errors import Pending, Refused, Unavailable
from fabfile.maintenance import lines as page_lines
from fabfile.report import states
from fabfile.session import Session, connected
from fabfile.strategies import preflight
from roles import scheduler
from roles.app import AppSettings
from roles.deploy import DeploySettings
from roles.maintenance import Closed
from roles.role import HostFacts


def show_status(env: str, inventory: str, hosts: str | None, as_json: bool) -> None:
    """``fab status``: every host that answers is shown, and every one that does not is named.

    Exit 69 when a host did not answer, 4 when something is unfinished.
    """
    with connected(env, inventory, hosts, as_json) as session:
        facts, failed = probe.look(session.transport, session.environment, session.wanted)
        authority = facts.get(session.environment.migration_host.name)
        out = _out_of_rotation(session, facts)
        waiting = _waiting(session, out)
        unfinished = _unfinished(session, facts, authority, waiting)
        if not (authority and authority.lock and authority.lock["alive"]):
            unfinished += [f"{name}: gets no requests ({where}); bring it back: "
                           f"fab start --env={session.environment.name} --hosts={name}"
                           for name, where in out.items() if name not in waiting]
        closed = _closed(session)
        if closed and closed.by_run and not (authority and authority.lock
                                             and authority.lock["alive"]):
            unfinished.append(f"the site is closed by a run that did not open it again: "
                              f"fab maintenance.status --env={session.environment.name}")
        if as_json:
            print(json.dumps({
                "environment": session.environment.name,
                "hosts": {name: _brief(each) for name, each in facts.items()},
                "failed": {name: {"kind": each.kind.value, "reason": probe.explain(each)}
                           for name, each in failed.items()},
                "lock": authority.lock if authority else None,
                "freeze": authority.freeze if authority else None,
                "job": authority.job if authority else None,
                "owed": authority.owed if authority else {},
                "closed": asdict(replace(closed, secret="")) if closed else None,
                "unfinished": unfinished,
                "last_run": _last_run(session.environment),
            }, indent=1, sort_keys=True))
        else:
            _print_status(session, facts, authority)
            if closed and session.environment.site:
                about = page_lines(session.environment.site, closed, session.environment.name)
                session.lines.write(about[0])
            for name in waiting:
                session.lines.write(f"{name} waits: the balancer sends it no requests")
            paused = fold(name for name, each in facts.items() if each.paused is not None)
            if paused:
                session.lines.write(f"timers and cron's jobs are paused on {paused}, as everything "
                                    f"was stopped: fab start --env={session.environment.name}")
        if failed:
            raise Unavailable("\n".join(f"{name}: {each.kind.value}: {probe.explain(each)}"
                                        for name, each in failed.items()))
        if unfinished:
            raise Pending("\n".join(unfinished))


def _closed(session: Session) -> Closed | None:
    """How the site is closed, as far as whatever stands in front answers."""
    try:
        closed, silent = closing.look_partly(session.transport, closing.site(session.environment))
    except Unavailable as error:
        closed, silent = None, [str(error)]
    for each in silent:
        session.lines.note(each)
    return closed


def _brief(facts: HostFacts) -> dict[str, Any]:
    whole = asdict(facts)
    shown = ("current", "running", "draining", "releases", "services", "free_bytes", "history")
    return {key: whole[key] for key in shown}


def _print_status(
    session: Session, facts: Mapping[str, HostFacts], authority: HostFacts | None
) -> None:
    write = session.lines.write
    several = len({each.current for each in facts.values()}) > 1
    newest = _newest(facts) if several else None
    write(f"{session.environment.app.name} on {session.environment.name}")
    for line in states(facts, newest):
        write(f"  {line}")
    if authority is not None:
        write(f"lock: {describe(authority.lock) if authority.lock else 'free'}")
        if authority.freeze:
            write(describe_freeze(authority.freeze))
    last = _last_run(session.environment)
    if last:
        write(f"last run from here: {last['run']}: {last['task']}: {last['outcome']}, "
              f"{ago(last['at'])} ago")


def _newest(facts: Mapping[str, HostFacts]) -> str | None:
    """The release that the fleet is on, or on its way to: the one switched to most recently."""
    records = [each.history[-1] for each in facts.values() if each.history]
    currents = {each.current for each in facts.values() if each.current}
    if len(currents) == 1:
        return str(currents.pop())
    known = [str(record["release"]) for record in sorted(records, key=lambda r: r["at"])]
    unrecorded = [each for each in currents if each not in known]
    return str(unrecorded[0]) if unrecorded else (known[-1] if known else None)


def _unfinished(
    session: Session, facts: Mapping[str, HostFacts], authority: HostFacts | None,
    waiting: Collection[str],
) -> list[str]:
    """In words, whatever a run has left half done; one that lives is still about to do it."""
    found: list[str] = []
    if authority and authority.lock and authority.lock["alive"]:
        return found
    again = typed.again(session.environment)
    currents = {each.current for name, each in facts.items() if name not in waiting}
    if len(currents) > 1:
        found.append(f"the hosts are on different releases; finish it: {again}")
    for name, each in facts.items():
        if each.current and each.working and each.working != (each.current,):
            found.append(f"{name}: current is {each.current}, but {', '.join(each.working)} runs; "
                         f"finish it: {again}")
    for host in session.environment.scheduler_hosts:
        unit = scheduler.unit(session.environment.of(AppSettings, "app", host))
        state = facts[host.name].services.get(unit) if host.name in facts else "active"
        if state != "active" and facts[host.name].current:
            found.append(f"{host.name}: the scheduler does not run ({unit} {state}); start it: "
                         f"fab start --env={session.environment.name} --hosts={host.name}")
    if authority and authority.lock and not authority.lock["alive"]:
        found.append(f"a run did not end: {describe(authority.lock)}; run it again: {again}")
    for name, debt in (authority.owed if authority else {}).items():
        found.append(f"{name}: skipped {ago(debt['since'])} ago, when {debt['release']} was "
                     f"deployed, and has to catch up: fab deploy --env={session.environment.name}"
                     f"{' --ref=' + debt['ref'] if debt.get('ref') else ''}")
    if authority and authority.job and authority.job["alive"]:
        found.append(f"a migration runs on {authority.host} since {ago(authority.job['started'])}; "
                     f"follow it: {again}")
    return found


def _out_of_rotation(session: Session, facts: Mapping[str, HostFacts]) -> dict[str, str]:
    """{host: where} of those that get no requests."""
    if session.environment.migration_host.name not in facts:
        return {}
    there = replace(session, facts=dict(facts),
                    hosts=tuple(host for host in session.hosts if host.name in facts))
    targets = there.fleet_of("").targets if there.hosts else ()
    return rotation.drained(session.transport, session.environment, targets)


def _waiting(session: Session, out: Mapping[str, str]) -> list[str]:
    """The group that waits, where two take turns: all that is out, if it is one whole group."""
    settings = session.environment.of(DeploySettings, "deploy")
    if settings.strategy != "blue-green":
        return []
    groups = [{host.name for host in session.environment.hosts if group in host.groups}
              for group in settings.blue_green.groups]
    return sorted(out) if {*out} in groups else []


def _last_run(environment: Environment) -> dict[str, Any] | None:
    known = runs(environment.key)
    if not known:
        return None
    events = list(read(known[-1]))
    if not events:
        return None
    ended = [event for event in events if event["event"] == "ended"]
    return {"run": known[-1].stem, "task": events[0].get("task"), "at": events[-1]["at"],
            "outcome": ended[-1]["outcome"] if ended else "did not end"}


def list_releases(env: str, inventory: str, hosts: str | None, as_json: bool) -> None:
    """``fab releases``."""
    with connected(env, inventory, hosts, as_json) as session:
        session.probe()
        facts = {host.name: session.facts[host.name] for host in session.hosts}
        rows = releases(facts)
        if as_json:
            print(json.dumps(rows, indent=1, sort_keys=True))
            return
        if not rows:
            session.lines.write("nothing was deployed yet")
        for row in rows:
            at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(row["at"])) if row["at"] else "-"
            where = "" if row["everywhere"] else f"  only on {', '.join(row['hosts'])}"
            mark = "*" if row["current"] else " "
            good = "good" if row["at"] else "staged, never good"
            session.lines.write(f"{mark} {row['release']}  {at}  {row['commit'][:7] or '-':7}  "
                                f"{row['ref'] or '-'}  {good}{where}")


def releases(facts: Mapping[str, HostFacts]) -> list[dict[str, Any]]:
    """Every release that some host has, the newest first."""
    records: dict[str, Mapping[str, Any]] = {}
    for each in facts.values():
        for record in each.history:
            # Going back to a release says nothing new of where it came from.
            known = records.get(record["release"], {})
            records[record["release"]] = {**known, **{k: v for k, v in record.items() if v}}
    ids = {release for each in facts.values() for release in each.releases}
    rows = []
    for release in ids:
        having = [name for name, each in facts.items() if release in each.releases]
        record = records.get(release, {})
        rows.append({
            "release": release, "at": record.get("at", 0), "commit": record.get("commit", ""),
            "ref": record.get("ref", ""), "hosts": having, "everywhere": len(having) == len(facts),
            "current": [name for name, each in facts.items() if each.current == release],
        })
    return sorted(rows, key=lambda row: (row["at"] or float("inf"), row["release"]), reverse=True)


def check_hosts(env: str, inventory: str, hosts: str | None, as_json: bool) -> None:
    """``fab hosts.check``: exit 0 when every host can be deployed to, 3 or 69 when not."""
    with connected(env, inventory, hosts, as_json) as session:
        facts, failed = probe.look(session.transport, session.environment, session.wanted)
        session.facts = facts
        there = tuple(host for host in session.hosts if host.name in facts)
        lines: list[str] = []
        if there and session.environment.migration_host.name in facts:
            fleet = replace(session, hosts=there).fleet_of("")
            lines = preflight.problems(fleet)
        lines += [f"{name}: {each.kind.value}: {probe.explain(each)}"
                  for name, each in failed.items()]
        if as_json:
            print(json.dumps({"problems": lines, "hosts": {n: asdict(f) for n, f in facts.items()}},
                             indent=1, sort_keys=True))
        else:
            for host in there:
                if not any(line.startswith(f"{host.name}: ") for line in lines):
                    each = facts[host.name]
                    session.lines.write(
                        f"{host.name}: ready: {each.user}, Python {each.python}, {each.libc}, "
                        f"{preflight.megabytes(each.free_bytes)} MB free"
                    )
        if lines:
            raise (Unavailable if failed else Refused)("\n".join(lines))


def show_inventory(env: str, inventory: str, as_json: bool) -> None:
    """``fab inventory``: hosts, groups and settings; with JSON as ``ansible-inventory --list``."""
    from fabfile.environment import inventories_root, open_environment
    from inventories.load import load

    if as_json:
        print(json.dumps(load(env, inventories_root(inventory or None)).listing(), indent=4,
                         sort_keys=True, default=str))
        return
    environment = open_environment(env, inventory or None)
    print(f"{environment.name} ({environment.inventory.path})")
    for name in environment.inventory.groups:
        members = ", ".join(host.name for host in environment.inventory.group(name))
        if members and name != "all":
            print(f"  {name}: {members}")
    print(f"migrations and the lock: {environment.migration_host.name}")
    for host in environment.hosts:
        connection = host.connection
        print(f"{host.name}: {connection.kind} {connection.user or ''}@{connection.address}")
        for role, settings in environment.settings[host.name].items():
            for key, value in settings.model_dump(exclude_defaults=True).items():
                print(f"  {role}.{key}: {_masked(key, value)}")


def _masked(key: str, value: Any) -> str:
    """Names that look like secrets are never printed with their values."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_masked(name, each)}" for name, each in value.items())
    telling = ("secret", "password", "passwd", "token", "key", "dsn", "database_url", "credential")
    return "***" if any(word in key.lower() for word in telling) else str(value)
