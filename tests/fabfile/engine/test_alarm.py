"""What systemd and cron would read."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.engine import alarm, children
from fabfile.engine.alarm import Alarm
from fabfile.errors import Refused
from tests.lab.fleet import wait_for

AT = 1796090400.0  # 2026-12-01 02:00 UTC
FOUND = Alarm("fabfleet-x1", AT, ["/opt/a b/python", "-c", "print('100% $HOME \\')"],
              {"HOME": "/root", "A": "1 2"}, "/srv/it's", "/var/log/x 1.log")


def test_the_whole_line() -> None:
    assert replace(FOUND, argv=["run", "me"]).line == (
        """exec </dev/null >>'/var/log/x 1.log' 2>&1; cd '/srv/it'"'"'s' || cd /; """
        """exec env -i 'A=1 2' HOME=/root run me""")


def test_the_timer() -> None:
    lines = FOUND.timer.splitlines()
    assert "OnCalendar=2026-12-01 02:00:00 UTC" in lines
    assert "OnBootSec=30" in lines
    assert "WantedBy=timers.target" in lines


def test_the_service_quotes_what_systemd_would_read() -> None:
    (line,) = [line for line in FOUND.service.splitlines() if line.startswith("ExecStart=")]
    assert line.startswith("ExecStart=/bin/sh -c \"exec </dev/null >>'/var/log/x 1.log' 2>&1; ")
    found = replace(FOUND, after=["/opt/a b/python", "ended"]).service
    assert "ExecStopPost=/bin/sh -c \"exec </dev/null >>'/var/log/x 1.log' 2>&1; cd '/" in found
    assert " EXIT_STATUS=\\\"$$EXIT_STATUS\\\" '/opt/a b/python' ended\"\n" in found
    assert "KillMode=mixed" in FOUND.service.splitlines()
    assert "100%% $$HOME" in line
    assert '\\"\'\\"' in line


def test_cron_looks_at_the_clock_each_minute() -> None:
    line = FOUND.crontab
    assert line.startswith(r'* * * * * [ "$(date +\%s)" -lt 1796090400 ] || { exec </dev/null')
    assert r"100\% " in line
    assert line.endswith(" # fabfleet-x1")


@pytest.mark.parametrize(("seconds", "begun"), [(-0.5, True), (0.5, True), (3600, False)])
def test_cron_begins_it_at_its_time_and_not_before(
    tmp_path: Path, seconds: float, begun: bool
) -> None:
    """Also where it has seconds, as in --at=90m."""
    found = replace(FOUND, at=time.time() + seconds, folder=str(tmp_path), argv=["touch", "begun"],
                    output="/dev/null", environment={"PATH": os.defpath})
    line = found.crontab.removeprefix("* * * * * ").replace(r"\%", "%")

    def begins() -> bool:
        subprocess.run(["sh", "-c", line], check=True)
        return (tmp_path / "begun").exists()

    if begun:
        wait_for("it begins", begins)
    else:
        begins()
    assert (tmp_path / "begun").exists() == begun


@pytest.fixture
def crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without systemd, whose crontab is a file."""
    table = tmp_path / "table"
    program = tmp_path / "bin" / "crontab"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -l ] && exec cat {table}\ncat >{table}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(alarm, "_has_systemd", lambda: False)
    monkeypatch.setattr(alarm, "_cron_runs", lambda: True)
    return table


def test_cron_keeps_what_others_wrote(crontab: Path) -> None:
    crontab.write_text("0 4 * * * backup\n")
    assert alarm.set_alarm(FOUND) == "cron"
    assert alarm.set_alarm(replace(FOUND, name="fabfleet-x12")) == "cron"
    assert alarm.set_alarm(FOUND) == "cron"
    assert len(crontab.read_text().splitlines()) == 3
    alarm.take_away(FOUND.name)
    left = crontab.read_text().splitlines()
    assert [line.rpartition("# ")[2] for line in left] == [
        "0 4 * * * backup", "fabfleet-x12"]
    alarm.take_away("fabfleet-none")
    assert crontab.read_text().splitlines() == left


def test_a_crontab_that_cannot_be_read_is_not_overwritten(crontab: Path, tmp_path: Path) -> None:
    crontab.write_text("0 4 * * * backup\n")
    program = tmp_path / "bin" / "crontab"
    said = "read error"
    program.write_text(f"#!/bin/sh\n[ \"$1\" != -l ] || {{ echo '{said}' >&2; exit 1; }}\n"
                       f"cat >{crontab}\n")
    with pytest.raises(Refused, match="crontab -l: read error"):
        alarm.set_alarm(FOUND)
    assert crontab.read_text() == "0 4 * * * backup\n"


def test_what_cron_would_cut_off_is_refused(crontab: Path) -> None:
    with pytest.raises(Refused, match="may have 998; 700 of them are PATH: say PATH=/usr/bin:/bin"):
        alarm.set_alarm(replace(FOUND, environment={"PATH": "/" * 700}, output="/" * 300))
    assert not crontab.exists()


def test_a_line_that_is_gone_starts_nothing(crontab: Path) -> None:
    crontab.write_text("")
    assert alarm.problem(FOUND.name) == "its line in the crontab is gone"
    alarm.set_alarm(FOUND)
    assert alarm.problem(FOUND.name) == ""


def test_a_crontab_without_cron_starts_nothing(
    crontab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(alarm, "_has_systemd", lambda: False)
    monkeypatch.setattr(alarm, "PROCESSES", tmp_path)
    monkeypatch.setattr(alarm, "CRON_PIDS", (f"{tmp_path.relative_to('/')}/*.pid",))
    for number, name in (("12", "bash"), ("self", "cron")):
        (tmp_path / number).mkdir()
        (tmp_path / number / "comm").write_text(f"{name}\n")
    pid = tmp_path / "cron.pid"
    with subprocess.Popen(["true"]) as ended:
        pass
    pid.write_text(f"{ended.pid}\n")
    with pytest.raises(Refused, match="neither systemd nor cron runs here"):
        alarm.set_alarm(FOUND)
    assert "neither systemd nor cron" in alarm.problem(FOUND.name)
    pid.write_text(f"{os.getpid()}\n")
    alarm.refuse_where_none_can_be()
    pid.unlink()
    (tmp_path / "12" / "comm").write_text("crond\n")
    alarm.refuse_where_none_can_be()


@pytest.mark.parametrize("folder", ["there", "gone"])
def test_what_it_says_is_kept_also_where_its_folder_is_gone(tmp_path: Path, folder: str) -> None:
    (tmp_path / "there").mkdir()
    output = tmp_path / "out"
    found = replace(FOUND, folder=str(tmp_path / folder), output=str(output), argv=["pwd"])
    subprocess.run(["sh", "-c", found.line], check=True)
    where = tmp_path / folder if folder == "there" else "/"
    assert output.read_text().splitlines()[-1] == str(where)


def test_a_line_of_cron_does_what_it_should(tmp_path: Path) -> None:
    """cron hands the line to sh, percent signs without their backslash."""
    output = tmp_path / "out put"
    found = replace(FOUND, folder=str(tmp_path), output=str(output),
                    argv=["sh", "-c", "pwd; echo '100% \"$A\"' $A; echo bad >&2"])
    line = replace(found, at=0).crontab
    line = line.removeprefix("* * * * * ").replace(r"\%", "%")
    subprocess.run(["sh", "-c", line], check=True)
    assert output.read_text().splitlines() == [str(tmp_path), '100% "$A" 1 2', "bad"]


def test_where_nothing_would_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "_has_systemd", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Refused, match="neither systemd nor cron"):
        alarm.set_alarm(FOUND)
    alarm.take_away(FOUND.name)


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with systemd, whose systemctl knows only timers of which there is a file."""
    folder = tmp_path / "units"
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nfor last; do :; done\n[ \"${{last%.timer}}\" = \"$last\" ] "
                       f"|| [ -e {folder}/$last ] || {{ echo inactive; exit 1; }}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(alarm, "_has_systemd", lambda: True)
    monkeypatch.setattr(alarm, "_units", lambda: folder)
    monkeypatch.setattr(alarm, "_refuse_without_linger", lambda: None)
    return folder


@pytest.mark.parametrize("left", ["", ".service", ".timer"])
def test_what_was_half_taken_away_goes_too(units: Path, left: str) -> None:
    alarm.set_alarm(FOUND)
    for kind in {".service", ".timer"} - {left} if left else ():
        (units / f"{FOUND.name}{kind}").unlink()
    alarm.take_away(FOUND.name)
    assert list(units.iterdir()) == []


def test_a_timer_that_is_gone_starts_nothing(units: Path) -> None:
    assert alarm.problem(FOUND.name) == "fabfleet-x1.timer of systemd is inactive"
    alarm.set_alarm(FOUND)
    assert alarm.problem(FOUND.name) == ""


def test_nothing_of_this_terminal_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent")
    done = children.ask(["/usr/bin/env"], {"A": "1"}, folder="/")
    assert [line for line in done.out.splitlines() if not line.startswith("PWD=")] == ["A=1"]
