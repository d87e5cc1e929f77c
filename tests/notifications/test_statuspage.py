"""A maintenance on a status page: what is sent, when, and what becomes of it."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fabfile import status_page as module
from fabfile.announcing import announcing
from fabfile.course import said_if_closed
from fabfile.display.lines import Lines
from fabfile.display.notices import Post, Status, statuspage_scheduled, statuspage_update
from fabfile.engine import closing
from fabfile.engine.fleet import FleetTransport
from fabfile.engine.journal import keep_incident, left_incident, state_folder
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.post import PAUSE, TRIES, Sender, Untold, _id_in, make
from fabfile.errors import (
    FabfleetError,
    Failed,
    LockHeld,
    Pending,
    Refused,
    Unavailable,
    UsageError,
)
from fabfile.estimates import Estimate
from fabfile.plan import Plan, Stage
from fabfile.session import Session
from fabfile.status_page import (
    BEGUN,
    GOES_ON,
    LEAST,
    LONGER,
    NOT_BEGUN,
    OVER,
    TO_COME,
    UNDONE,
    UNKNOWN,
    announce,
    take_back,
)
from fabfile.strategies import rolling, together
from roles.command import Run, command
from roles.maintenance import Closed
from roles.notifications import EmailSettings, NotificationsSettings
from roles.role import Step
from tests.fabfile.fleets import make_fleet, open_fleet
from tests.notifications.statuspage import COMPONENTS, PAGE, TOKEN, Statuspage, statuspage
from tests.notifications.test_sending import LEEWAY

KEY = "shop-prod"
HELD = Closed(1.0, "Release x", "eve@desk", by_run=True)
BY_HAND = Closed(1.0, "shelves", "eve@desk", by_run=False)
NOON = 1_770_033_600.0


def written(url: str, **more: Any) -> dict[str, Any]:
    return {"timeout": 2, "statuspage": {
        "page": PAGE, "token": {"env": "STATUSPAGE_TOKEN"}, "components": list(COMPONENTS),
        "url": url, **more}}


def settings(url: str = "https://api.statuspage.io", **more: Any) -> NotificationsSettings:
    return NotificationsSettings.model_validate(written(url, **more))


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def scheduled(url: str, token: str = TOKEN, **more: Any) -> Post:
    return statuspage_scheduled(settings(url, **more), token, "Shelves", NOON, NOON + 90, "Soon.")


def body(post: Post) -> Any:
    return json.loads(post.body)


@pytest.fixture
def page() -> Iterator[Statuspage]:
    with statuspage() as found:
        yield found


@pytest.fixture
def nobody() -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


# --- what is sent ---------------------------------------------------------------------------------


def test_a_maintenance_to_come_changes_no_component_and_leaves_nothing_to_the_clock() -> None:
    post = scheduled("https://status.test/")
    assert (post.method, post.address) == (
        "POST", f"https://status.test/v1/pages/{PAGE}/incidents")
    assert post.headers == {"Content-Type": "application/json", "Authorization": f"OAuth {TOKEN}"}
    assert body(post) == {"incident": {
        "name": "Shelves", "status": "scheduled", "body": "Soon.",
        "scheduled_for": "2026-02-02T12:00:00Z", "scheduled_until": "2026-02-02T12:01:30Z",
        "scheduled_auto_in_progress": False, "scheduled_auto_completed": False,
        "auto_transition_to_maintenance_state": False,
        "auto_transition_to_operational_state": False,
        "component_ids": list(COMPONENTS), "deliver_notifications": True}}


@pytest.mark.parametrize(("status", "state"), [
    ("in_progress", "under_maintenance"), ("verifying", "under_maintenance"),
    ("completed", "operational"),
])
def test_an_update(status: Status, state: str) -> None:
    post = statuspage_update(settings(deliver=False), TOKEN, "inc/1", status, "Now.")
    assert (post.method, post.address) == (
        "PATCH", f"https://api.statuspage.io/v1/pages/{PAGE}/incidents/inc%2F1")
    assert body(post) == {"incident": {
        "status": status, "body": "Now.", "component_ids": list(COMPONENTS),
        "components": dict.fromkeys(COMPONENTS, state), "deliver_notifications": False}}


def test_a_title_is_as_long_as_it_may_be() -> None:
    post = statuspage_scheduled(settings(), TOKEN, "x" * 300, NOON, NOON + 60, "")
    assert len(body(post)["incident"]["name"]) == 255


@pytest.mark.parametrize("half", [{"page": PAGE}, {"token": {"env": "STATUSPAGE_TOKEN"}}])
def test_settings_that_are_not_whole(half: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected page and token, which Statuspage needs"):
        NotificationsSettings.model_validate({"statuspage": half})
    assert settings().is_on
    assert not NotificationsSettings().is_on


def test_no_token_shows() -> None:
    update = statuspage_update(settings(), TOKEN, "inc1", "completed", "")
    assert TOKEN not in repr([scheduled("https://x.test"), update])


# --- one that is made at once ---------------------------------------------------------------------


def test_what_is_made_is_known_by_its_id(page: Statuspage) -> None:
    assert make(scheduled(page.url), 2) == "inc1"
    assert make(scheduled(page.url), 2) == "inc2"
    assert make(statuspage_update(settings(page.url), TOKEN, "inc1", "in_progress", "x"), 2) == ""
    assert [each["status"] for each in page.incidents["inc1"]] == ["scheduled", "in_progress"]


def test_a_refusal_is_tried_twice_and_told_without_the_token(page: Statuspage) -> None:
    with pytest.raises(Untold) as refused:
        make(scheduled(page.url, "0ther-t0ken"), 2)
    assert str(refused.value) == (
        'statuspage: HTTP status 401: {"error": "Could not authenticate"}')
    assert len(page.asked) == TRIES


def test_what_was_refused_once_is_made_once(page: Statuspage) -> None:
    page.failures = [503]
    assert make(scheduled(page.url), 2) == "inc1"
    assert len(page.asked) == 2


@pytest.mark.parametrize("how", [{"seconds": 30}, {"nameless": True}])
def test_what_may_have_been_made_is_not_made_again(how: dict[str, Any]) -> None:
    with statuspage(**how) as page:
        began = time.monotonic()
        with pytest.raises(Untold) as untold:
            make(scheduled(page.url), 0.5)
        assert time.monotonic() - began < TRIES * 0.5 + PAUSE + LEEWAY
        assert len(page.asked) == 1
    said = "its answer has no id" if "nameless" in how else "no answer: not within the time"
    assert str(untold.value) == f"statuspage: {said}; it may have been made all the same"


def test_an_answer_that_never_ends_is_not_waited_for() -> None:
    with statuspage(drips=True) as page:
        began = time.monotonic()
        with pytest.raises(Untold, match="not all were taken in time"):
            make(scheduled(page.url), 0.5)
        assert time.monotonic() - began < TRIES * 0.5 + PAUSE + LEEWAY


def test_nobody_there(nobody: str) -> None:
    with pytest.raises(Untold) as untold:
        make(scheduled(nobody), 2)
    assert str(untold.value) == "statuspage: no answer: Connection refused"


@pytest.mark.parametrize("answer", [b"", b"[]", b"[" * 100_000, b'{"id": 5}', b'{"id": "../x"}'])
def test_an_answer_that_is_none(answer: bytes) -> None:
    with pytest.raises(Untold, match="its answer has no id"):
        _id_in(answer)


def test_what_follows_something_that_was_not_made_is_not_sent(nobody: str) -> None:
    made = Sender(2, EmailSettings(), lambda: "")
    seen: list[str] = []

    def later(known: str) -> None:
        seen.append(known)

    made.send([scheduled(nobody), later])
    assert made.finish() == ["statuspage: no answer: Connection refused"]
    assert seen == [""]


# --- with a run -----------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("STATUSPAGE_TOKEN", TOKEN)


class Rig:
    """A run that reaches no host."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, url: str, **more: Any) -> None:
        self.patch = patch
        environment = open_fleet(
            folder, ("web1", "web2"), proxies=["lb1"],
            app={"name": "shop", "urls": ["https://shop.test/"]},
            maintenance={"driver": "haproxy"}, notifications=written(url, **more))
        self.out = io.StringIO()
        self.session = Session(environment, environment.hosts, FleetTransport((), "prod"),
                               Lines(self.out))
        self.fleet = replace(make_fleet(environment), site=environment.site, who="eve@desk")

    def run(
        self, plan: Plan, error: BaseException | None = None,
        closed: Closed | FabfleetError | None = None, incident: str = "",
        silent: Sequence[str] = (),
    ) -> str:
        """What was written. The plan ends with the error, and then the site is so."""
        def look(*_: object) -> Closed | None:
            if isinstance(closed, FabfleetError):
                raise closed
            return closed

        self.patch.setattr(closing, "look_partly", lambda *_: (look(), list(silent)))
        with suppress(*([type(error)] if error else [])), (
                announcing(self.session, incident)) as tell:
            tell.begin(self.fleet, "deploy")
            with said_if_closed(self.session, self.fleet, tell):
                tell.about(plan)
                if error:
                    raise error
        return self.out.getvalue()

    @property
    def closing(self) -> Plan:
        return together.plan(self.fleet)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Statuspage, state: None) -> Rig:
    return Rig(tmp_path, monkeypatch, page.url)


def test_a_run_that_closes_the_site_is_seen_from_then_on_until_it_is_open(
    rig: Rig, page: Statuspage
) -> None:
    before = int(time.time())
    assert rig.run(rig.closing) == ""
    assert page.told() == [("scheduled", TO_COME), ("in_progress", BEGUN), ("completed", OVER)]
    assert set(page.states.values()) == {"operational"}
    first = page.incidents["inc1"][0]
    assert first["name"] == "Maintenance"
    assert before <= seconds(first["scheduled_for"]) <= time.time()
    assert seconds(first["scheduled_until"]) - seconds(first["scheduled_for"]) == UNKNOWN
    assert left_incident(KEY) == ""


@pytest.mark.parametrize(("known", "told"), [(0, UNKNOWN), (6.3, LEAST), (600, 600)])
def test_it_takes_as_long_as_earlier_ones(
    rig: Rig, page: Statuspage, monkeypatch: pytest.MonkeyPatch, known: float, told: float
) -> None:
    monkeypatch.setattr(module, "estimate", lambda _: Estimate(known))
    rig.run(rig.closing)
    first = page.incidents["inc1"][0]
    assert seconds(first["scheduled_until"]) - seconds(first["scheduled_for"]) == told


def test_a_journal_that_cannot_be_read_fails_nothing(rig: Rig, page: Statuspage) -> None:
    folder = state_folder() / KEY
    folder.mkdir(parents=True)
    (folder / "20260101-000000-aaaaaa.jsonl").write_text("{broken\n")
    assert rig.run(rig.closing) == ""
    assert page.told()[-1] == ("completed", OVER)


def test_what_serves_on_is_not_announced(rig: Rig, page: Statuspage) -> None:
    assert rig.run(rolling.plan(rig.fleet)) == ""
    assert rig.run(rolling.plan(rig.fleet), Failed("web1: broken")) == ""
    assert page.asked == []


def test_what_is_pending_is_open(rig: Rig, page: Statuspage) -> None:
    with suppress(Pending), announcing(rig.session) as tell:
        tell.begin(rig.fleet, "deploy")
        with said_if_closed(rig.session, rig.fleet, tell):
            tell.about(rig.closing)
        raise Pending("web3 has to catch up")
    assert page.told()[-1] == ("completed", OVER)


def test_where_a_host_in_front_is_dead_nobody_says_that_nothing_was_changed(
    rig: Rig, page: Statuspage
) -> None:
    """The others may be open with the new release, and the dead one shows the page when it is
    back."""
    rig.run(rig.closing, Failed("lb2: maintenance.smoke: no route"), silent=["lb2: no route"])
    assert page.told()[1:] == [("in_progress", BEGUN), ("in_progress", LONGER)]
    assert left_incident("shop-prod") == "inc1"


def test_a_failure_that_opened_the_site_again(rig: Rig, page: Statuspage) -> None:
    rig.run(rig.closing, Failed("web1: broken"))
    assert page.told()[1:] == [("in_progress", BEGUN), ("completed", UNDONE)]
    assert set(page.states.values()) == {"operational"}
    assert "broken" not in json.dumps(page.incidents)


def test_a_run_that_is_too_late_has_closed_nothing(rig: Rig, page: Statuspage) -> None:
    rig.run(rig.closing, Refused("the window is over"))
    assert page.told()[1:] == [("in_progress", BEGUN), ("completed", UNDONE)]
    rig.fleet = replace(rig.fleet, closed=HELD)  # but for what an earlier one has left
    rig.run(rig.closing, Refused("the window is over"))
    assert page.told("inc2")[-1] == ("in_progress", LONGER)


@pytest.mark.parametrize("closed", [HELD, Unavailable("lb1: no answer")])
def test_a_failure_that_leaves_the_site_closed_and_the_run_that_goes_on(
    rig: Rig, page: Statuspage, closed: Any
) -> None:
    out = rig.run(rig.closing, Failed("web1: broken"), closed)
    assert page.told()[1:] == [("in_progress", BEGUN), ("in_progress", LONGER)]
    assert set(page.states.values()) == {"under_maintenance"}
    assert "notifications: statuspage: incident inc1 is not completed" in out
    assert left_incident(KEY) == "inc1"
    rig.run(rig.closing)
    assert page.told()[3:] == [("in_progress", GOES_ON), ("completed", OVER)]
    assert list(page.incidents) == ["inc1"]
    assert left_incident(KEY) == ""


def test_where_no_page_can_tell_the_servers_do(rig: Rig, page: Statuspage) -> None:
    """They were stopped, and have not all answered since."""
    action = Run(command("true"))
    stage = Stage("stop", "parallel", ())

    def does(name: str, host: str, kind: Kind = Kind.OK) -> None:
        rig.session.downtime.step_finished(stage, Step(name, host, (action,)), Outcome(host, kind))

    for host in ("web1", "web2"):
        does("wsgi.stop", host)
    does("wsgi.health", "web1")
    does("wsgi.health", "web2", Kind.FAILED)
    rig.run(rig.closing, Failed("web1: broken"))
    assert page.told()[-1] == ("in_progress", LONGER)
    does("wsgi.health", "web2")
    rig.run(rig.closing, Failed("web1: broken"))
    assert page.told()[-1] == ("completed", UNDONE)


def test_what_a_person_closed_is_not_called_open(rig: Rig, page: Statuspage) -> None:
    rig.run(together.plan(replace(rig.fleet, closed=BY_HAND)))
    assert page.told()[-1] == ("in_progress", LONGER)
    with announcing(rig.session) as tell:
        tell.opened()
    assert page.told()[-1] == ("completed", OVER)
    assert left_incident(KEY) == ""


def test_a_roll_that_opens_what_a_run_left_closed(rig: Rig, page: Statuspage) -> None:
    rig.run(rig.closing, Failed("web1: broken"), HELD)
    rig.run(rolling.plan(replace(rig.fleet, closed=HELD)))
    assert page.told()[3:] == [("completed", OVER)]
    rig.run(rolling.plan(replace(rig.fleet, closed=HELD)))
    assert len(page.asked) == 4


def test_a_roll_that_finds_open_what_a_run_that_died_has_opened(
    rig: Rig, page: Statuspage
) -> None:
    rig.run(rig.closing, Failed("web1: broken"), HELD)
    for is_open in (False, True, True):
        with announcing(rig.session) as tell:
            tell.begin(rig.fleet, "deploy")
            with said_if_closed(rig.session, rig.fleet, tell):
                tell.about(rolling.plan(rig.fleet), is_open=is_open)
        assert page.told()[3:] == ([("completed", OVER)] if is_open else [])


def test_a_roll_that_failed_does_not_know_what_an_earlier_run_has_stopped(
    rig: Rig, page: Statuspage
) -> None:
    rig.run(rig.closing, Failed("web1: broken"), HELD)
    rig.run(rolling.plan(replace(rig.fleet, closed=HELD)), Failed("web1: broken"))
    assert len(page.told()) == 3
    assert left_incident(KEY) == "inc1"


def test_one_that_was_announced_before(rig: Rig, page: Statuspage) -> None:
    known = make(scheduled(page.url), 2)
    rig.run(rig.closing, incident=known)
    assert list(page.incidents) == [known]
    assert page.told(known) == [("scheduled", "Soon."), ("in_progress", BEGUN),
                                ("completed", OVER)]


def test_one_that_was_announced_before_is_left_to_the_next_run_as_well(
    rig: Rig, page: Statuspage
) -> None:
    known = make(scheduled(page.url), 2)
    rig.run(rig.closing, Failed("web1: broken"), HELD, incident=known)
    assert left_incident(KEY) == known
    rig.run(rig.closing)
    assert list(page.incidents) == [known]
    assert page.told(known)[-1] == ("completed", OVER)


def test_one_that_was_announced_and_does_not_take_place(rig: Rig, page: Statuspage) -> None:
    known = make(scheduled(page.url), 2)
    with suppress(Refused), announcing(rig.session, known) as tell:
        tell.begin(rig.fleet, "deploy")
        raise Refused("the release was refused")
    assert page.told(known)[1:] == [("completed", NOT_BEGUN)]


def test_one_that_was_announced_for_a_run_that_closes_nothing(rig: Rig, page: Statuspage) -> None:
    known = make(scheduled(page.url), 2)
    rig.run(rolling.plan(rig.fleet), incident=known)
    assert page.told(known)[1:] == [("completed", OVER)]


def test_a_run_that_never_began_leaves_it_as_it_was(rig: Rig, page: Statuspage) -> None:
    known = make(scheduled(page.url), 2)
    with suppress(LockHeld), announcing(rig.session, known):
        raise LockHeld("somebody else")
    assert len(page.told(known)) == 1


def test_where_a_run_dies_the_next_one_knows(rig: Rig, page: Statuspage) -> None:
    with suppress(KeyboardInterrupt), announcing(rig.session) as tell:
        tell.begin(rig.fleet, "deploy")
        tell.about(rig.closing)
        assert page.updated.wait(30)
        assert left_incident(KEY) == "inc1"
        raise KeyboardInterrupt
    assert page.told()[-1] == ("in_progress", LONGER)


def test_what_somebody_deleted_there_is_forgotten(rig: Rig, page: Statuspage) -> None:
    keep_incident(KEY, "gone")
    out = rig.run(rig.closing)
    assert "notifications: statuspage: HTTP status 404" in out
    assert left_incident(KEY) == ""
    rig.run(rig.closing)
    assert page.told()[-1] == ("completed", OVER)


def test_where_it_cannot_be_kept_that_is_only_noted(
    rig: Rig, page: Statuspage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "file"))
    assert rig.run(rig.closing).strip() == (
        "notifications: statuspage: incident inc1 cannot be kept: Not a directory")
    assert page.told()[-1] == ("completed", OVER)


def test_who_never_answers_delays_nothing_but_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: None
) -> None:
    with statuspage(seconds=30) as page:
        slow = Rig(tmp_path, monkeypatch, page.url)
        began = time.monotonic()
        with announcing(slow.session) as tell:
            tell.begin(slow.fleet, "deploy")
            tell.about(slow.closing)
            assert time.monotonic() - began < LEEWAY
        assert time.monotonic() - began < TRIES * 2 + PAUSE + LEEWAY
        out = slow.out.getvalue()
        assert "notifications: statuspage: no answer: not within the time; it may have" in out
        assert TOKEN not in out
        assert len(page.asked) == 1


def test_who_is_dead_is_only_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: None, nobody: str
) -> None:
    dead = Rig(tmp_path, monkeypatch, nobody)
    assert dead.run(dead.closing).strip() == (
        "notifications: statuspage: no answer: Connection refused")
    assert left_incident(KEY) == ""


def test_who_dies_meanwhile_leaves_it_for_the_next_run(rig: Rig, page: Statuspage) -> None:
    with announcing(rig.session) as tell:
        tell.begin(rig.fleet, "deploy")
        with said_if_closed(rig.session, rig.fleet, tell):
            tell.about(rig.closing)
            assert page.updated.wait(30)
            page.failures = [500] * TRIES
    out = rig.out.getvalue()
    assert 'statuspage: HTTP status 500: {"error": "not now"}' in out
    assert "incident inc1 is not completed" in out
    assert TOKEN not in out
    with announcing(rig.session) as tell:
        tell.opened()
    assert page.told()[-1] == ("completed", OVER)


def test_a_token_that_is_missing_is_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Statuspage, state: None
) -> None:
    rig = Rig(tmp_path, monkeypatch, page.url, token={"env": "STATUSPAGE_NOWHERE"})
    assert rig.run(rig.closing).count("secret env:STATUSPAGE_NOWHERE: this environment") == 1
    assert page.asked == []


# --- long before it begins ---------------------------------------------------------------------


def test_it_is_announced_when_it_is_scheduled(rig: Rig, page: Statuspage) -> None:
    environment = rig.session.environment
    assert announce(environment, NOON) == ("inc1", [])
    (told,) = page.incidents["inc1"]
    assert (told["status"], seconds(told["scheduled_for"])) == ("scheduled", NOON)
    assert seconds(told["scheduled_until"]) == NOON + UNKNOWN
    settings = environment.of(NotificationsSettings, "notifications")
    assert take_back(settings, "inc1") == []
    assert page.incidents["inc1"][-1]["status"] == "completed"
    assert page.incidents["inc1"][-1]["body"] == NOT_BEGUN
    assert take_back(settings, "") == []


def test_what_goes_wrong_then_is_only_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(secret: object) -> str:
        raise UsageError("it is not set")

    monkeypatch.setattr(module, "resolve", resolve)
    assert announce(rig.session.environment, NOON) == ("", ["it is not set"])
