"""No periodic task starts while migrations run: the scheduler is stopped before them."""

from __future__ import annotations

from collections.abc import Sequence

from fabfile.plan import Stage, Turn
from fabfile.strategies.targets import Fleet
from roles import scheduler


def paused(
    fleet: Fleet, migrating: Sequence[Stage], then: Sequence[Stage] = ()
) -> tuple[Stage, ...]:
    """``migrating`` while the scheduler is stopped, ``then`` what follows, and the scheduler again,
    in whatever release its host has then; also where a stage fails. One that is noted as off stays
    so."""
    if not migrating or not fleet.scheduler:
        return (*migrating, *then)
    host, begin = fleet.scheduler.name, tuple(scheduler.role.start(fleet.scheduler))
    stop = Turn(host, (scheduler.stop(fleet.scheduler),))
    last = Stage("scheduler-start", "once", (Turn(host, begin),), resume=())
    return (Stage("scheduler-stop", "once", (stop,), resume=begin), *migrating, *then,
            *([last] if begin else []))
