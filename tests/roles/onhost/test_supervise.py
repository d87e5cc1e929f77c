from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.roles.onhost.programs import Done, run

BIN = Path(sys.executable).parent


@pytest.fixture
def told(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A program for a real supervisord; whatever a test started is stopped."""
    root = tmp_path / "100% shop"
    root.mkdir()
    (root / "launch.py").write_text(
        "import sys, time, os\nprint('started', *sys.argv[1:], flush=True)\ntime.sleep(60)\n"
    )
    arguments = {
        "folder": str(root / "supervisor"), "launcher": str(root / "launch.py"),
        "python": sys.executable, "program": "wsgi", "stop_seconds": 2,
        "stop_signal": "TERM",
        "supervisord": str(BIN / "supervisord"), "supervisorctl": str(BIN / "supervisorctl"),
    }
    yield arguments
    run("supervise", {**arguments, "action": "stop"})


def supervise(told: dict[str, Any], action: str, **changes: Any) -> Done:
    return run("supervise", {**told, **changes, "action": action})


def log(told: dict[str, Any], starts: int) -> str:
    path = Path(told["folder"], "wsgi.log")
    deadline = time.monotonic() + 10
    while not path.exists() or path.read_text().count("started") < starts:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path.read_text()


def test_start_restart_and_stop(told: dict[str, Any]) -> None:
    assert supervise(told, "start").err == ""
    assert log(told, 1) == "started wsgi\n"
    assert supervise(told, "start").err == ""
    assert log(told, 1) == "started wsgi\n"
    assert supervise(told, "restart").err == ""
    assert log(told, 2) == "started wsgi\n" * 2
    assert supervise(told, "stop").err == ""
    assert not Path(told["folder"], "supervisord.pid").exists()
    assert supervise(told, "stop").exit == 0


def test_its_configuration(told: dict[str, Any], tmp_path: Path) -> None:
    """Two scripts in place of supervisor show what was written without starting anything."""
    for name, text in (("d", "#!/bin/sh\n"), ("ctl", "#!/bin/sh\necho 7\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    short = "/tmp/" + "x" * 10
    fake = {"supervisord": str(tmp_path / "d"), "supervisorctl": str(tmp_path / "ctl")}
    assert supervise(told, "start", python="/usr/bin/python3", **fake).err == ""
    folder = told["folder"].replace("%", "%%")
    text = Path(told["folder"], "supervisord.conf").read_text()
    socket = next(line for line in text.splitlines() if line.startswith("file="))[5:]
    assert len(socket) < 107
    assert short not in socket
    assert text == f"""[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
nocleanup=true

[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{socket}

[program:wsgi]
command=/usr/bin/python3 -I "{told["launcher"].replace("%", "%%")}" wsgi
autorestart=true
startsecs=0
stopsignal=TERM
stopwaitsecs=2
redirect_stderr=true
stdout_logfile={folder.replace("%", "%%")}/wsgi.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""
    # Nothing of this is left to be stopped.
    Path(told["folder"], "supervisord.conf").unlink()


def test_a_host_without_supervisor(told: dict[str, Any]) -> None:
    done = supervise(told, "start", supervisord="no-supervisord")
    assert (done.exit, done.err) == (
        1, "no-supervisord is not on this host; install supervisor\n"
    )
