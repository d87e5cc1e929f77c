"""The simple method: stop all, migrate, switch all, start one at a time."""

from __future__ import annotations

from dataclasses import replace

from fabfile.plan import Plan, Stage
from fabfile.strategies import closing
from fabfile.strategies.stages import (
    each_stage,
    finish_stage,
    for_good,
    migrate_stage,
    put_all_back,
    put_back,
    resting,
    serve_again,
    start_stages,
    stop_stages,
)
from fabfile.strategies.targets import Fleet, is_live
from roles.release import switch_step
from roles.role import Step


def plan(fleet: Fleet) -> Plan:
    if all(map(is_live, fleet.targets)) and not fleet.pending:
        from fabfile.strategies.rolling import plan as nothing_to_restart

        return nothing_to_restart(fleet)
    fleet = resting(fleet)
    parts = (
        *stop_stages(fleet),
        *_migrate_or_serve_again(fleet),
        *_switch(fleet),
        *_start_or_go_back(fleet),
        *closing.open_stages(fleet),
        *finish_stage(fleet),
    )
    return Plan("release", fleet.environment, fleet.release.id, "together", parts)


def _migrate_or_serve_again(fleet: Fleet) -> list[Stage]:
    """Nothing was switched yet, so where migrating fails before it has changed anything, all hosts
    serve again what they had. Where it has, nobody starts old code: the site stays closed."""
    again = serve_again(fleet, moving=True)
    found = for_good(migrate_stage(fleet, fleet.expand))
    # What follows the migrations has no way back, so that it is never too late for it.
    last = max((number for number, each in enumerate(found) if each.name == "migrate"), default=0)
    return [replace(stage, turns=tuple(replace(turn, recover=again) for turn in stage.turns))
            if number <= last else stage for number, stage in enumerate(found)]


def _switch(fleet: Fleet) -> list[Stage]:
    """As long as no database has moved, all hosts can go back."""
    back = _all_back(fleet)
    return [replace(stage, resume=back) for stage in each_stage(
        fleet, "switch", "parallel", lambda target: [switch_step(target, target.release.id)])]


def _start_or_go_back(fleet: Fleet) -> list[Stage]:
    """Where the first host does not start, nobody serves: all hosts go back. Where a later one
    does not, it goes back alone, and those before it serve; but behind a page, which would stay,
    all go back.

    After a migration nobody goes back by itself: this strategy is for schemas that the old code
    cannot live with.
    """
    started = for_good(start_stages(fleet))
    everybody = _all_back(fleet)
    if not everybody:
        return started
    first = fleet.targets[0]
    back = {target.name: everybody if fleet.site or target is first else put_back(fleet, target)
            for target in fleet.targets}
    return [
        replace(stage, turns=tuple(replace(turn, recover=back[turn.host]) for turn in stage.turns))
        if stage.name == "start" else stage
        for stage in started
    ]


def _all_back(fleet: Fleet) -> tuple[Step, ...]:
    if fleet.pending or fleet.outgrown:
        return ()
    return (*put_all_back(fleet), *closing.way_open(fleet))
