from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import pwd
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.probe import read
from tests.roles.onhost.programs import (
    end,
    hear,
    listed,
    make_current,
    put_release,
    run,
    start,
)
from tests.roles.onhost.test_finish import held


def probe(root: Path, **changes: Any) -> Any:
    arguments = {
        "root": str(root), "tools": ["sh", "no-such-tool"], "interpreter": sys.executable,
        "units": [], "instances": [], "links": [], "supervisor": None, "files": [], **changes,
    }
    done = run("probe", arguments)
    assert (done.exit, done.err) == (0, "")
    return done.answer


def test_a_host_that_was_never_deployed_to(tmp_path: Path) -> None:
    before = time.time()
    found = probe(tmp_path / "srv" / "shop", files=["/no/such"])
    assert before <= found.pop("clock") <= time.time()
    disk = os.statvfs(tmp_path)
    assert abs(found.pop("free_bytes") - disk.f_bavail * disk.f_frsize) < 10**9
    assert found.pop("free_inodes") > 0
    assert found == {
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "python": platform.python_version(),
        "venv_python": "{}.{}.{}".format(*sys.version_info[:3]),
        "machine": platform.machine(),
        "libc": "-".join(platform.libc_ver()),
        "tools": {"sh": shutil.which("sh"), "no-such-tool": ""},
        "root_exists": False, "writable": True, "current": None, "releases": [], "statics": [],
        "venvs": [], "running": [], "history": [], "services": {}, "files": {"/no/such": ""},
        "lock": None, "lock_written": 0, "freeze": None, "job": None, "busy": False,
        "owed": {}, "draining": [], "links": {}, "commands": [], "paused": None,
    }
    assert listed(tmp_path) == []


def test_a_host_with_releases(tmp_path: Path) -> None:
    put_release(tmp_path, "r1")
    put_release(tmp_path, "r2")
    (tmp_path / "releases" / ".staging-r3").mkdir()
    (tmp_path / "venvs" / "cafe").mkdir(parents=True)
    make_current(tmp_path, "r2")
    with held(tmp_path, "r1"):
        found = probe(tmp_path)
    assert {key: found[key] for key in ("root_exists", "current", "releases", "statics", "venvs")
            } == {"root_exists": True, "current": "r2", "releases": ["r1", "r2"],
                  "statics": ["r1", "r2"], "venvs": ["cafe"]}
    assert found["running"] == ["r1"]


def test_history_without_what_a_crash_cut_off(tmp_path: Path) -> None:
    (tmp_path / ".fabfleet").mkdir()
    lines = [json.dumps({"release": f"r{number}"}) for number in range(60)]
    lines.insert(55, '{"release": "r5')
    (tmp_path / ".fabfleet" / "history.jsonl").write_text("\n".join(lines) + '\n{"rel')
    assert [each["release"] for each in probe(tmp_path)["history"]] == [
        f"r{number}" for number in range(10, 60)
    ]


def test_a_lock_that_is_held_and_one_that_is_left(tmp_path: Path) -> None:
    arguments = {"root": str(tmp_path), "record": {"run": "a"}, "silence": 9, "again": False}
    holder = start("lock", arguments)
    hear(holder)
    found = probe(tmp_path)
    assert (found["lock"]["run"], found["lock"]["alive"]) == ("a", True)
    assert found["lock_written"] == (tmp_path / ".fabfleet" / "lock").stat().st_mtime_ns
    end(holder)
    found = probe(tmp_path)
    assert (found["lock"]["run"], found["lock"]["alive"]) == ("a", False)
    assert found["lock"]["lost_at"] > 0


def test_a_lock_that_was_let_go_is_none(tmp_path: Path) -> None:
    (tmp_path / ".fabfleet").mkdir()
    (tmp_path / ".fabfleet" / "lock").touch()
    assert probe(tmp_path)["lock"] is None


def test_a_freeze_and_a_job(tmp_path: Path) -> None:
    folder = tmp_path / ".fabfleet" / "jobs" / "migrate"
    folder.mkdir(parents=True)
    (tmp_path / ".fabfleet" / "freeze").write_text('{"owner": "eve"}')
    (folder / "job.json").write_text('{"key": "r2"}')
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = probe(tmp_path)
    assert found["freeze"] == {"owner": "eve"}
    assert found["job"] == {"key": "r2", "alive": True, "result": None}
    (folder / "result.json").write_text('{"exit": 0}')
    assert probe(tmp_path)["job"] == {"key": "r2", "alive": False, "result": {"exit": 0}}


def test_a_command_of_an_earlier_run_that_still_runs(tmp_path: Path) -> None:
    (tmp_path / ".fabfleet").mkdir()
    with (tmp_path / ".fabfleet" / "busy").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        assert probe(tmp_path)["busy"] is True
    assert probe(tmp_path)["busy"] is False


def test_files_by_their_digest(tmp_path: Path) -> None:
    (tmp_path / "unit").write_text("[Unit]\n")
    path = str(tmp_path / "unit")
    assert probe(tmp_path, files=[path])["files"] == {
        path: hashlib.sha256(b"[Unit]\n").hexdigest()
    }


def test_the_python_of_the_venvs_may_be_missing(tmp_path: Path) -> None:
    assert probe(tmp_path, interpreter="/no/python")["venv_python"] == ""


def test_a_tool_that_we_brought(tmp_path: Path) -> None:
    ours = tmp_path / ".fabfleet" / "tools" / "fabfleet-tool"
    ours.parent.mkdir(parents=True)
    ours.write_text("#!/bin/sh\n")
    ours.chmod(0o755)
    assert probe(tmp_path, tools=["fabfleet-tool"])["tools"] == {"fabfleet-tool": str(ours)}


def test_supervisor_where_nothing_was_started_yet(tmp_path: Path) -> None:
    conf = {"conf": str(tmp_path / "x.conf"), "ctl": "supervisorctl", "program": "wsgi"}
    assert probe(tmp_path, supervisor=conf)["services"] == {"wsgi": "missing"}


def test_supervisor_as_its_own_program_says(tmp_path: Path) -> None:
    (tmp_path / "x.conf").touch()
    control = tmp_path / "control"
    control.write_text('#!/bin/sh\necho "wsgi $STATE pid 7, uptime 0:00:01"\n')
    control.chmod(0o755)
    conf = {"conf": str(tmp_path / "x.conf"), "ctl": str(control), "program": "wsgi"}
    for state, told in (("RUNNING", "active"), ("FATAL", "inactive")):
        control.write_text(f'#!/bin/sh\necho "wsgi {state} pid 7, uptime 0:00:01"\n')
        assert probe(tmp_path, supervisor=conf)["services"] == {"wsgi": told}


def test_the_engine_reads_what_the_probe_says(tmp_path: Path) -> None:
    put_release(tmp_path, "r1")
    text = json.dumps({**probe(tmp_path), "of a later version": 1})
    facts = read("web1", Outcome("web1", Kind.OK, 0, text))
    assert (facts.host, facts.releases, facts.current) == ("web1", ("r1",), None)
