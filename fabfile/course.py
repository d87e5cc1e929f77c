"""The course of a deploy: load, probe, stage, ask Django, release. Each plan is shown before it
runs; a dry run does the reading half of both."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fabfile.display import plans as text
from fabfile.engine import scratch
from fabfile.engine.django import Pending, ask_pending
from fabfile.engine.source import Source
from fabfile.errors import Refused, UsageError
from fabfile.plan import Plan, to_json
from fabfile.session import Run, Session, confirm, connected
from fabfile.strategies import rolling, staging, together
from fabfile.strategies.targets import Fleet
from roles.role import Target

STRATEGIES = {"rolling": rolling.plan, "together": together.plan}


@dataclass(frozen=True)
class Wish:
    """What was typed."""

    env: str
    inventory: str
    hosts: str | None
    ref: str | None
    worktree: bool
    strategy: str
    yes: bool
    json: bool

    def again(self, environment: str) -> str:
        """The same command once more."""
        words = ["fab", "deploy", f"--env={environment}"]
        words += [f"--{name}={value}" for name, value in (
            ("inventory", self.inventory), ("hosts", self.hosts), ("ref", self.ref),
            ("strategy", self.strategy)) if value]
        words += ["--worktree"] if self.worktree else []
        return shlex.join(words)


def carry_out(wish: Wish) -> None:
    """``fab deploy``."""
    started = time.monotonic()
    with connected(wish.env, wish.inventory, wish.hosts, wish.json) as session:
        strategy = _strategy(wish, session)
        session.find_secrets()
        source = _prepared(wish, session)
        fleet = session.fleet(source)
        session.refuse_problems(fleet)
        show_plans(session, False, full=False, plans=[staging.plan(fleet)])
        confirm(session, wish.yes)
        again = wish.again(session.environment.name)
        with session.run("deploy") as run:
            fleet = session.fleet(source)
            _stage(run, fleet, again)
            fleet = _with_pending(session, fleet, ask_pending_where_needed(session, fleet))
            session.refuse_filter(fleet)
            plan = STRATEGIES[strategy](fleet)
            show_plans(session, False, full=False, plans=[plan])
            run.execute_or_fail(plan, again)
        _done(session, fleet, plan, time.monotonic() - started)
        if wish.json:
            print(json.dumps({"release": fleet.release.id, "commit": fleet.release.commit,
                              "hosts": [target.name for target in fleet.targets],
                              "migrations": list(fleet.pending), "urls": urls(session)},
                             indent=1, sort_keys=True))


def _stage(run: Run, fleet: Fleet, again: str) -> None:
    plan = staging.plan(fleet)
    result = run.execute(plan)
    if result:
        return
    error = run.failure(plan, result, again)
    if isinstance(error, Refused):
        run.execute(staging.discard(fleet))
    raise error


def show_only(wish: Wish) -> None:
    """``fab plan`` and ``fab deploy --dry-run``: both plans, from what a scratch copy tells."""
    with connected(wish.env, wish.inventory, wish.hosts, wish.json) as session:
        strategy = _strategy(wish, session)
        fleet = session.fleet(_prepared(wish, session))
        session.refuse_problems(fleet)
        pending = Pending((), ())
        if session.environment.has_migrations:
            with _readable(session, fleet) as target:
                pending = ask_pending(session.transport, target)
        fleet = _with_pending(session, fleet, pending)
        session.refuse_filter(fleet)
        both = [staging.plan(fleet), STRATEGIES[strategy](fleet)]
        show_plans(session, wish.json, full=True, plans=both)


@contextmanager
def _readable(session: Session, fleet: Fleet) -> Iterator[Target]:
    """A place on the migration host where the release can be asked, without staging it."""
    target = fleet.migration
    if target.release.id in target.facts.releases:
        yield target
    else:
        with scratch.copy(session.transport, target) as place:
            yield place


def _strategy(wish: Wish, session: Session) -> str:
    chosen = wish.strategy or session.environment.strategy
    if chosen not in STRATEGIES:
        raise UsageError(f"--strategy={chosen}: expected one of {', '.join(STRATEGIES)}")
    return chosen


def _prepared(wish: Wish, session: Session) -> Source:
    """Hosts are looked at while the tree is exported."""
    source = session.export(wish.ref, wish.worktree)
    session.probe()
    return source


def ask_pending_where_needed(session: Session, fleet: Fleet) -> Pending:
    if not session.environment.has_migrations:
        return Pending((), ())
    target = fleet.migration
    if target.name not in {each.name for each in fleet.targets}:
        # The migration host is outside of --hosts, so the release was not staged there.
        with _readable(session, fleet) as place:
            return ask_pending(session.transport, place)
    return ask_pending(session.transport, target)


def _with_pending(session: Session, fleet: Fleet, pending: Pending) -> Fleet:
    if pending.ahead:
        session.lines.note(
            "the database has migrations that this release has not: " + ", ".join(pending.ahead)
        )
    return replace(fleet, pending=pending.migrations)


def show_plans(session: Session, as_json: bool, full: bool, plans: Sequence[Plan]) -> None:
    if as_json:
        print(json.dumps({"plans": [to_json(plan) for plan in plans]}, indent=1, sort_keys=True))
        return
    for plan in plans:
        for line in text.full(plan) if full else text.brief(plan):
            session.lines.write(line)


def _done(session: Session, fleet: Fleet, plan: Plan, seconds: float) -> None:
    rolled = any(name == "release.switch" for name in (step.name for _, step in plan.steps()))
    what = "serves" if rolled else "already served"
    count = len(fleet.targets)
    session.lines.write(f"{session.environment.app.name} {fleet.release.id} {what} on {count} "
                        f"host{'' if count == 1 else 's'} ({seconds:.1f} s)")
    for url in urls(session):
        session.lines.write(f"  {url}")


def urls(session: Session) -> list[str]:
    """What the hosts' settings say answers now, each once."""
    from roles.app import AppSettings

    found = [url for host in session.hosts
             for url in session.environment.of(AppSettings, "app", host).urls]
    return list(dict.fromkeys(found))
