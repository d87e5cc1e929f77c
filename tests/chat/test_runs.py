"""Runs are processes of their own: nothing that happens to the bot or to Slack harms one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from slack_sdk import WebClient

from fabfile.chat.runs import Record
from fabfile.chat.slack import TRIES, Slack, Unsaid
from fabfile.engine import children
from fabfile.engine.journal import ASKED_BY, operator
from fabfile.maintenance import lines
from roles.maintenance import Closed, MaintenanceSettings, Site
from tests.chat.conftest import CHANNEL, DEPLOYER, World, eventually
from tests.chat.fake_slack import FakeSlack


def ended(status: Path) -> int:
    eventually(lambda: children.ended(status) is not None, status.read_text)
    found = children.ended(status)
    assert found is not None
    return found


def started(folder: Path, program: str) -> Path:
    words = [sys.executable, "-I", "-c", program]
    status = folder / "status"
    children.start(words, dict(os.environ), folder / "log", status)
    return status


@pytest.mark.parametrize(("program", "status"), [
    ("", 0), ("raise SystemExit(75)", 75), ("import os; os.kill(os.getpid(), 9)", 137),
])
def test_how_a_child_ended(tmp_path: Path, program: str, status: int) -> None:
    path = started(tmp_path, program)
    assert ended(path) == status


def test_a_child_writes_both_its_outputs_into_a_file_for_our_eyes_only(tmp_path: Path) -> None:
    path = started(tmp_path, "import sys; print('out', flush=True); sys.exit('err')")
    assert ended(path) == 1
    assert (tmp_path / "log").read_text() == "out\nerr\n"
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_a_child_lives_on_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The parent is a process of its own here, killed with its whole group."""
    gate = tmp_path / "gate"
    gate.touch()
    child = (f"import os, time\nprint(os.getpid(), flush=True)\n"
             f"while os.path.exists({str(gate)!r}): time.sleep(0.02)\nprint('done')")
    parent = (f"import os, sys, time\nfrom pathlib import Path\n"
              f"from fabfile.engine import children\n"
              f"children.start([sys.executable, '-I', '-c', {child!r}], dict(os.environ), "
              f"Path({str(tmp_path / 'log')!r}), Path({str(tmp_path / 'status')!r}))\n"
              f"time.sleep(600)")
    with subprocess.Popen([sys.executable, "-c", parent], start_new_session=True) as process:
        log = tmp_path / "log"
        eventually(lambda: log.exists() and log.read_text(), process.poll)
        os.killpg(process.pid, signal.SIGKILL)
    assert children.ended(tmp_path / "status") is None
    gate.unlink()
    assert ended(tmp_path / "status") == 0
    assert log.read_text().endswith("done\n")


def test_one_that_was_killed_with_its_keeper_is_gone(tmp_path: Path) -> None:
    path = started(tmp_path, "import os, time; print(os.getsid(0), flush=True); "
                             "time.sleep(600)")
    log = tmp_path / "log"
    eventually(log.read_text, log.read_text)
    assert children.ended(path) is None
    os.killpg(int(log.read_text()), signal.SIGKILL)
    assert ended(path) == children.GONE
    assert children.ended(tmp_path / "never") == children.GONE


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-c", "import time; print('x', flush=True); time.sleep(600)"]
    found = children.ask(words, dict(os.environ), 1.0)
    assert found.status == children.GONE
    assert found.err == "did not end within 1 s"


def test_a_run_goes_on_while_slack_is_dead(world: World) -> None:
    button = world.offered()["confirm"]
    world.slack.silent = True
    world.press(button)
    assert world.wait_for("ended")["exit"] == 0
    assert len(world.started()) == 1
    eventually(lambda: any(note.startswith("chat.postMessage: ") and f"after {TRIES} tries" in note
                           for note in world.notes), lambda: world.notes)
    assert not any("xoxb" in note for note in world.notes)
    assert world.runs.working
    world.slack.silent = False
    world.slack.text("is done: done")
    eventually(lambda: not world.runs.working, lambda: world.notes)
    assert world.verdicts().count("ended") == 1
    assert {path.suffix for path in world.runs.folder.iterdir()} == {".log"}


def test_what_nobody_could_be_told_the_next_bot_tells(world: World) -> None:
    button = world.offered()["confirm"]
    world.slack.silent = True
    world.press(button)
    world.wait_for("ended")
    world.runs.stop()
    eventually(lambda: busy_telling() == 0, busy_telling)
    world.slack.silent = False
    world.app = world.make()
    assert len(world.runs.resume()) == 1
    world.slack.text("is done: done")
    eventually(lambda: not world.runs.working, lambda: world.notes)
    assert world.verdicts().count("ended") == 1


def test_where_there_is_no_channel_any_more_nobody_waits(world: World) -> None:
    button = world.offered()["confirm"]
    world.slack.failing["chat.postMessage"] = "is_archived"
    world.press(button)
    eventually(lambda: "ended" in world.verdicts() and not world.runs.working,
               lambda: world.notes)
    assert world.runs.resume() == []


def test_a_bot_that_is_started_again_tells_the_end(world: World) -> None:
    gate = world.hold("run")
    world.tell("run", lines=["stage: begun"], last="web1: broken", exit=1)
    world.press(world.offered()["confirm"])
    world.slack.text("stage: begun")
    first = world.runs
    first.stop()
    eventually(lambda: busy_telling() == 0, busy_telling)
    world.app = world.make()
    (record,) = world.runs.resume()
    assert (record.user, record.words) == (DEPLOYER, "deploy prod v1")
    assert "ended" not in world.verdicts()
    gate.unlink()
    assert world.wait_for("ended")["exit"] == 1
    world.slack.text("ended with exit status 1")
    eventually(lambda: not world.runs.working, lambda: world.runs.working)
    assert world.runs.resume() == []


def busy_telling() -> int:
    return len([each for each in threading.enumerate() if "_follow" in each.name])


def test_a_run_that_never_began_or_was_killed_is_told_as_cut_off(world: World) -> None:
    record = Record("0" * 16, DEPLOYER, DEPLOYER, CHANNEL, "5.1", "prod", "deploy prod v1")
    (world.runs.folder / f"{record.id}.json").write_text(json.dumps(asdict(record)))
    assert world.runs.resume() == [record]
    told = world.slack.text("it was cut off, and nobody knows how far it came")
    assert told["thread_ts"] == "5.1"
    assert "next: `fab status --env=prod`" in told["text"]
    assert world.wait_for("ended")["exit"] == children.GONE


def test_nothing_runs_that_cannot_be_recorded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    button = world.offered()["confirm"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.audit, "write", full)
    world.press(button)
    world.private("that went wrong here, and my log says how")
    assert any("No space left on device" in note for note in world.notes)
    assert world.started() == []


# --- writing to Slack


@pytest.mark.parametrize(("error", "tries"), [
    ("internal_error", TRIES), ("ratelimited", TRIES), ("channel_not_found", 1),
])
def test_what_may_pass_is_tried_again(slack: FakeSlack, error: str, tries: int) -> None:
    notes: list[str] = []
    ours = Slack(WebClient("xoxb-test", base_url=slack.url), notes.append, 0.01)
    slack.failing["chat.postMessage"] = error
    with pytest.raises(Unsaid, match=error):
        ours.post("C1", "x")
    assert len(slack.said("chat.postMessage")) == tries
    assert ours.say("C1", "x") == ""
    assert notes[0].startswith(f"chat.postMessage: {error}")


# --- who it was, and what must not be told


def test_locks_and_records_say_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ASKED_BY, raising=False)
    plain = operator()
    monkeypatch.setenv(ASKED_BY, "U123 (chat)\n\x1b[1m")
    assert operator() == f"U123 (chat)[1m via {plain}"


def test_the_way_past_the_page_is_not_told_to_a_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site("shop-prod", MaintenanceSettings(), (), "https://shop.example/", "/healthz")
    closed = Closed(0, "why", "who", True, secret="s3cret")
    monkeypatch.delenv(ASKED_BY, raising=False)
    assert "s3cret" in "\n".join(lines(site, closed, "prod"))
    monkeypatch.setenv(ASKED_BY, "U123 (chat)")
    told = "\n".join(lines(site, closed, "prod"))
    assert "s3cret" not in told
    assert "to look past the page: fab maintenance.status --env=prod knows the way" in told
