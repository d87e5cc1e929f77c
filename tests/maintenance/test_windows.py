"""Windows as moments: days, zones, clocks that change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventories.errors import UsageError
from roles.maintenance.windows import (
    Occurrence,
    WindowSettings,
    in_zone,
    occurrences,
    open_now,
    upcoming,
)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def window(**changes: Any) -> WindowSettings:
    return WindowSettings.model_validate({
        "name": "nightly", "zone": "Europe/London", "at": "02:00", "length": "90m",
        "rule": "FREQ=WEEKLY;BYDAY=TU,TH", **changes})


def starts(found: WindowSettings, now: str, count: int = 3) -> list[str]:
    """In UTC; one that cannot be has a mark."""
    return [f"{datetime.fromtimestamp(each.start, UTC):%Y-%m-%d %H:%M}" + " !" * bool(each.problem)
            for each in islice(occurrences(found, moment(now)), count)]


@pytest.mark.parametrize(("zone", "local", "utc"), [
    ("Europe/London", "2026-12-01 02:00", "2026-12-01 02:00"),
    ("Europe/Berlin", "2027-07-01 02:00", "2027-07-01 00:00"),
    ("America/New_York", "2026-03-08 03:00", "2026-03-08 07:00"),
    ("Asia/Kolkata", "2028-02-29 00:00", "2028-02-28 18:30"),
    ("Australia/Lord_Howe", "2026-10-04 02:30", "2026-10-03 15:30"),
    ("Pacific/Apia", "2026-06-01 12:00", "2026-05-31 23:00"),
])
def test_a_local_time_is_one_moment(zone: str, local: str, utc: str) -> None:
    assert in_zone(datetime.fromisoformat(local), ZoneInfo(zone), "x") == moment(utc)


@pytest.mark.parametrize(("zone", "local", "said"), [
    ("Europe/London", "2026-03-29 01:30", "does not exist there, as clocks skip it; "
     "say 2026-03-29 00:30 UTC or 2026-03-29 01:30 UTC"),
    ("Europe/Berlin", "2026-10-25 02:30", "exists twice there; "
     "say 2026-10-25 00:30 UTC or 2026-10-25 01:30 UTC"),
    ("America/New_York", "2026-11-01 01:15", "exists twice there; "
     "say 2026-11-01 05:15 UTC or 2026-11-01 06:15 UTC"),
    ("America/Santiago", "2026-09-06 00:10", "does not exist there"),
    ("Australia/Lord_Howe", "2026-04-05 01:45", "exists twice there; "
     "say 2026-04-04 14:45 UTC or 2026-04-04 15:15 UTC"),
    ("Africa/Casablanca", "2027-02-07 02:30", "exists twice there"),
])
def test_a_local_time_that_is_none_or_two_is_refused(zone: str, local: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        in_zone(datetime.fromisoformat(local), ZoneInfo(zone), "--until=x")
    assert str(refused.value).startswith(f"--until=x: {local} ")
    assert said in str(refused.value)


@pytest.mark.parametrize(("changes", "now", "expected"), [
    ({}, "2026-11-21 12:00", ["2026-11-24 02:00", "2026-11-26 02:00", "2026-12-01 02:00"]),
    # Summer time ends in London: the same local hour is another one in UTC.
    ({"rule": "FREQ=WEEKLY;BYDAY=SA,SU", "at": "03:00"}, "2026-10-24 00:00",
     ["2026-10-24 02:00", "2026-10-25 03:00", "2026-10-31 03:00"]),
    # A local time that is none, then one that is two.
    ({"rule": "FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU", "at": "01:30"}, "2026-03-01 00:00",
     ["2026-03-29 01:30 !", "2026-10-25 00:30 !", "2027-03-28 01:30 !"]),
    ({"zone": "America/New_York", "rule": "FREQ=MONTHLY;BYDAY=2SU", "at": "02:30"},
     "2026-02-20 00:00", ["2026-03-08 07:30 !", "2026-04-12 06:30", "2026-05-10 06:30"]),
    ({"zone": "Australia/Sydney", "rule": "FREQ=DAILY", "at": "23:30"}, "2026-10-02 00:00",
     ["2026-10-02 13:30", "2026-10-03 13:30", "2026-10-04 12:30"]),
    ({"zone": "Asia/Kolkata", "rule": "FREQ=MONTHLY;BYMONTHDAY=-1", "at": "00:15"},
     "2028-02-01 00:00", ["2028-02-28 18:45", "2028-03-30 18:45", "2028-04-29 18:45"]),
    ({"zone": "America/Sao_Paulo", "rule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "day": "2026-11-02",
      "at": "01:00"}, "2026-11-03 00:00",
     ["2026-11-16 04:00", "2026-11-30 04:00", "2026-12-14 04:00"]),
    # The leap day alone.
    ({"zone": "UTC", "rule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"}, "2026-11-21 00:00",
     ["2028-02-29 02:00", "2032-02-29 02:00"]),
    ({"rule": "", "day": "2026-12-01"}, "2026-11-21 00:00", ["2026-12-01 02:00"]),
    ({"rule": "", "day": "2026-12-01"}, "2026-12-01 03:29", ["2026-12-01 02:00"]),
    ({"rule": "", "day": "2026-12-01"}, "2026-12-01 03:30", []),
    # Until a day, a local time, or one in UTC, of which the day is another one in the zone.
    ({"rule": "FREQ=DAILY;UNTIL=20261124T000000"}, "2026-11-24 00:00", []),
    ({"rule": "FREQ=DAILY;UNTIL=20261124"}, "2026-11-24 00:00", ["2026-11-24 02:00"]),
    ({"rule": "RRULE:FREQ=DAILY;UNTIL=20261130T170000Z", "zone": "Asia/Tokyo"}, "2026-11-29 12:00",
     ["2026-11-29 17:00", "2026-11-30 17:00"]),
    ({"rule": "freq=daily;until=20261130T060000Z", "zone": "America/Los_Angeles", "at": "22:00"},
     "2026-11-29 12:00", ["2026-11-30 06:00"]),
])
def test_which_come_next(changes: dict[str, Any], now: str, expected: list[str]) -> None:
    assert starts(window(**changes), now)[: len(expected) or 1] == expected


def test_one_that_crosses_midnight_is_open_on_the_next_day() -> None:
    late = window(at="23:30", length="3h", rule="FREQ=WEEKLY;BYDAY=FR", zone="UTC")
    (found,) = open_now([late], moment("2026-11-21 01:00"))
    assert found.shown == "nightly: 2026-11-20 23:30 to 2026-11-21 02:30 UTC"
    assert open_now([late], moment("2026-11-21 02:30")) == []


def test_the_length_is_time_that_goes_by_not_what_clocks_show() -> None:
    """Clocks go back at 2 o'clock, in the midst of it."""
    night = window(at="00:30", length="3h", rule="", day="2026-10-25")
    (found,) = occurrences(night, moment("2026-10-24 00:00"))
    assert found.end - found.start == 3 * 3600
    assert found.shown == "nightly: 2026-10-25 00:30 to 02:30 Europe/London"


def test_several_windows_come_in_order() -> None:
    both = [window(name="b"), window(name="a", rule="FREQ=DAILY", at="04:00")]
    found = upcoming(both, moment("2026-11-23 12:00"), 4)
    assert [each.name for each in found] == ["b", "a", "a", "b"]


def test_one_that_is_longer_than_it_comes_is_open_though_others_are_too_late() -> None:
    long = window(rule="FREQ=DAILY", length="50h", latest_start="30m", zone="UTC")
    found = open_now([long], moment("2026-11-21 02:10"))
    assert [each.start for each in found] == [
        moment(f"2026-11-{day} 02:00") for day in (19, 20, 21)]


def test_the_latest_start() -> None:
    (found,) = islice(occurrences(window(latest_start="30m"), moment("2026-11-21 12:00")), 1)
    assert found.latest - found.start == 1800
    (whole,) = islice(occurrences(window(), moment("2026-11-21 12:00")), 1)
    assert whole.latest == whole.end


def test_one_whose_time_is_two_is_never_open() -> None:
    twice = window(rule="", day="2026-10-25", at="01:30")
    assert open_now([twice], moment("2026-10-25 01:00")) == []
    (found,) = upcoming([twice], moment("2026-10-25 00:00"), 1)
    assert found.problem == ("nightly: 2026-10-25 01:30 exists twice there; "
                             "say 2026-10-25 00:30 UTC or 2026-10-25 01:30 UTC")


@given(
    zone=st.sampled_from(["Europe/London", "America/New_York", "Asia/Tehran", "Australia/Lord_Howe",
                          "Pacific/Chatham", "America/Havana", "Africa/Cairo", "UTC"]),
    at=st.times().map(lambda each: f"{each:%H:%M}"),
    now=st.datetimes(datetime(2026, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001 - UTC below
    hours=st.integers(1, 30),
)
def test_whatever_the_zone_each_begins_at_its_local_time_or_says_why_not(
    zone: str, at: str, now: datetime, hours: int
) -> None:
    since = now.replace(tzinfo=UTC).timestamp()
    daily = window(zone=zone, at=at, length=f"{hours}h", rule="FREQ=DAILY")
    found: list[Occurrence] = list(islice(occurrences(daily, since), 5))
    assert found[0].start <= since + timedelta(hours=26).total_seconds()
    for each in found:
        assert each.end - each.start == hours * 3600
        assert each.end > since
        local = datetime.fromtimestamp(each.start, ZoneInfo(zone))
        if not each.problem:
            assert f"{local:%H:%M}" == at
    days = [each.start for each in found]
    assert days == sorted(days)


@pytest.mark.parametrize(("changes", "said"), [
    ({"zone": "Mars/Olympus"}, "expected a time zone such as Europe/London"),
    ({"at": "2:00"}, "expected a time such as \"02:00\""),
    ({"at": "", "length": ""}, "expected at and length, which a window needs"),
    ({"length": "1d"}, "expected 90m or 3h"),
    ({"length": "0m"}, "length: expected more than nothing"),
    ({"reserve": "90m"}, "reserve: expected less than its length (90m), as nothing could begin"),
    ({"latest_start": "0m"}, "latest_start: expected more than nothing"),
    ({"rule": "FREQ=SOMETIMES"}, "rule: FREQ=SOMETIMES: "),
    ({"rule": "BYDAY=TU"}, "rule: BYDAY=TU: expected FREQ=, as in FREQ=WEEKLY;BYDAY=TU"),
    ({"rule": "FREQ=DAILY;INTERVAL=0"}, "rule: FREQ=DAILY;INTERVAL=0: INTERVAL: expected 1 or mor"),
    ({"rule": "FREQ=DAILY;INTERVAL=-1"}, "INTERVAL: expected 1 or more"),
    ({"rule": "FREQ=DAILY;UNTIL=soon"}, "rule: FREQ=DAILY;UNTIL=SOON: UNTIL: expected such as "),
    ({"rule": "FREQ=DAILY;UNTIL=2026-12-01"}, "UNTIL: expected such as 20261201 or 20261201T02000"),
    ({"rule": "FREQ=DAILY;UNTIL=20261341"}, "rule: FREQ=DAILY;UNTIL=20261341: "),
    ({"rule": "RRULE:FREQ=DAILY\nEXDATE:20261201T020000"}, "rule: expected one RRULE only"),
    ({"rule": "FREQ=HOURLY"}, "rule: expected days only; the time of day stands in at"),
    ({"rule": ""}, "expected rule or day: when is it?"),
    ({"day": "1.12.2026"}, "expected a day such as \"2026-12-01\""),
])
def test_windows_that_are_none(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="validation error") as refused:
        window(**changes)
    assert said in str(refused.value)


def test_a_day_may_stand_without_quotes() -> None:
    assert window(day=datetime(2026, 12, 1, tzinfo=UTC).date()).day == "2026-12-01"
