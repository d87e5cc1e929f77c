"""The first plan of every deploy: bring the release everywhere, touch nothing that serves."""

from __future__ import annotations

from fabfile.plan import Plan, Turn
from fabfile.strategies.stages import of_roles, stage_stage, stages
from fabfile.strategies.targets import Fleet


def plan(fleet: Fleet) -> Plan:
    return Plan("stage", fleet.environment, fleet.release.id, "stage", tuple(stage_stage(fleet)))


def discard(fleet: Fleet) -> Plan:
    """Take away again what staging brought of a release that proved to be bad."""
    turns = [Turn(target.name, of_roles("discard", target)) for target in fleet.targets]
    parts = tuple(stages("discard", "parallel", turns))
    return Plan("discard", fleet.environment, fleet.release.id, "stage", parts)
