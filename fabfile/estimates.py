"""How long a maintenance takes, as this controller's journals know it from earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fabfile.engine.journal import read, runs
from fabfile.environment import Environment

# Of so many earlier runs, the longest says how long the next may take.
REMEMBERED = 5
# The stages of a plan that stops everything, until nobody is served.
CLOSING = ("stop-tasks", "close", "stop")
# What going back consists of, too.
LAST = ("start", "scheduler-start", "timers", "open")


@dataclass(frozen=True)
class Estimate:
    """``whole``: seconds from the first stop to the end, 0 where nothing is known; ``stages``: of
    each stage; ``left``: from the beginning of each of those in ``CLOSING`` to the end."""

    whole: float = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    left: Mapping[str, float] = field(default_factory=dict)

    @property
    def going_back(self) -> float:
        return sum(self.stages.get(name, 0) for name in LAST)


def estimate(environment: Environment) -> Estimate:
    found: list[Estimate] = []
    for path in reversed(runs(environment.key)):
        with suppress(OSError, ValueError, KeyError, TypeError):  # one that cannot be read
            found += [each for each in [measured(read(path))] if each]
        if len(found) == REMEMBERED:
            break
    return Estimate(max((each.whole for each in found), default=0),
                    _longest(each.stages for each in found),
                    _longest(each.left for each in found))


def _longest(known: Iterable[Mapping[str, float]]) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for each in known:
        found.update({name: max(seconds, found.get(name, 0)) for name, seconds in each.items()})
    return found


def measured(events: Iterable[Mapping[str, Any]]) -> Estimate | None:
    """What one run took; None where it stopped nothing or started nothing after, as `fab stop` and
    a page by hand do, or did not end."""
    marks: list[tuple[str, float]] = []
    for event in events:
        if event["event"] == "stage" and (marks or event["stage"] in CLOSING):
            marks.append((event["stage"], event["at"]))
        if event["event"] == "plan-ended" and marks:
            end = event["at"]
            left = {name: end - began for name, began in marks if name in CLOSING}
            took = Estimate(end - marks[0][1], dict(_lengths(marks, end)), left)
            # A clock that was set meanwhile tells nothing.
            sane = all(seconds >= 0 for seconds in took.stages.values())
            return took if sane and "start" in took.stages else None
    return None


def _lengths(marks: list[tuple[str, float]], end: float) -> Iterator[tuple[str, float]]:
    for (name, began), (_, after) in zip(marks, [*marks[1:], ("", end)], strict=True):
        yield name, after - began
