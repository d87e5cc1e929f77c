"""The last part of some deploys: what old code could not live with, when none of it runs."""

from __future__ import annotations

from fabfile.plan import Plan, Turn
from fabfile.strategies.scheduling import paused
from fabfile.strategies.stages import migrate_stage, of_roles, stages
from fabfile.strategies.targets import Fleet
from roles.release import drained

DRAIN = "drain"


def plan(fleet: Fleet) -> Plan:
    turns = [Turn(target.name, (*of_roles("retire", target), drained(target)))
             for target in fleet.targets]
    parts = (*stages(DRAIN, "parallel", turns),
             *paused(fleet, migrate_stage(fleet, fleet.contract, "contract")))
    return Plan("contract", fleet.environment, fleet.release.id, "contract", parts)
