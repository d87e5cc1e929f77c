"""Moments as people type them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from fabfile.errors import UsageError
from fabfile.moments import moment, shown


def test_a_span_counts_from_now() -> None:
    for text, seconds in (("90m", 5400), ("2h", 7200)):
        found, zone = moment("until", text)
        assert abs(found - time.time() - seconds) < 5
        assert zone == "UTC"


def test_a_moment_in_its_zone() -> None:
    found, zone = moment("at", "2031-07-01 02:00 Europe/London")
    assert found == datetime(2031, 7, 1, 1, tzinfo=UTC).timestamp()
    assert shown(found, zone) == "2031-07-01 02:00 Europe/London"


@pytest.mark.parametrize(("text", "said"), [
    ("", 'expected 90m, 2h or a moment such as "2026-12-01 02:00 Europe/London"'),
    ("tomorrow", 'expected 90m, 2h or a moment such as "2026-12-01 02:00 Europe/London"'),
    ("2001-01-01 00:00 UTC", "is over"),
    ("2030-01-01 00:00", 'in which time zone? "2030-01-01 00:00 UTC" or "2030-01-01 00:00 Eur'),
    ("2030-01-01 00:00 Mars/Olympus", "Mars/Olympus: no such time zone"),
    ("2030-13-01 00:00 UTC", "no such moment: month must be in 1..12"),
    ("2030-03-31 01:30 Europe/London", "2030-03-31 00:30 UTC or 2030-03-31 01:30 UTC"),
    ("2030-10-27 01:30 Europe/London", "2030-10-27 00:30 UTC or 2030-10-27 01:30 UTC"),
])
def test_a_moment_that_is_none(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        moment("until", text)
    assert str(refused.value).startswith(f"--until={text}: ")
    assert said in str(refused.value)
