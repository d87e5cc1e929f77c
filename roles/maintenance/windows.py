"""When a maintenance may be: windows in the inventory, as moments. Values only; no clock is read.

A rule is an RRULE of iCalendar (RFC 5545, 3.3.10), read by python-dateutil in local time without a
zone; each of its times is then placed in the zone, where it may not exist or exist twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import field_validator, model_validator

from inventories.errors import UsageError
from roles.settings import Settings

# A Monday, from which rules without a day of their own count.
MONDAY = date(2024, 1, 1)
SPAN = re.compile(r"(\d+)([mh])")
SECONDS = {"m": 60, "h": 3600}
# How far anybody looks ahead: a leap day comes after eight years at the latest.
HORIZON = timedelta(days=366 * 9)


class WindowSettings(Settings):
    """A time in which the site may be closed."""

    name: str = ""
    """What it is called."""
    zone: str = "UTC"
    """The time zone of `at`, as in Europe/London."""
    at: str = ""
    """The local time at which it begins, as "02:00"."""
    length: str = ""
    """How long it is: 90m, 3h."""
    rule: str = ""
    """On which days, as an iCalendar RRULE: FREQ=WEEKLY;BYDAY=TU,TH."""
    day: str = ""
    """The one day, as "2026-12-01"; with a rule, the first day from which it counts."""
    latest_start: str = ""
    """How long after its beginning a run may still begin: 30m. Default: as long as it fits."""
    reserve: str = ""
    """How long before its end no further step begins, so that going back still fits: 10m. Default:
    as long as starting everything took in earlier runs."""

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("expected a time zone such as Europe/London") from None
        return value

    @field_validator("at")
    @classmethod
    def _at(cls, value: str) -> str:
        if value and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError('expected a time such as "02:00"')
        return value

    @field_validator("length", "latest_start", "reserve")
    @classmethod
    def _span(cls, value: str) -> str:
        if value:
            seconds_in(value)
        return value

    @field_validator("rule")
    @classmethod
    def _bare(cls, value: str) -> str:
        return value.strip().upper().removeprefix("RRULE:")

    @field_validator("day", mode="before")
    @classmethod
    def _unquoted(cls, value: object) -> object:
        """YAML makes a date of it where it has no quotes."""
        return value.isoformat() if isinstance(value, date) else value

    @field_validator("day")
    @classmethod
    def _day(cls, value: str) -> str:
        try:
            return date.fromisoformat(value).isoformat() if value else ""
        except ValueError:
            raise ValueError('expected a day such as "2026-12-01"') from None

    @model_validator(mode="after")
    def _whole(self) -> WindowSettings:
        missing = [key for key in ("name", "at", "length") if not getattr(self, key)]
        if missing:
            raise ValueError(f"expected {' and '.join(missing)}, which a window needs")
        if not self.rule and not self.day:
            raise ValueError("expected rule or day: when is it?")
        if not seconds_in(self.length):
            raise ValueError("length: expected more than nothing")
        if self.reserve and seconds_in(self.reserve) >= seconds_in(self.length):
            raise ValueError(f"reserve: expected less than its length ({self.length}), as nothing "
                             f"could begin")
        if self.latest_start and not seconds_in(self.latest_start):
            raise ValueError("latest_start: expected more than nothing")
        if self.rule:
            self._refuse_odd_rule()
        return self

    def _refuse_odd_rule(self) -> None:
        if re.search(r"DTSTART|BYHOUR|BYMINUTE|BYSECOND|HOURLY|MINUTELY|SECONDLY", self.rule):
            raise ValueError("rule: expected days only; the time of day stands in at")
        if re.search(r"\n|EXDATE|RDATE|EXRULE", self.rule):
            raise ValueError("rule: expected one RRULE only; a day that is left out is a rule of "
                             "the others")
        if "FREQ=" not in self.rule:
            raise ValueError(f"rule: {self.rule}: expected FREQ=, as in FREQ=WEEKLY;BYDAY=TU")
        if re.search(r"INTERVAL=(0|-)", self.rule):
            raise ValueError(f"rule: {self.rule}: INTERVAL: expected 1 or more")
        try:
            next(iter(self.days(MONDAY)), None)
            self.is_over(datetime(2024, 1, 1), 0)  # noqa: DTZ001 - it has no zone yet
        except (ValueError, TypeError) as error:
            raise ValueError(f"rule: {self.rule}: {error}") from None

    def days(self, since: date) -> Iterator[date]:
        """The days from ``since`` on, in order; a rule's UNTIL is left to :meth:`is_over`."""
        from dateutil.rrule import rrulestr

        if not self.rule:
            yield from [found for found in [date.fromisoformat(self.day)] if found >= since]
            return
        first = date.fromisoformat(self.day) if self.day else MONDAY
        begin = datetime(first.year, first.month, first.day)  # noqa: DTZ001 - it has no zone yet
        without = ";".join(each for each in self.rule.split(";") if not each.startswith("UNTIL="))
        rule = rrulestr(without, dtstart=begin)
        after = datetime(since.year, since.month, since.day)  # noqa: DTZ001
        for each in rule.xafter(after, inc=True):
            if each - after > HORIZON:
                return
            yield each.date()

    def is_over(self, naive: datetime, start: float) -> bool:
        """Whether the rule's UNTIL comes before this time, which is local and in seconds since the
        epoch: RFC 5545 has it as a day, a local time, or one in UTC. Raises ValueError."""
        said = re.search(r"UNTIL=([^;]*)", self.rule)
        if not said:
            return False
        if not re.fullmatch(r"\d{8}(T\d{6}Z?)?", said[1]):
            raise ValueError("UNTIL: expected such as 20261201 or 20261201T020000Z")
        until = datetime.fromisoformat(said[1])
        if until.tzinfo:
            return start > until.timestamp()
        return naive.date() > until.date() if len(said[1]) == len("20261201") else naive > until


def seconds_in(span: str) -> int:
    """Seconds of ``90m`` or ``3h``. Raises ValueError."""
    found = SPAN.fullmatch(span)
    if not found:
        raise ValueError("expected 90m or 3h")
    return int(found[1]) * SECONDS[found[2]]


@dataclass(frozen=True)
class Occurrence:
    """One time of a window. Times in seconds since the epoch; ``latest`` is when a run may begin at
    the latest. ``reserve``: how many seconds before its end belong to going back; None: not said.
    ``problem``: why it cannot be, where its local time is none or two."""

    name: str
    zone: str
    start: float
    end: float
    latest: float
    reserve: int | None = None
    problem: str = ""

    @property
    def shown(self) -> str:
        begin, end = (datetime.fromtimestamp(each, ZoneInfo(self.zone))
                      for each in (self.start, self.end))
        same = "%H:%M" if begin.date() == end.date() else "%Y-%m-%d %H:%M"
        return f"{self.name}: {begin:%Y-%m-%d %H:%M} to {end:{same}} {self.zone}"


def occurrences(window: WindowSettings, now: float) -> Iterator[Occurrence]:
    """Those that are not over, in order."""
    zone, length = ZoneInfo(window.zone), seconds_in(window.length)
    hour, minute = map(int, window.at.split(":"))
    since = datetime.fromtimestamp(now - length, zone).date() - timedelta(days=1)
    for day in window.days(since):
        naive = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - placed below
        problem = ""
        try:
            start = in_zone(naive, zone, window.name)
        except UsageError as error:
            problem, start = str(error), naive.replace(tzinfo=zone).timestamp()
        if window.is_over(naive, start):
            return
        latest = start + (seconds_in(window.latest_start) if window.latest_start else length)
        reserve = seconds_in(window.reserve) if window.reserve else None
        if start + length > now:
            yield Occurrence(window.name, window.zone, start, start + length,
                             min(latest, start + length), reserve, problem)


def upcoming(windows: Iterable[WindowSettings], now: float, count: int) -> list[Occurrence]:
    """The next ones of all windows, one that is open now included."""
    found = [each for window in windows for each in islice(occurrences(window, now), count)]
    return sorted(found, key=lambda each: (each.start, each.name))[:count]


def open_now(windows: Sequence[WindowSettings], now: float) -> list[Occurrence]:
    """Those that are open: several may overlap."""
    found = [each for window in windows
             for each in takewhile(lambda begun: begun.start <= now, occurrences(window, now))]
    return sorted((each for each in found if not each.problem),
                  key=lambda each: (each.start, each.name))


def in_zone(naive: datetime, zone: ZoneInfo, where: str) -> float:
    """Seconds since the epoch of a local time. Raises :class:`UsageError` where clocks skip it, or
    show it twice; both candidates are named then."""
    first, second = (naive.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.timestamp()
    shown = [each.astimezone(UTC) for each in (first, second)]
    exists = shown[0].astimezone(zone).replace(tzinfo=None) == naive
    kind = "exists twice there" if exists else "does not exist there, as clocks skip it"
    pair = " or ".join(f"{each:%Y-%m-%d %H:%M} UTC" for each in sorted(shown))
    raise UsageError(f"{where}: {naive:%Y-%m-%d %H:%M} {kind}; say {pair}")
