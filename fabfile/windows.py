"""Whether a maintenance may be now, and when it may be next."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from fabfile.engine.journal import read, runs
from fabfile.environment import Environment, open_environment
from fabfile.errors import Refused
from roles.maintenance import MaintenanceSettings
from roles.maintenance.windows import Occurrence, WindowSettings, open_now, upcoming

# Of so many earlier runs, the longest says how long the next may take.
REMEMBERED = 5
ALL_THE_SAME = "to go on all the same: --outside-window"


def windows(environment: Environment) -> list[WindowSettings]:
    return environment.of(MaintenanceSettings, "maintenance").windows


def refuse_outside(environment: Environment, now: float) -> None:
    """Raises :class:`Refused` outside of all windows, too late in one, and where the time that is
    left is less than earlier ones took. Where the inventory names no windows, any time will do."""
    known = windows(environment)
    if not known:
        return
    reasons = [_against(each, now, estimate(environment)) for each in open_now(known, now)]
    if reasons and not all(reasons):
        return
    told = [reason for reason in reasons if reason] or ["it is outside of every maintenance window"]
    following = [each for each in upcoming(known, now, 5) if each.start > now and not each.problem]
    if following:
        told.append(f"the next: {following[0].shown} (in {span(following[0].start - now)})")
    raise Refused("\n".join([*told, ALL_THE_SAME]))


def _against(window: Occurrence, now: float, seconds: float) -> str:
    """What speaks against beginning in it now, or nothing."""
    if now > window.latest:
        latest = datetime.fromtimestamp(window.latest, UTC)
        return f"{window.shown}: a run had to begin by {latest:%H:%M} UTC (latest_start)"
    if now + seconds > window.end:
        return (f"{window.shown}: {span(window.end - now)} are left, and earlier ones took up to "
                f"{span(seconds)}")
    return ""


def estimate(environment: Environment) -> float:
    """Seconds that the site may be closed: the longest of the last times that it was, as far as
    this controller knows; 0 where it does not."""
    found: list[float] = []
    for path in reversed(runs(environment.key)):
        seconds = closed_for(read(path))
        found += [seconds] if seconds else []
        if len(found) == REMEMBERED:
            break
    return max(found, default=0.0)


def closed_for(events: Iterable[Mapping[str, Any]]) -> float:
    """Seconds from a run's first stop to the end of that plan; 0 where it stopped nothing."""
    began = 0.0
    for event in events:
        if event["event"] == "stage" and event["stage"] in ("stop-tasks", "close", "stop"):
            began = began or event["at"]
        if event["event"] == "plan-ended" and began:
            return float(event["at"] - began)
    return 0.0


def show_next(env: str, inventory: str) -> None:
    """``fab maintenance.next``."""
    environment = open_environment(env, inventory)
    known, now = windows(environment), time.time()
    if not known:
        print("maintenance.windows: none, so a maintenance may be at any time")
    for each in upcoming(known, now, 5):
        left = "open now" if each.start <= now else f"in {span(each.start - now)}"
        print(f"{each.shown} ({each.problem or left})")
    seconds = estimate(environment)
    if seconds:
        print(f"earlier ones took up to {span(seconds)}")


def span(seconds: float) -> str:
    """``2 d 3 h``, ``12 min`` or ``40 s``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{hours} h" if hours < 48 else f"{hours // 24} d {hours % 24} h"
