"""Whether a maintenance may be now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fabfile import windows
from fabfile.environment import Environment
from fabfile.errors import Refused
from fabfile.estimates import Estimate
from fabfile.windows import may_begin, show_next, span
from tests.fabfile.fleets import open_fleet

NIGHTLY = {"name": "nightly", "zone": "Europe/London", "at": "02:00", "length": "90m",
           "rule": "FREQ=WEEKLY;BYDAY=TU,TH", "latest_start": "60m"}


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return opened(tmp_path, [NIGHTLY])


def opened(folder: Path, found: list[dict[str, Any]]) -> Environment:
    return open_fleet(folder, ("web1",), maintenance={"windows": found})


def takes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(windows, "estimate", lambda _: Estimate(seconds, {"migrate": seconds}))


def test_any_time_will_do_where_no_window_is_named(tmp_path: Path) -> None:
    may_begin(opened(tmp_path, []), 0)


def test_inside(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    takes(monkeypatch, 600)
    may_begin(environment, moment("2026-11-24 02:10"))


@pytest.mark.parametrize(("now", "seconds", "said"), [
    ("2026-11-21 12:00", 0, "it is outside of every maintenance window\n"
     "the next: nightly: 2026-11-24 02:00 to 03:30 Europe/London (in 2 d 14 h)\n"
     "to go on all the same: --outside-window"),
    ("2026-11-24 03:10", 0, "a run had to begin by 03:00 UTC (latest_start)\nthe next: nightly: "
     "2026-11-26"),
    ("2026-11-24 02:50", 3600, "40 min are left, and earlier ones took up to 60 min"),
])
def test_outside(environment: Environment, monkeypatch: pytest.MonkeyPatch, now: str,
                 seconds: float, said: str) -> None:
    takes(monkeypatch, seconds)
    with pytest.raises(Refused) as refused:
        may_begin(environment, moment(now))
    assert said in str(refused.value)


def test_one_of_two_that_are_open_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 0)
    long = {**NIGHTLY, "name": "long", "length": "5h", "latest_start": "4h"}
    may_begin(opened(tmp_path, [NIGHTLY, long]), moment("2026-11-24 03:10"))


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_that_are_open_the_longer_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    takes(monkeypatch, 0)
    long = {**NIGHTLY, "name": "other", "length": "5h", "latest_start": "4h"}
    found = may_begin(opened(tmp_path, [NIGHTLY, long][::order]), moment("2026-11-24 02:10"))
    assert found is not None
    assert found.window.name == "other"


def test_nothing_begins_that_would_not_leave_the_time_to_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 600)
    found = may_begin(opened(tmp_path, [{**NIGHTLY, "reserve": "15m"}]), moment("2026-11-24 02:10"))
    assert found is not None
    now = moment("2026-11-24 03:06")
    monkeypatch.setattr("time.time", lambda: now)
    assert (found.too_late("stop"), found.overrun) == ("", "")
    assert found.too_late("migrate") == (
        "nightly: 2026-11-24 02:00 to 03:30 Europe/London: nothing more begins after 03:15 UTC, "
        "so that going back still fits, and migrate took up to 10 min in earlier runs; it is "
        "03:06 UTC; to go on all the same: --outside-window")
    now = moment("2026-11-24 03:16")
    assert "nothing more begins after 03:15 UTC" in found.too_late("stop")
    now = moment("2026-11-24 03:40")
    assert found.overrun.startswith(
        "nightly: 2026-11-24 02:00 to 03:30 Europe/London was over 10 min ago")


def test_nothing_stops_where_the_rest_would_not_be_over_by_the_end(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fitted when the run began, but what came before has taken too long."""
    known = Estimate(3600, {"migrate": 1500, "start": 10},
                     {"stop-tasks": 3600, "close": 3540, "stop": 3535})
    monkeypatch.setattr(windows, "estimate", lambda _: known)
    found = may_begin(environment, moment("2026-11-24 02:25"))
    assert found is not None
    now = moment("2026-11-24 02:30")
    monkeypatch.setattr("time.time", lambda: now)
    assert found.too_late("stop-tasks") == ""
    now = moment("2026-11-24 02:30") + 30
    assert found.too_late("stop-tasks") == (
        "nightly: 2026-11-24 02:00 to 03:30 Europe/London: 60 min are left, and earlier ones took "
        "up to 60 min; to go on all the same: --outside-window")
    assert (found.too_late("close"), found.too_late("stop")) == ("", "")
    now = moment("2026-11-24 02:32")
    assert "58 min are left, and earlier ones took up to 59 min" in found.too_late("stop")
    assert found.too_late("migrate") == ""


def test_two_windows_may_have_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 0)
    sunday = {**NIGHTLY, "rule": "FREQ=WEEKLY;BYDAY=SU", "reserve": "5m"}
    both = opened(tmp_path, [{**NIGHTLY, "reserve": "10m"}, sunday])
    lasts = [may_begin(both, moment(now)) for now in ("2026-11-24 02:10", "2026-11-29 02:10")]
    assert [each.last for each in lasts if each] == [
        moment("2026-11-24 03:20"), moment("2026-11-29 03:25")]


@pytest.mark.parametrize("once", [{"day": "2026-11-01", "rule": ""},
                                  {"rule": "FREQ=DAILY;UNTIL=20241231T000000Z"},
                                  {"rule": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"}])
def test_where_none_comes_any_more_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    once: dict[str, str],
) -> None:
    takes(monkeypatch, 0)
    with pytest.raises(Refused, match="no window comes after that"):
        may_begin(opened(tmp_path, [{**NIGHTLY, **once}]), moment("2026-11-24 12:00"))
    monkeypatch.setattr("time.time", lambda: moment("2026-11-24 12:00"))
    show_next("prod", str(tmp_path))
    assert capsys.readouterr().out == "nightly: does not come any more\n"


def test_going_back_takes_as_long_as_starting_took(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Estimate(600, {"stop": 20, "migrate": 300, "start": 100, "open": 20})
    monkeypatch.setattr(windows, "estimate", lambda _: known)
    found = may_begin(environment, moment("2026-11-24 02:10"))
    assert found is not None
    assert found.last == moment("2026-11-24 03:28")


def test_the_next_ones_are_shown(
    environment: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes(monkeypatch, 400)
    monkeypatch.setattr("time.time", lambda: moment("2026-11-24 02:30"))
    show_next("prod", str(tmp_path))
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "nightly: 2026-11-24 02:00 to 03:30 Europe/London (open now)"
    assert told[1] == "nightly: 2026-11-26 02:00 to 03:30 Europe/London (in 2 d 0 h)"
    assert told[-1] == "earlier ones took up to 7 min"


@pytest.mark.parametrize(("seconds", "text"), [
    (40, "40 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7200, "2 h"), (180000, "2 d 2 h"),
])
def test_a_span(seconds: float, text: str) -> None:
    assert span(seconds) == text
