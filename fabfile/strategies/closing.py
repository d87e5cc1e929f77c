"""A page in the site's place while everything is stopped, and the site behind it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fabfile.plan import Stage, Turn
from fabfile.strategies.stages import stages
from fabfile.strategies.targets import Fleet
from roles import maintenance
from roles.role import Step


def close_stage(fleet: Fleet) -> list[Stage]:
    """All hosts in front at once. Until something else follows, the way back opens it again, unless
    somebody had closed it by hand."""
    if fleet.site is None:
        return []
    why = maintenance.Reason(f"Release {fleet.release.id}", fleet.who, run=True)
    found = stages("close", "parallel", _turns(maintenance.close(fleet.site, why)))
    return [replace(stage, resume=way_open(fleet)) for stage in found]


def open_stages(fleet: Fleet) -> list[Stage]:
    """Asked past the page first: nobody sees a site that does not answer well."""
    if fleet.site is None or _by_hand(fleet):
        return []
    return [*stages("smoke", "parallel", _turns(maintenance.smoke(fleet.site))),
            *stages("open", "parallel", _turns(maintenance.open_again(fleet.site)))]


def left_closed(fleet: Fleet) -> list[Stage]:
    """What opens a site that a run which is gone has left closed; nothing where it is open."""
    return open_stages(fleet) if fleet.closed and fleet.closed.by_run else []


def way_open(fleet: Fleet) -> tuple[Step, ...]:
    """The steps that open it when nothing was changed; only where all before them went well."""
    if fleet.site is None or _by_hand(fleet):
        return ()
    steps = (*maintenance.smoke(fleet.site), *maintenance.open_again(fleet.site))
    return tuple(replace(step, if_well=True) for step in steps)


def _by_hand(fleet: Fleet) -> bool:
    return fleet.closed is not None and not fleet.closed.by_run


def _turns(steps: Sequence[Step]) -> list[Turn]:
    return [Turn(step.host, (step,)) for step in steps]
