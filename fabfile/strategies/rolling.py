"""Migrate once, then one host at a time; the first one is the canary."""

from __future__ import annotations

from fabfile.plan import Plan
from fabfile.strategies.closing import left_closed
from fabfile.strategies.scheduling import paused
from fabfile.strategies.stages import confirm_stage, finish_stage, migrate_stage, roll_stage
from fabfile.strategies.targets import Fleet


def plan(fleet: Fleet) -> Plan:
    parts = (
        *paused(fleet, migrate_stage(fleet, fleet.expand),
                (*confirm_stage(fleet), *roll_stage(fleet))),
        *left_closed(fleet),
        *finish_stage(fleet),
    )
    return Plan("release", fleet.environment, fleet.release.id, "rolling", parts)
