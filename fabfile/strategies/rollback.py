"""Back to an earlier release, one host at a time; the database stays as it is."""

from __future__ import annotations

from fabfile.errors import Refused
from fabfile.plan import Plan
from fabfile.strategies.stages import confirm_stage, finish_stage, roll_stage
from fabfile.strategies.targets import Fleet
from roles.role import HostFacts


def plan(fleet: Fleet) -> Plan:
    parts = (*confirm_stage(fleet), *roll_stage(fleet), *finish_stage(fleet))
    notes = ("the database stays as it is: migrations are not taken back",)
    return Plan("rollback", fleet.environment, fleet.release.id, "rollback", parts, notes)


def choose(facts: list[HostFacts], environment: str, wanted: str | None) -> str:
    """The release to go back to: the one asked for, or the last good one before the current.

    Raises :class:`Refused` when there is none, or when some hosts do not have it.
    """
    chosen = wanted or _last_good(facts, environment)
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
