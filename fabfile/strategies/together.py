"""The simple method: stop all, migrate, switch all, start one at a time."""

from __future__ import annotations

from fabfile.plan import Plan
from fabfile.strategies.stages import each_stage, finish_stage, migrate_stage, of_roles
from fabfile.strategies.targets import Fleet, is_live
from roles.release import switch_step


def plan(fleet: Fleet) -> Plan:
    if all(map(is_live, fleet.targets)) and not fleet.pending:
        from fabfile.strategies.rolling import plan as nothing_to_restart

        return nothing_to_restart(fleet)
    parts = (
        *each_stage(fleet, "stop", "parallel", lambda target: of_roles("stop", target)),
        *migrate_stage(fleet),
        *each_stage(fleet, "switch", "parallel",
                    lambda target: [switch_step(target, target.release.id)]),
        *each_stage(fleet, "start", "rolling", lambda target: of_roles("start", target)),
        *finish_stage(fleet),
    )
    return Plan("release", fleet.environment, fleet.release.id, "together", parts)
