"""The course of a deploy: load, probe, stage, ask Django, release. Each plan is shown before it
runs; a dry run does the reading half of both."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from pydantic import ValidationError

from fabfile import typed
from fabfile.agreement import agree, contract
from fabfile.announcing import Announcer, announcing
from fabfile.approval import Approved
from fabfile.display import plans as text
from fabfile.display.lines import fold
from fabfile.engine import closing, rotation
from fabfile.engine.source import Source
from fabfile.errors import (
    FabfleetError,
    Failed,
    Interrupted,
    Pending,
    Refused,
    Unavailable,
    UsageError,
)
from fabfile.maintenance import lines as page_lines
from fabfile.plan import Plan, to_json
from fabfile.session import Run, Session, confirm, connected
from fabfile.strategies import blue_green, contracting, rolling, stages, staging, together
from fabfile.strategies.targets import Fleet
from fabfile.windows import Deadline, may_begin
from roles.deploy import DeploySettings
from roles.migrations import Portion

STRATEGIES = {"rolling": rolling.plan, "together": together.plan, "blue-green": blue_green.plan}


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
    maintenance: bool = False
    accept_risk: tuple[str, ...] = ()
    approved_plan: str = ""
    batch: str = ""
    on_failure: str = ""
    skip_unreachable: bool = False
    outside_window: bool = False
    # Where it was scheduled: when it begins (seconds since the epoch; 0: now), whether the ref is
    # the commit that was pinned then, how it was called, the plan that may run, and what the status
    # page calls it.
    at: float = 0
    pinned: bool = False
    called: str = ""
    approved: Approved | None = None
    incident: str = ""

    def again(self, environment: str) -> str:
        """The same command once more."""
        words = ["fab", "deploy", f"--env={environment}"]
        words += [f"--{name}={value}" for name, value in (
            ("inventory", self.inventory), ("hosts", self.hosts), ("ref", self.ref),
            ("strategy", self.strategy), ("approved-plan", self.approved_plan),
            ("batch", self.batch), ("on-failure", self.on_failure)) if value]
        words += [f"--accept-risk={name}" for name in self.accept_risk]
        words += ["--worktree"] if self.worktree else []
        words += ["--maintenance"] if self.maintenance else []
        words += ["--skip-unreachable"] if self.skip_unreachable else []
        words += ["--outside-window"] if self.outside_window else []
        return shlex.join(words)


def _opened(wish: Wish) -> AbstractContextManager[Session]:
    return connected(wish.env, wish.inventory, wish.hosts, wish.json, wish.skip_unreachable)


def carry_out(wish: Wish) -> None:
    """``fab deploy``."""
    started = time.monotonic()
    with _opened(wish) as session:
        strategy = _strategy(wish, session)
        deadline = _deadline(wish, session, strategy)
        session.find_secrets()
        source = _prepared(wish, session)
        fleet = _chosen(wish, session.fleet(source), strategy)
        session.refuse_problems(fleet)
        if wish.approved:
            wish.approved.check_hooks(fleet.hooks)
        show_plans(session, False, full=False, plans=[staging.plan(fleet)])
        confirm(session.environment, wish.yes)
        again = wish.again(session.environment.name)
        with announcing(session, wish.incident) as tell, session.run("deploy") as run:
            run.runner.too_late = deadline.too_late if deadline else None
            tell.begin(fleet, "deploy")
            fleet = looked(session, _chosen(wish, session.fleet(source), strategy))
            fleet = replace(fleet, until=deadline.window.end if deadline else 0)
            _stage(run, fleet, again)
            try:
                fleet = agree(session, fleet, wish, strategy == "together", staged=True)
                session.refuse_filter(fleet)
                plan, *later = _release_plans(fleet)
                if wish.approved:
                    wish.approved.check(approvable(fleet))
            except Refused as error:
                run.execute(staging.discard(fleet))
                if fleet.site is None or fleet.closed is None:
                    raise
                told = page_lines(fleet.site, fleet.closed, fleet.environment)[0]
                raise Refused(f"{error}\n{told}") from None
            _show_release(session, fleet, [plan, *later])
            with said_if_closed(session, fleet, tell):
                if wish.maintenance or fleet.site or strategy != "together":
                    tell.about(plan, is_open=fleet.closed is None)
                run.execute_or_fail(plan, again)
            _done(session, fleet, plan, time.monotonic() - started)
            if session.downtime.seconds:
                session.lines.write(f"closed for {session.downtime.seconds:.1f} s")
            if deadline and deadline.overrun:
                session.lines.note(deadline.overrun)
            try:
                contract(run, fleet)
            except Pending:
                _tell(wish, session, fleet, left=fleet.contract)
                raise
        _tell(wish, session, fleet)
        if fleet.skipped:
            raise Pending(f"{', '.join(fleet.skipped)} did not answer and has to catch up, when it "
                          f"does: {replace(wish, skip_unreachable=False).again(fleet.environment)}")


def _show_release(session: Session, fleet: Fleet, plans: Sequence[Plan]) -> None:
    show_plans(session, False, full=False, plans=plans)
    if any(stage.name == "stop-tasks" for stage in plans[0].stages):
        for line in staying_off(fleet):
            session.lines.note(line)


def staying_off(fleet: Fleet) -> list[str]:
    """What nobody starts again after everything was stopped, in words."""
    resting = stages.resting(fleet)
    hosts: dict[str, list[str]] = {}
    for target in (*resting.targets, *resting.scheduler_outside):
        for name in sorted(target.off or ()):
            hosts.setdefault(name, []).append(target.name)
    return [f"{fold(where)}: {name} was stopped by somebody, and stays so"
            for name, where in hosts.items()]


@contextmanager
def said_if_closed(session: Session, fleet: Fleet, tell: Announcer) -> Iterator[None]:
    """Whoever is told of a failure is told, too, that visitors see the page, and the ways out."""
    try:
        yield
        tell.page.became = "done"
    except Refused:
        tell.page.became = "" if fleet.closed else "undone"
        raise
    except (Failed, Interrupted) as error:
        try:
            closed, silent = closing.look_partly(session.transport, fleet.site)
        except FabfleetError:
            closed = None  # it was cut off, or nobody answers, which is told already
        else:
            unknown = closed or silent or session.downtime.stopped
            tell.page.became = "" if unknown else "undone"
        if fleet.site is None or closed is None:
            raise
        told = "\n".join(page_lines(fleet.site, closed, fleet.environment,
                                    typed.again(session.environment)))
        raise type(error)(f"{error}\n{told}") from None


def _tell(wish: Wish, session: Session, fleet: Fleet, left: Portion | None = None) -> None:
    """What became of it, for programs; ``left`` are migrations that have to wait."""
    if wish.json:
        waiting = left.names if left else ()
        print(json.dumps({"release": fleet.release.id, "commit": fleet.release.commit,
                          "hosts": [target.name for target in fleet.targets],
                          "skipped": list(fleet.skipped),
                          "migrations": [n for n in fleet.pending if n not in waiting],
                          "waiting": list(waiting), "urls": urls(session)},
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
    with _opened(wish) as session:
        show_plans(session, wish.json, full=True, plans=[*read_only(wish, session)[1]])


def read_only(wish: Wish, session: Session) -> tuple[Fleet, list[Plan]]:
    """The fleet as it would be, and the plans of a deploy, without changing anything."""
    strategy = _strategy(wish, session)
    deadline = None
    with nullcontext() if wish.at else suppress(Refused):
        deadline = _deadline(wish, session, strategy)
    fleet = _chosen(wish, session.fleet(_prepared(wish, session)), strategy)
    fleet = replace(looked(session, fleet), until=deadline.window.end if deadline else 0)
    session.refuse_problems(fleet)
    fleet = agree(session, fleet, wish, strategy == "together")
    session.refuse_filter(fleet)
    return fleet, [staging.plan(fleet), *_release_plans(fleet)]


def _deadline(wish: Wish, session: Session, strategy: str) -> Deadline | None:
    """Raises :class:`Refused` where everything would stop outside of a window."""
    if strategy != "together" or wish.outside_window:
        return None
    return may_begin(session.environment, wish.at or time.time())


def _release_plans(fleet: Fleet) -> list[Plan]:
    """What follows when all is staged."""
    later = [contracting.plan(fleet)] if fleet.contract and not blue_green.behind(fleet) else []
    return [STRATEGIES[fleet.deploy.strategy](fleet), *later]


def approvable(fleet: Fleet) -> list[Plan]:
    """Those, without what may be another value by itself: the name of who runs it and of his
    machine, and when the window is over that it happens to be in."""
    return _release_plans(replace(fleet, who="", until=0))


def looked(session: Session, fleet: Fleet) -> Fleet:
    """The fleet with what stands in front of it says: whether it is closed and, where the strategy
    has to know, who gets requests. Raises :class:`Refused` where a person has put our stand-in in
    the servers' place, which a deploy would take away, and :class:`Unavailable` where somebody does
    not answer who has to later."""
    fleet = replace(fleet, closed=closing.look(session.transport, fleet.site))
    if fleet.site and fleet.site.stands and fleet.closed and not fleet.closed.by_run:
        raise Refused(f"{page_lines(fleet.site, fleet.closed, fleet.environment)[0]}; open it "
                      f"first: fab maintenance.off --env={fleet.environment}")
    if fleet.deploy.strategy == "together":
        rotation.refuse_silent(session.environment, fleet.targets)
    if fleet.deploy.strategy != "blue-green":
        return fleet
    return replace(fleet, rotating=rotation.rotating(
        session.transport, session.environment, fleet.targets))


def _chosen(wish: Wish, fleet: Fleet, strategy: str) -> Fleet:
    """The fleet with what was typed instead of what the inventory says of a roll."""
    typed: dict[str, object] = {"strategy": strategy}
    if wish.batch:
        typed["batch"] = [int(each) if each.isdigit() else each for each in wish.batch.split(",")]
    if wish.on_failure:
        typed["on_failure"] = wish.on_failure
    try:
        settings = DeploySettings.model_validate({**fleet.deploy.model_dump(), **typed})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--{key.replace('_', '-')}={getattr(wish, key)}: {said}") from None
    return replace(fleet, deploy=settings)


def _strategy(wish: Wish, session: Session) -> str:
    if wish.maintenance and wish.strategy not in ("", "together"):
        raise UsageError(f"--maintenance: stops everything, so it cannot be "
                         f"--strategy={wish.strategy}")
    chosen = "together" if wish.maintenance else wish.strategy or session.environment.strategy
    if chosen not in STRATEGIES:
        raise UsageError(f"--strategy={chosen}: expected one of {', '.join(STRATEGIES)}")
    if chosen == "blue-green":
        blue_green.check(session.environment)
        if wish.hosts:
            raise UsageError("--hosts: the balancer flips from one whole group to the other; "
                             "--strategy=rolling reaches single hosts")
    return chosen


def _prepared(wish: Wish, session: Session) -> Source:
    """Hosts are looked at while the tree is exported."""
    source = session.export(wish.ref, wish.worktree, wish.pinned)
    if wish.called:
        source = replace(source, ref=wish.called)
    try:
        session.probe()
    except Unavailable as error:
        authority = session.environment.migration_host.name
        if wish.skip_unreachable or f"\n{authority}: " in f"\n{error}":
            raise  # without the migration host nothing goes
        other = replace(wish, skip_unreachable=True).again(session.environment.name)
        raise Unavailable(f"{error}\nto deploy to the others meanwhile: {other}") from None
    session.refuse_debt()
    return source


def show_plans(session: Session, as_json: bool, full: bool, plans: Sequence[Plan]) -> None:
    if as_json:
        print(json.dumps({"plans": [to_json(plan) for plan in plans]}, indent=1, sort_keys=True))
        return
    for plan in plans:
        for line in text.full(plan) if full else text.brief(plan):
            session.lines.write(line)


def _done(session: Session, fleet: Fleet, plan: Plan, seconds: float) -> None:
    changes = {"release.switch", "balancer.flip"} & {step.name for _, step in plan.steps()}
    what = "serves" if changes else "already served"
    waiting = blue_green.behind(fleet)
    count = len(fleet.targets) - len(waiting)
    session.lines.write(f"{session.environment.app.name} {fleet.release.id} {what} on {count} "
                        f"host{'' if count == 1 else 's'} ({seconds:.1f} s)")
    for url in urls(session):
        session.lines.write(f"  {url}")
    if waiting:
        session.lines.write(f"{fold(target.name for target in waiting)} wait"
                            f"{'s' if len(waiting) == 1 else ''} with the other release: "
                            f"fab rollback --env={fleet.environment} flips back, "
                            f"fab deploy.finish --env={fleet.environment} ends that")


def urls(session: Session) -> list[str]:
    """What the hosts' settings say answers now, each once."""
    from roles.app import AppSettings

    found = [url for host in session.hosts
             for url in session.environment.of(AppSettings, "app", host).urls]
    return list(dict.fromkeys(found))
