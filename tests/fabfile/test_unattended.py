"""What an alarm starts: what it begins, what it leaves alone, and what becomes known of it."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile import approval, schedule, status_page, unattended
from fabfile.announcing import refuse_untold
from fabfile.course import Wish, approvable
from fabfile.display.notices import Notice
from fabfile.engine import alarm, scheduled
from fabfile.engine.journal import left_incident
from fabfile.engine.scheduled import Scheduled
from fabfile.errors import (
    FabfleetError,
    Failed,
    LockHeld,
    Pending,
    Refused,
    Unavailable,
    UsageError,
)
from fabfile.plan import Plan
from fabfile.schedule import Asked
from fabfile.strategies import together
from roles.hooks import HooksSettings
from roles.notifications import NotificationsSettings
from tests.fabfile.fleets import make_fleet, open_fleet

NIGHTLY = {"name": "nightly", "zone": "Europe/London", "at": "02:00", "length": "90m",
           "rule": "FREQ=DAILY", "latest_start": "60m"}


KEPT = {"app": "shop", "url": "", "hosts": 1, "key": "shop-prod",
        "notifications": {"slack": {"url": {"env": "HOOK"}}}}


class Rig:
    """Everything but the deploy itself, which does what it is told to."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FABFLEET_STATE", str(folder / "state"))
        self.wishes: list[Wish] = []
        self.told: list[Notice] = []
        self.gone: list[str] = []
        self.alarms: list[alarm.Alarm] = []
        self.error: BaseException | None = None
        self.problem = ""
        self.inventory = str(folder)
        monkeypatch.setattr(unattended, "carry_out", self.carry_out)
        monkeypatch.setattr(unattended, "tell_once", self.tell_once)
        monkeypatch.setattr(alarm, "take_away", self.gone.append)
        monkeypatch.setattr(alarm, "problem", lambda name: self.problem)
        open_fleet(folder, ("web1",), maintenance={"windows": [NIGHTLY]})

    def carry_out(self, wish: Wish) -> None:
        assert scheduled.read("x").state == "started"
        self.wishes.append(wish)
        if self.error:
            raise self.error

    def set_alarm(self, found: alarm.Alarm) -> str:
        if self.error:
            raise self.error
        self.alarms.append(found)
        return "cron"

    def tell_once(self, settings: NotificationsSettings, notice: Notice) -> list[str]:
        self.settings = settings
        self.told.append(notice)
        return []

    def put(self, **values: Any) -> Scheduled:
        now = time.time()
        found = Scheduled(
            id="x", env="prod", inventory=self.inventory, zone="UTC", at=now, latest=now + 60,
            commit="c0ffee", ref="v2", release="r2", digest="d" * 64, hooks="h" * 64,
            who="eve@desk", kept=KEPT,
            options={"accept_risk": ["a.b"], "approved_plan": "", "outside_window": False})
        scheduled.write(replace(found, **values))
        return scheduled.read("x")

    @property
    def state(self) -> tuple[str, str]:
        found = scheduled.read("x")
        return found.state, found.why


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_it_runs_what_was_pinned(rig: Rig) -> None:
    assert unattended.run(rig.put(incident="i1")) == 0
    (wish,) = rig.wishes
    assert (wish.ref, wish.called, wish.maintenance, wish.yes) == ("c0ffee", "v2", True, True)
    assert wish.accept_risk == ("a.b",)
    assert wish.approved == approval.Approved("d" * 64, "r2", scheduled.read("x").plan, "h" * 64)
    assert wish.incident == "i1"
    assert rig.state == ("finished", "")
    assert rig.gone == ["fabfleet-x"]
    assert rig.told == []


@pytest.mark.parametrize("state", ["finished", "pending", "failed", "skipped", "interrupted",
                                   "cancelled"])
def test_it_never_runs_twice(rig: Rig, state: str) -> None:
    assert unattended.run(rig.put(state=state)) == 0
    assert (rig.wishes, rig.state, rig.told) == ([], (state, ""), [])


def test_before_its_time_a_boot_starts_nothing(rig: Rig) -> None:
    now = time.time()
    assert unattended.run(rig.put(at=now + 60, latest=now + 600)) == 0
    assert (rig.wishes, rig.state, rig.gone) == ([], ("waiting", ""), [])


def test_while_it_runs_nothing_else_does(rig: Rig) -> None:
    found = rig.put(state="started")
    with scheduled.held(found) as alone:
        assert alone
        assert unattended.run(found) == 0
    assert (rig.wishes, rig.state) == ([], ("started", ""))


def test_what_was_cut_off_is_told_and_not_begun_again(rig: Rig) -> None:
    assert unattended.run(rig.put(state="started")) == 1
    state, why = rig.state
    assert (rig.wishes, state) == ([], "interrupted")
    assert "fab maintenance.status --env=prod" in why
    assert [(each.kind, each.task, each.next) for each in rig.told] == [(
        "failed", "scheduled deploy",
        "fab deploy --env=prod --inventory=" + rig.inventory
        + " --ref=c0ffee --accept-risk=a.b --maintenance")]


def test_a_process_that_was_killed_is_told_when_it_has_ended(rig: Rig) -> None:
    assert unattended.ended(rig.put(state="started")) == 1
    assert (rig.state[0], [each.kind for each in rig.told]) == ("interrupted", ["failed"])


@pytest.mark.parametrize(("state", "status"), [
    ("waiting", "0"), ("waiting", "TERM"), ("finished", "0"), ("failed", "1"),
    ("cancelled", "TERM")])
def test_what_has_ended_well_or_did_not_begin_is_left_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, state: str, status: str
) -> None:
    monkeypatch.setenv("EXIT_STATUS", status)
    assert unattended.ended(rig.put(state=state)) == 0
    assert (rig.wishes, rig.state, rig.told, rig.gone) == ([], (state, ""), [], [])


def test_what_a_boot_breaks_before_its_time_is_begun_at_its_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXIT_STATUS", "1")
    now = time.time()
    assert unattended.ended(rig.put(at=now + 60, latest=now + 600)) == 0
    assert (rig.state, rig.gone) == (("waiting", ""), [])


@pytest.mark.parametrize("status", ["1", "KILL"])
def test_a_process_that_could_not_even_begin_is_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setenv("EXIT_STATUS", status)
    assert unattended.ended(rig.put()) == 0
    assert (rig.state[0], [each.kind for each in rig.told]) == ("skipped", ["skipped"])
    assert rig.state[1].startswith("its process ended before it began anything; what it said")


def test_a_boot_just_before_its_time_waits_for_it(rig: Rig) -> None:
    """An alarm that comes while the boot's process still runs would start nothing."""
    at = time.time() + 0.5
    assert unattended.run(rig.put(at=at, latest=at + 60)) == 0
    assert rig.state[0] == "finished"
    assert time.time() >= at


def test_a_full_disk_is_told_before_anything_begins(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.put()

    def full(found: Scheduled) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scheduled, "write", full)
    monkeypatch.setattr("sys.stdout", disk := Full())
    assert unattended.main(["run", "x"]) == 0
    assert rig.wishes == []
    assert [(each.kind, each.detail) for each in rig.told] == [
        ("skipped", "that it begins cannot be kept: [Errno 28] No space left on device")]
    assert rig.gone == ["fabfleet-x"]
    assert "x: skipped: that it begins" in "".join(disk.lost)


class Full(io.StringIO):
    """A log on a full disk."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[str] = []

    def write(self, text: str) -> int:
        self.lost.append(text)
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("error", [None, Failed("web1: not healthy"), RuntimeError("boom")])
def test_a_disk_that_fills_up_meanwhile_makes_of_no_run_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    rig.error = error
    rig.put()
    monkeypatch.setattr("sys.stdout", Full())
    monkeypatch.setattr("sys.stderr", Full())
    assert unattended.main(["run", "x"]) == (1 if error else 0)
    assert rig.state[0] == ("failed" if error else "finished")


def test_for_the_last_word_there_is_room(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each of cron's minutes would tell everybody anew."""
    found = rig.put()
    found.room.write_bytes(b"x")
    real = scheduled.write

    def full(new: Scheduled) -> None:
        if found.room.exists():
            raise OSError(28, "No space left on device")
        real(new)

    monkeypatch.setattr(scheduled, "write", full)
    for _ in range(2):
        assert unattended.main(["run", "x"]) == 0
    assert (rig.state[0], len(rig.told), rig.wishes) == ("skipped", 1, [])


def test_too_late_it_is_skipped(rig: Rig) -> None:
    now = time.time()
    assert unattended.run(rig.put(at=now - 120, latest=now - 60)) == 0
    assert (rig.wishes, rig.state[0]) == ([], "skipped")
    assert rig.state[1].startswith("it was to begin by ")
    assert [each.kind for each in rig.told] == ["skipped"]


@pytest.mark.parametrize(("error", "state", "code", "kind"), [
    (Refused("the plan is another one"), "skipped", 0, "skipped"),
    (LockHeld("run r1 holds the lock"), "skipped", 0, "skipped"),
    (Unavailable("web1: unreachable"), "skipped", 0, "skipped"),
    (UsageError("prod/hosts.yml: bad"), "skipped", 0, "skipped"),
    (Pending("a migration waits"), "pending", 0, "pending"),
    (Failed("web1: not healthy"), "failed", 1, "failed"),
])
def test_how_it_ends(rig: Rig, error: Exception, state: str, code: int, kind: str) -> None:
    rig.error = error
    assert unattended.run(rig.put()) == code
    assert rig.state == (state, str(error))
    assert [(each.kind, each.detail) for each in rig.told] == [(kind, str(error))]
    assert rig.gone == ["fabfleet-x"]


@pytest.mark.parametrize(("error", "announced", "expected"), [
    (Failed("no wheel for it"), False, ["i1"]), (Refused("frozen"), False, ["i1"]),
    (Failed("web1: not healthy"), True, []), (Pending("a migration waits"), False, []),
])
def test_what_began_nothing_is_taken_back_from_the_status_page(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: FabfleetError, announced: bool,
    expected: list[str],
) -> None:
    back: list[str] = []

    def take_back(_: NotificationsSettings, incident: str) -> list[str]:
        back.append(incident)
        return []

    monkeypatch.setattr(status_page, "take_back", take_back)
    rig.error, error.announced = error, announced
    unattended.run(rig.put(incident="i1"))
    assert back == expected


def test_what_was_announced_for_a_run_that_was_cut_off_is_left_to_whoever_opens(rig: Rig) -> None:
    assert unattended.run(rig.put(state="started", incident="i1")) == 1
    assert rig.state[0] == "interrupted"
    assert left_incident("shop-prod") == "i1"


def test_why_it_failed_is_no_secret_to_its_owner_alone(rig: Rig) -> None:
    rig.error = Failed("web1: broken\n  to look past the page: https://shop.test/?pass=5ec3e7")
    unattended.run(rig.put())
    assert scheduled.read("x").path.stat().st_mode & 0o777 == 0o600


def test_what_the_run_has_told_is_not_told_again(rig: Rig) -> None:
    rig.error = Failed("web1: not healthy")
    rig.error.announced = True
    unattended.run(rig.put())
    assert (rig.state[0], rig.told) == ("failed", [])


def test_what_nobody_foresaw_is_known_too(rig: Rig) -> None:
    rig.error = RuntimeError("boom")
    assert unattended.run(rig.put()) == 1
    assert rig.state == ("failed", "RuntimeError: boom")
    assert [(each.kind, each.detail) for each in rig.told] == [("failed", "RuntimeError: boom")]


def test_what_nobody_foresaw_is_not_told_twice(rig: Rig) -> None:
    rig.error = RuntimeError("boom")
    vars(rig.error)["announced"] = True
    assert unattended.run(rig.put()) == 1
    assert (rig.state[0], rig.told) == ("failed", [])


def test_an_alarm_that_cannot_be_taken_away_keeps_nothing_from_being_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise Refused("systemctl disable: no bus")

    monkeypatch.setattr(alarm, "take_away", refuse)
    rig.error = Unavailable("web1: unreachable")
    assert unattended.run(rig.put()) == 0
    assert (rig.state[0], [each.kind for each in rig.told]) == ("skipped", ["skipped"])


def test_an_inventory_that_cannot_be_read_any_more(rig: Rig) -> None:
    """Whom it went to when it was scheduled is told."""
    rig.error = UsageError("bad")
    assert unattended.run(rig.put(inventory="/no/such")) == 0
    (told,) = rig.told
    assert (rig.state[0], told.kind, told.app, told.hosts) == ("skipped", "skipped", "shop", 1)
    assert [each.reference().name for each in rig.settings.secrets] == ["HOOK"]


def test_what_is_kept_is_what_the_inventory_says(rig: Rig, tmp_path: Path) -> None:
    notifications = {"slack": {"url": {"env": "HOOK"}}, "timeout": 3}
    environment = open_fleet(tmp_path, ("web1",), app={"urls": ["https://shop.test"]},
                             notifications=notifications)
    assert unattended.kept(environment) == {
        "app": "shop", "url": "https://shop.test", "hosts": 1, "key": "shop-prod",
        "notifications": {"slack": {"url": {"env": "HOOK"}}, "timeout": 3}}
    assert unattended.known(rig.put())[1].timeout == 3
    assert unattended.known(rig.put(inventory="/no/such"))[1].timeout == 5


# --- the approved plan ------------------------------------------------------------------------


def test_another_plan_is_refused_with_what_differs(tmp_path: Path) -> None:
    before = Plan("release", "prod", "r1", "together")
    path = tmp_path / "plan"
    path.write_text(approval.text([before]))
    found = approval.Approved(approval.digest([before]), "r1", path, "")
    found.check([before])
    with pytest.raises(Refused) as refused:
        found.check([replace(before, name="rollback")])
    assert str(refused.value).splitlines()[1:] == [
        "  -plan release: nothing to do", "  +plan rollback: nothing to do",
        "nothing that serves was changed"]
    with pytest.raises(Refused, match="in details that the text of a plan does not show"):
        found.check([replace(before, strategy="rolling")])
    with pytest.raises(Refused, match="it is release r2 by now: content, dependencies or settings"):
        found.check([replace(before, release="r2")])


def test_neither_who_runs_it_nor_which_window_is_open_makes_another_plan(tmp_path: Path) -> None:
    environment = open_fleet(
        tmp_path, ("web1",), app={"urls": ["https://shop.test"]},
        maintenance={"driver": "haproxy", "hosts": ["web1"]})
    fleet = replace(make_fleet(environment), site=environment.site, who="eve@desk",
                    until=1796090400)
    fleet = replace(fleet, deploy=fleet.deploy.model_copy(update={"strategy": "together"}))
    other = replace(fleet, who="eve@desk2", until=1796097600)
    made = [approvable(each) for each in (fleet, other)]
    assert any(stage.name == "close" for plan in made[0] for stage in plan.stages)
    assert approval.digest(made[0]) == approval.digest(made[1])
    assert together.plan(fleet) != together.plan(other)  # they stand in what visitors read


@pytest.mark.parametrize(("now", "refused"), [
    ({"before": {"stage": [{"run": "echo a"}], "finish": [{"run": "echo c"}]}}, False),
    ({"before": {"stage": [{"run": "echo a"}]}, "after": {"stage": [{"run": "echo b"}]}}, True),
    ({"before": {"stage": [{"run": "echo a", "timeout": 5}]}}, True),
    ({"after": {"stage": [{"run": "echo a"}]}}, True),
    ({}, True),
])
def test_other_hooks_around_staging_are_refused(
    tmp_path: Path, now: dict[str, Any], refused: bool
) -> None:
    """Those of all other stages stand in the plan itself."""
    before = HooksSettings.model_validate({"before": {"stage": [{"run": "echo a"}]}})
    found = approval.Approved("", "r1", tmp_path / "plan", approval.hooks_digest(before))
    with pytest.raises(Refused, match="those before or after the stage") if refused else (
            nullcontext()):
        found.check_hooks(HooksSettings.model_validate(now))


def test_of_a_long_line_the_part_is_shown_that_differs(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    long = "x" * 300
    path.write_text(f"plan release: nothing to do\nnote {long} threads 4 {long}\n")
    changes = list(approval._changes(path.read_text().splitlines(),
                                     path.read_text().replace("4", "3").splitlines()))
    assert [line[:6] for line in changes] == ["  -...", "  +..."]
    assert ("threads 4" in changes[0], "threads 3" in changes[1]) == (True, True)
    assert max(map(len, changes)) < 130


# --- scheduling -------------------------------------------------------------------------------


def asked(rig: Rig, **values: Any) -> Asked:
    typed = {"at": "", "window": "", "outside_window": False, **values}
    return Asked(env="prod", inventory=rig.inventory, ref="v2", accept_risk=(), approved_plan="",
                 yes=True, **typed)


@pytest.fixture
def ready(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str, str], Rig]:
    """A machine on which it can be scheduled; the rehearsal says what it is told to."""
    def make(code: int, out: str, err: str) -> Rig:
        program = Path(rig.inventory) / "python"
        answer = json.dumps(out)[1:-1]
        program.write_text(f"#!/bin/sh\necho '{answer}'\necho '{err}' >&2\nexit {code}\n"
                           .replace('\\"', '"'))
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(program))
        monkeypatch.setattr(alarm, "refuse_where_none_can_be", lambda: None)
        monkeypatch.setattr(alarm, "set_alarm", rig.set_alarm)
        return rig

    return make


TOLD = json.dumps({"commit": "c0ffee", "ref": "v2", "release": "r2", "digest": "e" * 64,
                   "hooks": "f" * 64, "brief": ["plan release"],
                   "text": "all of it", "closes": True, "kept": KEPT})


def test_in_a_window(ready: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rig = ready(0, TOLD, "")
    schedule.add(asked(rig, window="nightly"))
    ((found,), _) = scheduled.listed()
    assert (found.commit, found.release) == ("c0ffee", "r2")
    assert (found.digest, found.hooks) == ("e" * 64, "f" * 64)
    assert found.latest - found.at == 3600
    assert time.gmtime(found.at)[3:5] in {(1, 0), (2, 0)}
    assert found.plan.read_text() == "all of it"
    assert found.room.stat().st_size == schedule.ROOM
    (set_,) = rig.alarms
    assert (set_.name, set_.at, list(set_.argv[-2:])) == (found.alarm, found.at, ["run", found.id])
    assert list(set_.after[-2:]) == ["ended", found.id]
    assert "SSH_AUTH_SOCK" not in set_.environment
    assert os.stat(found.output).st_mode & 0o77 == 0
    out = capsys.readouterr().out
    assert f"to cancel it: fab maintenance.cancel --id={found.id}" in out
    schedule.show("", as_json=False)
    assert f"{found.id}: waiting: r2 (v2) at " in capsys.readouterr().out
    schedule.cancel(found.id)
    assert rig.gone == [found.alarm]
    with pytest.raises(UsageError, match="it is cancelled already"):
        schedule.cancel(found.id)


def test_a_rehearsal_that_fails_schedules_nothing(ready: Any) -> None:
    rig = ready(3, "", "no key")
    with pytest.raises(Refused, match="no key\nthis is what a rehearsal met that has"):
        schedule.add(asked(rig, at="90m", outside_window=True))
    assert (scheduled.listed()[0], rig.alarms) == ([], [])


def test_where_nothing_would_be_closed_nothing_is_scheduled(ready: Any) -> None:
    rig = ready(0, TOLD.replace("true", "false"), "")
    with pytest.raises(Refused, match="r2 serves already, so nothing would be closed"):
        schedule.add(asked(rig, at="90m", outside_window=True))
    assert (scheduled.listed()[0], rig.alarms) == ([], [])


def test_who_could_not_be_told_at_night_is_known_by_day(tmp_path: Path) -> None:
    missing = {"env": "NO_SUCH_VARIABLE"}
    environment = open_fleet(tmp_path, ("web1",), notifications={
        "slack": {"url": missing}, "webhook": {"url": {"file": "/no/such"}, "key": missing}})
    with pytest.raises(UsageError) as refused:
        refuse_untold(environment)
    lines = str(refused.value).splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["notifications", " secret env"], ["notifications", " secret file"],
        ["notifications", " secret env"]]


@pytest.mark.parametrize(("typed", "said"), [
    ({}, "--at, --window: say one of them, and only one"),
    ({"at": "90m", "window": "nightly"}, "--at, --window: say one of them"),
    ({"window": "weekly"}, "--window=weekly: no maintenance window is called so; those that are: "
                           "nightly"),
    ({"at": "2031-07-01 12:00 UTC"}, "--at=2031-07-01 12:00 UTC: no maintenance window lets a "),
    ({"at": "2031-07-01 02:59 Europe/London"}, "2031-07-01 02:59 Europe/London: it would have to "
     "begin within 60 s (the window's latest_start), and an alarm may be later than that; leave it "
     "120 s"),
    ({"at": "2031-07-01 02:00"}, "--at=2031-07-01 02:00: in which time zone? \"2031-07-01 02:00 "
     "UTC\" or \"2031-07-01 02:00 Europe/London\""),
    ({"at": "2031-07-01 03:15 Europe/London"}, "--at=2031-07-01 03:15 Europe/London: no"),
    ({"at": "soon"}, "--at=soon: expected 90m"),
])
def test_what_cannot_be_scheduled(ready: Any, typed: dict[str, str], said: str) -> None:
    rig = ready(0, TOLD, "")
    with pytest.raises((UsageError, Refused)) as refused:
        schedule.add(asked(rig, **typed))
    assert str(refused.value).startswith(said)
    assert scheduled.listed() == ([], [])


def test_a_moment_in_a_window_has_that_window_s_limit(ready: Any) -> None:
    rig = ready(0, TOLD, "")
    schedule.add(asked(rig, at="2031-07-01 02:30 Europe/London"))
    ((found,), _) = scheduled.listed()
    assert (found.zone, found.latest - found.at) == ("Europe/London", 1800)


def test_beyond_a_window_s_latest_start_it_may_begin_all_the_same(ready: Any) -> None:
    rig = ready(0, TOLD, "")
    schedule.add(asked(rig, at="2031-07-01 03:15 Europe/London", outside_window=True))
    ((found,), _) = scheduled.listed()
    assert found.latest - found.at == schedule.GRACE


def test_of_two_windows_that_are_open_the_later_limit_counts(ready: Any) -> None:
    rig = ready(0, TOLD, "")
    long = {**NIGHTLY, "name": "long", "length": "5h", "latest_start": "4h"}
    open_fleet(Path(rig.inventory), ("web1",), maintenance={"windows": [NIGHTLY, long]})
    schedule.add(asked(rig, at="2031-07-01 03:30 Europe/London"))
    ((found,), _) = scheduled.listed()
    assert found.latest - found.at == 2.5 * 3600


def test_all_is_written_before_anything_can_start_it(
    ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = ready(0, TOLD, "")
    monkeypatch.setattr(status_page, "announce", lambda *_: ("i1", []))
    seen = []

    def begin_at_once(found: alarm.Alarm) -> str:
        ((kept,), _) = scheduled.listed()
        seen.append(kept.incident)
        scheduled.moved(kept, "started")
        return "cron"

    monkeypatch.setattr(alarm, "set_alarm", begin_at_once)
    schedule.add(asked(rig, window="nightly"))
    ((found,), _) = scheduled.listed()
    assert (seen, found.state) == (["i1"], "started")


def test_an_alarm_that_cannot_be_set_leaves_nothing(
    ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = ready(0, TOLD, "")
    back: list[str] = []
    monkeypatch.setattr(status_page, "announce", lambda *_: ("i1", []))
    monkeypatch.setattr(status_page, "take_back", lambda _, incident: back.append(incident))
    rig.error = Refused("systemctl enable: no bus")
    with pytest.raises(Refused, match="no bus"):
        schedule.add(asked(rig, window="nightly"))
    assert (scheduled.listed()[0], len(rig.gone), back) == ([], 1, ["i1"])


def test_who_thinks_too_long_schedules_nothing(
    ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = ready(0, TOLD, "")
    now = time.time()
    monkeypatch.setattr(schedule, "confirm",
                        lambda *_: monkeypatch.setattr("time.time", lambda: now + 7200))
    with pytest.raises(Refused, match="it had to begin by"):
        schedule.add(asked(rig, at="10m", outside_window=True))
    assert (scheduled.listed()[0], rig.alarms) == ([], [])


def test_what_is_cancelled_stays_so_where_its_alarm_cannot_be_taken_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise Refused("systemctl disable: no bus")

    rig.put()
    monkeypatch.setattr(alarm, "take_away", refuse)
    schedule.cancel("x")
    assert capsys.readouterr().out == "x: cancelled\nnote: systemctl disable: no bus\n"
    assert rig.state[0] == "cancelled"


def test_what_cannot_be_known_any_more_is_a_note(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.put(incident="i1", inventory="/no/such", kept={})
    schedule.cancel("x")
    told = capsys.readouterr().out
    assert told.startswith("x: cancelled\nnote: notifications: ")


def test_the_status_page_is_tried_again_when_it_is_cancelled_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the inventory is not needed for it."""
    answers: list[list[str]] = [["no answer"], []]
    monkeypatch.setattr(status_page, "take_back", lambda settings, incident: answers.pop(0))
    rig.put(incident="i1", inventory="/no/such")
    schedule.cancel("x")
    assert capsys.readouterr().out == "x: cancelled\nnote: notifications: no answer\n"
    assert scheduled.read("x").incident == "i1"
    for _ in range(2):  # the second time there is nothing left to do
        with pytest.raises(UsageError, match="it is cancelled already"):
            schedule.cancel("x")
    assert (answers, scheduled.read("x").incident) == ([], "")


def test_what_nobody_has_agreed_to_yet_is_known_as_that(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rig.put(state="preparing")
    with scheduled.held(found):
        schedule.show("", as_json=False)
        assert "nothing will start it" not in capsys.readouterr().out
        with pytest.raises(Refused, match="it is about to be scheduled, and waits for an answer"):
            schedule.cancel("x")
    schedule.show("", as_json=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  whoever was about to schedule it is gone, and nothing will start it",
        "  to take it away: fab maintenance.cancel --id=x"]
    assert unattended.run(found) == 0
    assert rig.wishes == []
    schedule.cancel("x")
    assert rig.state[0] == "cancelled"


def test_what_nothing_will_start_says_so(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    rig.put(at=now + 60, latest=now + 600)
    rig.problem = "its line in the crontab is gone"
    schedule.show("", as_json=False)
    assert "  nothing will start it: its line in the crontab is gone\n" in capsys.readouterr().out


def test_what_cannot_be_read_hides_nothing_else(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.put()
    (scheduled.folder() / "torn.json").write_text("{")
    (scheduled.folder() / "newer.json").write_text('{"id": "newer", "colour": "red"}')
    schedule.show("", as_json=False)
    told = capsys.readouterr()
    assert told.out.startswith("x: waiting: ")
    assert told.err.count("cannot be read, so it will not run: ") == 2
    assert unattended.main(["run", "torn"]) == 2


def test_what_nothing_has_begun_or_nobody_runs_any_more_says_so(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    rig.put(at=now - 120, latest=now - 60)
    schedule.show("", as_json=False)
    assert "nothing has begun it by " in capsys.readouterr().out
    found = rig.put(state="started")
    schedule.show("", as_json=False)
    assert "the process that ran it is gone" in capsys.readouterr().out
    with scheduled.held(found):
        schedule.show("", as_json=False)
    assert "gone" not in capsys.readouterr().out
