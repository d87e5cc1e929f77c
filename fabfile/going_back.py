"""``fab rollback``: the code of an earlier release, and what the database allows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fabfile.agreement import settled
from fabfile.announcing import announcing
from fabfile.course import looked, said_if_closed, show_plans
from fabfile.engine.django import ask_plan, question
from fabfile.errors import Refused, UsageError
from fabfile.plan import Plan
from fabfile.session import Session, confirm, connected
from fabfile.strategies import blue_green, reversing, rollback
from fabfile.strategies.closing import back_to, brought
from fabfile.strategies.reversing import Targets, WayBack
from fabfile.strategies.targets import Fleet
from roles.role import Target


@dataclass(frozen=True)
class Wish:
    """What was typed."""

    env: str
    inventory: str
    hosts: str | None
    to: str | None
    reverse: bool
    maintenance: bool
    accept_risk: tuple[str, ...]
    yes: bool
    json: bool

    def again(self, base: str) -> str:
        """The same command once more, which ``base`` begins."""
        words = [f"--{name}={value}" for name, value in (
            ("inventory", self.inventory), ("hosts", self.hosts)) if value]
        words += ["--reverse"] if self.reverse else []
        words += ["--maintenance"] if self.maintenance else []
        words += [f"--accept-risk={name}" for name in self.accept_risk]
        return f"{base} {shlex.join(words)}".rstrip()


def roll_back(wish: Wish, dry_run: bool) -> None:
    """``fab rollback``, and with ``dry_run`` only its plan."""
    if wish.maintenance and not wish.reverse:
        raise UsageError("--maintenance: only with --reverse; code alone goes back while it serves")
    with connected(wish.env, wish.inventory, wish.hosts, wish.json) as session:
        session.probe()
        chosen = _chosen(session, wish)
        again = f"fab rollback --env={session.environment.name} --to={chosen}"
        whole = wish.again(again)
        plan = _planned(session, chosen, wish, again)
        show_plans(session, wish.json, full=dry_run, plans=[plan])
        if dry_run:
            return
        confirm(session.environment, wish.yes)
        fleet = session.fleet_of(chosen)
        with (announcing(session) as tell, session.run("rollback") as run,
              said_if_closed(session, fleet, tell)):
            tell.begin(fleet, "rollback")
            plan = _planned(session, chosen, wish, again)
            tell.about(plan)
            run.execute_or_fail(plan, whole)
        waits = session.environment.strategy == "blue-green"
        session.lines.write(f"{chosen} serves again" if waits else
                            f"every host is back on {chosen}")


def _chosen(session: Session, wish: Wish) -> str:
    facts = [session.facts[host.name] for host in session.hosts]
    if wish.to:
        return rollback.choose(facts, session.environment.name, wish.to)
    fleet = looked(session, session.fleet_of(""))
    before = _before_the_window(fleet) if wish.reverse else None
    return before or _waiting(fleet) or rollback.choose(facts, fleet.environment, None)


def _before_the_window(fleet: Fleet) -> str | None:
    """The release that was good when a run closed the site, which it did not open again; it may be
    current still. Where that run was on its way back, the one that it was on its way to."""
    if fleet.closed is None or not fleet.closed_by_run:
        return None
    if target := back_to(fleet.closed):
        return target
    left = {target.facts.current for target in fleet.targets} - {brought(fleet.closed)}
    return left.pop() if len(left) == 1 else None


def _waiting(fleet: Fleet) -> str | None:
    """The release of the group that waits, which the balancer can flip to at once."""
    if fleet.deploy.strategy != "blue-green":
        return None
    both = blue_green.sides(fleet)
    waits, serves = ({target.facts.current for target in side}
                     for side in (both.enter, both.leave))
    return waits.pop() if len(waits) == 1 and waits != serves else None


def _planned(session: Session, chosen: str, wish: Wish, again: str) -> Plan:
    fleet = replace(looked(session, session.fleet_of(chosen)), back=True)
    way = _way_back(session, fleet)
    alone = ("--reverse: nothing has to be taken back; the code goes back while it serves",)
    if way is None:
        return rollback.plan(fleet, (rollback.STAYS, *(alone if wish.reverse else ())))
    partly = None
    if way.unsafe:
        partly = _ask(session, fleet.migration.on(way.release), reversing.least(way))
    if wish.reverse and partly is not None:
        reversing.refuse_incomplete(partly, wish.maintenance, again)
        knowing = fleet.migration.on(partly.release)
        if wish.maintenance:
            fleet = settled(session, fleet)
        return rollback.with_reverse(fleet, knowing, partly.portion, wish.maintenance)
    reversing.refuse_unsafe(way, partly, wish.accept_risk, again)
    newer = ", ".join(step["migration"] for step in way.steps)
    notes = (rollback.STAYS, f"newer than this release, and applied: {newer}")
    return rollback.plan(fleet, (*notes, *(alone if wish.reverse else ())))


def _way_back(session: Session, fleet: Fleet) -> WayBack | None:
    """What the older release does not know, from the release that does; None where it knows all.

    Raises :class:`Refused` where no release on the migration host knows it.
    """
    if not session.environment.has_migrations:
        return None
    host, older = fleet.migration, fleet.release.id
    if older not in host.facts.releases:
        raise Refused(f"{host.name}, the migration host, does not have {older}, so nobody can ask "
                      f"it what it makes of the database; deploy its commit instead")
    judged = ask_plan(session.transport, host)
    if judged.needed and fleet.closed_by_run:
        raise Refused(f"the site is closed, and {older} cannot live without "
                      f"{', '.join(judged.needed)}, which the database has not; deploy it instead, "
                      f"which brings them: fab deploy --env={fleet.environment} --maintenance "
                      f"--ref=...")
    targets = reversing.whole(judged)
    if not targets:
        return None
    missing: Sequence[str] = judged.ahead
    for release in _newest_first(host, older):
        way = _ask(session, host.on(release), targets)
        missing = reversing.missing(judged, way)
        if not missing:
            return way
    raise Refused(
        f"{older} does not know these applied migrations, and no release on {host.name} does: "
        f"{', '.join(missing)}. Deploy a release that has them, then go back from there"
    )


def _newest_first(host: Target, older: str) -> list[str]:
    """The releases that may know more, what serves first."""
    known = [str(each["release"]) for each in host.facts.history]
    others = sorted(host.facts.releases, reverse=True,
                    key=lambda release: (known.index(release) if release in known else -1, release))
    ordered = [host.facts.current or "", *others]
    return [each for each in dict.fromkeys(ordered) if each and each != older]


def _ask(session: Session, target: Target, targets: Targets) -> WayBack:
    back: Mapping[str, list[list[str]]] = {
        alias: [list(each) for each in names] for alias, names in targets.items()}
    answer = question(session.transport, target, back=back)["back"]
    return WayBack(target.release.id, targets, answer)
