"""Which migrations run, and when: what Django says, what was typed, what the inventory wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from fabfile.display.lines import fold
from fabfile.engine import backups, scratch
from fabfile.engine.django import ask_plan
from fabfile.errors import FabfleetError, Pending, Refused
from fabfile.session import Run, Session
from fabfile.strategies import blue_green, contracting, migrating
from fabfile.strategies.targets import Fleet
from roles import backup, wsgi
from roles.migrations import Judged, Portion
from roles.role import Target

if TYPE_CHECKING:
    from fabfile.course import Wish


@contextmanager
def readable(session: Session, fleet: Fleet, staged: bool = False) -> Iterator[Target]:
    """A place on the migration host where the release can be asked: itself, or a scratch copy.

    ``staged``: the targets were staged in this run; the migration host may not be one of them.
    """
    target = fleet.migration
    staged = staged and target.name in {each.name for each in fleet.targets}
    if staged or target.release.id in target.facts.releases:
        yield target
    else:
        with scratch.copy(session.transport, target) as place:
            yield place


def agree(
    session: Session, fleet: Fleet, wish: Wish, closes: bool, staged: bool = False
) -> Fleet:
    """The fleet with what is to be migrated, and when. ``closes``: nothing serves meanwhile.

    Raises :class:`Refused` where that is not safe, or no backup can be made that it needs.
    """
    if not session.environment.has_migrations:
        return fleet
    with readable(session, fleet, staged) as target:
        judged = ask_plan(session.transport, target)
        migrating.refuse_old_code_later(judged, fleet.skipped, wish.accept_risk, closes,
                                        _outside(session, fleet))
        migrating.refuse_other_plan(judged, wish.approved_plan)
        if closes:
            expand, contract = migrating.everything(judged, wish.accept_risk), None
            fleet = settled(session, fleet)
        else:
            again = replace(wish, accept_risk=()).again(fleet.environment)
            expand, contract = migrating.while_it_serves(
                judged, wish.accept_risk, again, window=f"{again} --maintenance")
        _refuse_scheduler_out_of_reach(session, fleet, [*judged.pending])
        return replace(fleet, expand=backed_up(session, target, judged, expand),
                       contract=backed_up(session, target, judged, contract))


def settled(session: Session, fleet: Fleet) -> Fleet:
    """The fleet with whether an earlier run has left it where nobody serves, and whether the code
    that is there may be started again. That costs a question only where one has."""
    now = [each.on(each.facts.current) for each in fleet.targets if each.facts.current]
    if not fleet.closed_by_run and (not now or any(map(wsgi.role.serves, now))):
        return fleet
    others = {each.release.id for each in now} - {fleet.release.id}
    return replace(fleet, left=True,
                   outgrown=not all(_fits(session, fleet, release) for release in others))


def _fits(session: Session, fleet: Fleet, release: str) -> bool:
    """Whether this release knows all that the databases have and, on the way back from it, has all
    that it needs; False where nobody can tell."""
    host = fleet.migration
    if release not in host.facts.releases:
        return False
    try:
        judged = ask_plan(session.transport, host.on(release))
    except FabfleetError:
        return False
    return not judged.ahead and not (fleet.back and judged.needed)


def _refuse_scheduler_out_of_reach(
    session: Session, fleet: Fleet, pending: Sequence[str]
) -> None:
    hosts = session.environment.scheduler_hosts
    if pending and hosts and fleet.scheduler is None:
        raise Refused(f"--skip-unreachable: {hosts[0].name} has the scheduler, which must not run "
                      f"during migrations ({', '.join(pending)}), and does not answer; nothing "
                      f"that serves was changed")


def backed_up(
    session: Session, target: Target, judged: Judged, portion: Portion | None
) -> Portion | None:
    """The portion, after a backup where it needs one; raises :class:`Refused` where that cannot be
    made."""
    if portion is None or not backup.is_wanted(target, judged.phases(portion)):
        return portion
    found = backups.problems(session.transport, target)
    if found:
        names = ", ".join(portion.names)
        what = f"a backup comes before {names} (backup.required), and cannot be made:"
        raise Refused("\n".join([what, *found, "nothing that serves was changed"]))
    return replace(portion, backup=True)


def contract(run: Run, fleet: Fleet) -> None:
    """Run what had to wait for the new code, when no old code runs any more.

    Raises :class:`Pending` where some of it still does.
    """
    if not fleet.contract:
        return
    names = ", ".join(fleet.contract.names)
    finish = f"fab deploy.finish --env={fleet.environment}"
    waits = f"the release serves; waiting for all old code to be gone: {names}"
    waiting = blue_green.behind(fleet)
    if waiting:
        raise Pending(f"{waits}\nthe way back: {fold(each.name for each in waiting)}\n"
                      f"next, when you no longer need it: {finish}")
    outside = _outside(run.session, fleet)
    if outside:
        raise Pending(f"{waits}\nnot in this run: {', '.join(outside)}\n"
                      f"next, when they have the release too: {finish}")
    plan = contracting.plan(fleet)
    result = run.execute(plan)
    if result:
        return
    if result.reached == contracting.DRAIN and result.failures:
        told = "\n".join(f"{each.step.host}: {each.outcome.reason.strip()}"
                         for each in result.failures)
        raise Pending(f"{waits}\n{told}\nnext: {finish}")
    raise run.failure(plan, result, finish)


def _outside(session: Session, fleet: Fleet) -> list[str]:
    """Hosts that get the code and are none of this run's."""
    here = {target.name for target in fleet.targets}
    return [host.name for host in session.environment.hosts if host.name not in here]
