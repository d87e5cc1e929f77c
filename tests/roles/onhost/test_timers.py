"""What works by the clock, paused: jobs of cron with real locks. Timers: on hosts of the lab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roles.onhost import ship
from tests.lab.fleet import wait_for
from tests.roles.onhost.programs import Done, end, make_current, put_release, run, start

WAITS = """
import pathlib, time
pathlib.Path("begun").touch()
while not pathlib.Path("go").exists(): time.sleep(0.02)
pathlib.Path("ended").touch()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put_release(tmp_path, "r1")
    make_current(tmp_path, "r1")
    (tmp_path / "shared").mkdir()
    (tmp_path / ".fabfleet" / "launch.py").write_bytes(ship.text("launch"))
    return tmp_path


def told(root: Path, action: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "folder": str(root / ".fabfleet"), "timers": [], "off": [],
            "systemctl": "/usr/bin/systemctl", "deadline": 10, **more}


def act(root: Path, action: str, **more: Any) -> Done:
    return run("timers", told(root, action, **more))


def job(root: Path) -> subprocess.Popen[bytes]:
    """As a line of a crontab starts it; it begins, and ends when it is told to."""
    return subprocess.Popen([sys.executable, "-I", str(root / ".fabfleet" / "launch.py"), "--job",
                             "--", sys.executable, "-c", WAITS])


@pytest.fixture
def running(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    with job(root) as process:
        wait_for("it has begun", (root / "releases/r1/begun").exists)
        yield process
        (root / "releases/r1/go").touch()


def test_what_runs_ends_first_and_nothing_begins(
    root: Path, running: subprocess.Popen[bytes]
) -> None:
    tree = root / "releases/r1"
    pausing = start("timers", told(root, "pause", off=["scheduler"]))
    wait_for("it is paused", (root / ".fabfleet/paused.json").exists)
    (tree / "begun").unlink()
    with job(root) as late:
        assert late.wait(10) == 0
    assert not (tree / "begun").exists()
    assert pausing.poll() is None
    (tree / "go").touch()
    assert end(pausing).answer == {"off": ["scheduler"], "timers": []}
    assert (tree / "ended").exists()
    assert act(root, "resume").answer == {"off": ["scheduler"], "timers": []}
    with job(root) as again:
        assert again.wait(10) == 0
    assert (tree / "begun").exists()


def test_a_job_that_does_not_end_in_time_leaves_all_as_it_was(
    root: Path, running: subprocess.Popen[bytes]
) -> None:
    done = act(root, "pause", deadline=0.3)
    assert (done.exit, done.err) == (
        1, "a job of cron (launch.py --job): still running after 0.3 s (timers.deadline); nothing "
           "is killed\n")
    assert not (root / ".fabfleet/paused.json").exists()
    assert running.poll() is None


def test_what_a_dead_run_has_noted_stays_true(root: Path) -> None:
    assert act(root, "pause", off=["worker-mail"]).exit == 0
    assert act(root, "pause", off=["worker-mail", "scheduler"]).answer["off"] == ["worker-mail"]
    assert act(root, "resume").exit == 0
    assert act(root, "resume").answer == {"off": [], "timers": []}


def test_what_cannot_be_read_is_said(root: Path) -> None:
    (root / ".fabfleet/paused.json").write_text("{")
    done = act(root, "pause")
    assert done.exit == 1
    assert done.err.startswith(f"{root}/.fabfleet/paused.json: ")
    (root / ".fabfleet/paused.json").write_text(json.dumps({"off": [], "timers": []}))
    assert act(root, "pause").exit == 0


# --- timers, at a systemctl of ours; for real: on hosts of the lab --------------------------------


@pytest.fixture
def timers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of those that are on; sudo allows what has a file in ``allowed``."""
    programs, active, allowed = (tmp_path / name for name in ("bin", "on", "allowed"))
    for folder in (programs, active, allowed):
        folder.mkdir()
    (programs / "systemctl").write_text(f"""#!/bin/sh
case $1 in
    show) [ "$3" != Unit ] || {{ echo Unit=; exit; }}
          [ -e {active}/$4 ] && echo ActiveState=active || echo ActiveState=inactive ;;
    stop) rm {active}/$2 ;;
    start) touch {active}/$2 ;;
esac
""")
    (programs / "sudo").write_text(f"""#!/bin/sh
[ -e {allowed}/$4 ] || {{ echo 'sudo: a password is required' >&2; exit 1; }}
shift; exec "$@"
""")
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return active


def test_without_the_rules_of_sudo_nothing_stays_paused(root: Path, timers: Path) -> None:
    names = ["a.timer", "b.timer"]
    for name in names:
        (timers / name).touch()
    (root / "allowed/a.timer").touch()
    done = act(root, "pause", timers=names, systemctl=str(root / "bin/systemctl"))
    assert (done.exit, done.err) == (1, "sudo: a password is required (stop b.timer)\n")
    assert sorted(each.name for each in timers.iterdir()) == names
    assert not (root / ".fabfleet/paused.json").exists()


def test_all_that_can_go_on_does(root: Path, timers: Path) -> None:
    names = ["a.timer", "b.timer"]
    for name in names:
        (root / "allowed" / name).touch()
        (timers / name).touch()
    more = {"timers": names, "systemctl": str(root / "bin/systemctl")}
    assert act(root, "pause", **more).answer == {"off": [], "timers": names}
    assert list(timers.iterdir()) == []
    (root / "allowed/a.timer").unlink()
    done = act(root, "resume", **more)
    assert (done.exit, done.err) == (1, "sudo: a password is required (start a.timer)\n")
    assert [each.name for each in timers.iterdir()] == ["b.timer"]
    (root / "allowed/a.timer").touch()
    assert act(root, "resume", **more).exit == 0
    assert sorted(each.name for each in timers.iterdir()) == names
