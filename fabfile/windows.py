"""Whether a maintenance may be now, how long it may go on, and when it may be next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from fabfile.environment import Environment, open_environment
from fabfile.errors import Refused
from fabfile.estimates import CLOSING, Estimate, estimate
from roles.maintenance import MaintenanceSettings
from roles.maintenance.windows import Occurrence, WindowSettings, open_now, upcoming

ALL_THE_SAME = "to go on all the same: --outside-window"


@dataclass(frozen=True)
class Deadline:
    """The window that a run is in: after ``last`` no stage begins from which there is a way back,
    and none that would not be over by then; and nothing stops where the whole would not be over by
    the window's end. Times in seconds since the epoch."""

    window: Occurrence
    last: float
    known: Estimate

    def too_late(self, stage: str) -> str:
        """Why this stage must not begin any more; "" where it may."""
        now, seconds = time.time(), self.known.stages.get(stage, 0)
        if stage in CLOSING:
            reason = _does_not_fit(self.window, now, self.known.left.get(stage, self.known.whole))
            if reason:
                return f"{reason}; {ALL_THE_SAME}"
        if now + seconds <= self.last:
            return ""
        took = f", and {stage} took up to {span(seconds)} in earlier runs" if seconds else ""
        return (f"{self.window.shown}: nothing more begins after {_utc(self.last)}, so that going "
                f"back still fits{took}; it is {_utc(now)}; {ALL_THE_SAME}")

    @property
    def overrun(self) -> str:
        """Where the run has gone on beyond the window's end, for want of a way back."""
        late = time.time() - self.window.end
        return "" if late <= 0 else (
            f"{self.window.shown} was over {span(late)} ago; after the migrations, to go on was "
            f"the shortest way to an open site")


def windows(environment: Environment) -> list[WindowSettings]:
    return environment.of(MaintenanceSettings, "maintenance").windows


def may_begin(environment: Environment, now: float) -> Deadline | None:
    """The window that is open now; None where the inventory names none, as any time will do then.

    Raises :class:`Refused` outside of all windows, too late in one, and where the time that is
    left is less than earlier runs took.
    """
    named = windows(environment)
    if not named:
        return None
    known = estimate(environment)
    reasons = {each: _against(each, now, known.whole) for each in open_now(named, now)}
    fitting = [Deadline(each, each.end - _reserve(each, known), known)
               for each, reason in reasons.items() if not reason]
    if fitting:  # of several the longest: nothing ends early for a shorter one's sake
        return max(fitting, key=lambda found: found.last)
    told = list(reasons.values()) or ["it is outside of every maintenance window"]
    following = [each for each in upcoming(named, now, 5) if each.start > now and not each.problem]
    if following:
        told.append(f"the next: {following[0].shown} (in {span(following[0].start - now)})")
    else:
        told.append("no window comes after that")
    raise Refused("\n".join([*told, ALL_THE_SAME]))


def _reserve(window: Occurrence, known: Estimate) -> float:
    """Seconds before its end that belong to going back."""
    return known.going_back if window.reserve is None else window.reserve


def _against(window: Occurrence, now: float, seconds: float) -> str:
    """What speaks against beginning in it now, or nothing."""
    if now > window.latest:
        return f"{window.shown}: a run had to begin by {_utc(window.latest)} (latest_start)"
    return _does_not_fit(window, now, seconds)


def _does_not_fit(window: Occurrence, now: float, seconds: float) -> str:
    if now + seconds <= window.end:
        return ""
    left = f"{span(window.end - now)} are left" if now < window.end else "it is over"
    return f"{window.shown}: {left}, and earlier ones took up to {span(seconds)}"


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M} UTC"


def show_next(env: str, inventory: str) -> None:
    """``fab maintenance.next``."""
    environment = open_environment(env, inventory)
    known, now = windows(environment), time.time()
    if not known:
        print("maintenance.windows: none, so a maintenance may be at any time")
    for window in known:
        if not upcoming([window], now, 1):
            print(f"{window.name}: does not come any more")
    for each in upcoming(known, now, 5):
        left = "open now" if each.start <= now else f"in {span(each.start - now)}"
        print(f"{each.shown} ({each.problem or left})")
    seconds = estimate(environment).whole
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
