"""Back to an earlier release, one host at a time; the database stays as it is, or is taken back
first where the older code could not live with it."""

from __future__ import annotations

from dataclasses import replace

from fabfile.errors import Refused
from fabfile.plan import Plan, Stage
from fabfile.strategies import blue_green, closing
from fabfile.strategies.scheduling import paused
from fabfile.strategies.stages import (
    confirm_stage,
    each_stage,
    finish_stage,
    for_good,
    migrate_stage,
    resting,
    roll_stage,
    start_stages,
    stop_stages,
)
from fabfile.strategies.targets import Fleet
from roles.migrations import Portion
from roles.release import switch_step
from roles.role import HostFacts, Target

STAYS = "the database stays as it is: migrations are not taken back"


def plan(fleet: Fleet, notes: tuple[str, ...] = (STAYS,)) -> Plan:
    parts = (*_roll(fleet), *closing.left_closed(fleet), *finish_stage(_arrived(fleet)))
    return Plan("rollback", fleet.environment, fleet.release.id, "rollback", parts, notes)


def _roll(fleet: Fleet) -> tuple[Stage, ...]:
    if fleet.deploy.strategy == "blue-green":
        return blue_green.release_stages(fleet)
    return (*confirm_stage(fleet), *roll_stage(fleet))


def _arrived(fleet: Fleet) -> Fleet:
    return blue_green.arrived(fleet) if fleet.deploy.strategy == "blue-green" else fleet


def with_reverse(fleet: Fleet, knowing: Target, portion: Portion, closed: bool) -> Plan:
    """``knowing`` is the migration host with the release that knows the way back; ``closed``: all
    is stopped before the first step."""
    reverse = migrate_stage(replace(fleet, migration=knowing), portion, "reverse")
    if closed:
        fleet = resting(fleet)
        rest = (
            *stop_stages(fleet),
            *for_good(reverse),
            *each_stage(fleet, "switch", "parallel",
                        lambda target: [switch_step(target, target.release.id)]),
            *start_stages(fleet),
            *closing.open_stages(fleet),
        )
    else:
        rest = paused(fleet, reverse, _roll(fleet))
    return Plan("rollback", fleet.environment, fleet.release.id, "rollback",
                (*rest, *finish_stage(fleet if closed else _arrived(fleet))))


def choose(facts: list[HostFacts], environment: str, wanted: str | None) -> str:
    """The release to go back to: the one asked for, or the last good one before the current.

    Raises :class:`Refused` when there is none, or when some hosts do not have it.
    """
    chosen = _meant(facts, wanted) if wanted else _last_good(facts, environment)
    having = [each.host for each in facts if chosen in each.releases]
    lacking = [each.host for each in facts if chosen not in each.releases]
    if not having:
        common = sorted(set.intersection(*(set(each.releases) for each in facts)))
        listed = ", ".join(common) if common else "none"
        raise Refused(
            f"--to={chosen}: no host has this release; on all hosts there are: {listed}"
        )
    if lacking:
        raise Refused(
            f"release {chosen} is on some hosts only: {', '.join(having)} have it, "
            f"{', '.join(lacking)} have not. Deploy its commit instead: "
            f"fab deploy --env={environment} --ref=..."
        )
    return chosen


def _meant(facts: list[HostFacts], wanted: str) -> str:
    """A whole id, the only release that begins so, or the newest good one of a ref or commit."""
    known = {release for each in facts for release in each.releases}
    if wanted in known:
        return wanted
    records = sorted((record for each in facts for record in each.history
                      if record["release"] in known), key=lambda record: record.get("at", 0))
    of_ref = [str(record["release"]) for record in records
              if wanted == record.get("ref")
              or (len(wanted) >= 7 and str(record.get("commit", "")).startswith(wanted))]
    begins = sorted(release for release in known if release.startswith(wanted))
    if len(begins) > 1 and not of_ref:
        raise Refused(f"--to={wanted}: {len(begins)} releases begin so: {', '.join(begins)}")
    return of_ref[-1] if of_ref else begins[0] if begins else wanted


def _last_good(facts: list[HostFacts], environment: str) -> str:
    """On a fleet that is half way to a new release, that is the one it came from."""
    current = {each.current for each in facts}
    for release in reversed(_trail(facts[0])):
        if current != {release} and release in facts[0].releases:
            return release
    raise Refused(
        f"{environment}: there is nothing to go back to: {facts[0].host} has no earlier good "
        f"release. See fab releases --env={environment}"
    )


def _trail(facts: HostFacts) -> list[str]:
    """Good releases, the oldest first, without those that were rolled back from."""
    trail: list[str] = []
    for record in facts.history:
        release = str(record["release"])
        if record.get("back") and release in trail:
            while trail[-1] != release:
                trail.pop()
        else:
            trail.append(release)
    return trail
