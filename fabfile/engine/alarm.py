"""Start a command on this machine at a moment, and once more when it boots: a timer of systemd, or
a line of cron where there is no systemd. What is started decides itself whether it is due."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fabfile.errors import Refused

# What a run gets to finish its host's turn, or to put things back, when the machine goes down.
STOP_SECONDS = 900
BOOT_SECONDS = 30
# What Debian's cron takes of a line's command, in letters (its MAX_COMMAND, without line ends).
LONGEST = 998
PROCESSES = Path("/proc")
CRONS = ("cron", "crond", "fcron", "dcron", "bcron-sched")
CRON_PIDS = ("run/cron*.pid", "var/run/cron*.pid")


@dataclass(frozen=True)
class Alarm:
    """``name`` tells it from others; ``at`` in seconds since the epoch; ``output``: the file that
    gets what ``argv`` says. ``after`` is started when ``argv`` has ended, however it did, with the
    variable EXIT_STATUS; by cron it is not, which starts ``argv`` again."""

    name: str
    at: float
    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    output: str
    after: Sequence[str] = ()

    @property
    def service(self) -> str:
        """The service of systemd. A line of the shell starts it, so that nothing in it is read as
        one of systemd's specifiers. Where the machine goes down, only the run itself is told: what
        it has started, as rsync, it lets finish."""
        after = self._line(self.after, 'EXIT_STATUS="$EXIT_STATUS" ') if self.after else ""
        after = after and f"ExecStopPost=/bin/sh -c {_for_systemd(after)}\n"
        line = _for_systemd(self.line)
        return (f"[Unit]\nDescription=Fabfleet: {self.name}\nAfter=network-online.target\n"
                f"Wants=network-online.target\n\n[Service]\nType=oneshot\n"
                f"ExecStart=/bin/sh -c {line}\n{after}TimeoutStartSec=infinity\n"
                f"KillMode=mixed\nTimeoutStopSec={STOP_SECONDS}\n")

    @property
    def timer(self) -> str:
        moment = datetime.fromtimestamp(self.at, UTC)
        return (f"[Unit]\nDescription=Fabfleet: {self.name}\n\n[Timer]\n"
                f"OnCalendar={moment:%Y-%m-%d %H:%M:%S} UTC\nOnBootSec={BOOT_SECONDS}\n"
                f"AccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n")

    @property
    def crontab(self) -> str:
        """A line, which looks at the clock each minute: cron's own idea of a moment has no
        seconds and no year, is in a time zone that may not be ours, and skips or forgets what
        clocks do."""
        due = f'[ "$(date +%s)" -lt {math.ceil(self.at)} ] || {{ {self.line}; }}'
        escaped = due.replace("%", r"\%")
        return f"* * * * * {escaped} # {self.name}"

    @property
    def line(self) -> str:
        """The whole shell line."""
        return self._line(self.argv)

    def _line(self, argv: Sequence[str], more: str = "") -> str:
        variables = [f"{name}={value}" for name, value in sorted(self.environment.items())]
        words = f"{shlex.join(['env', '-i', *variables])} {more}{shlex.join(argv)}"
        # First of all where to speak. A folder that is gone matters only to relative paths.
        return (f"exec </dev/null >>{shlex.quote(self.output)} 2>&1; "
                f"cd {shlex.quote(self.folder)} || cd /; exec {words}")


def _for_systemd(line: str) -> str:
    """One word of a unit's ExecStart."""
    for sign, escaped in (("\\", r"\\"), ('"', r'\"'), ("%", "%%"), ("$", "$$")):
        line = line.replace(sign, escaped)
    return f'"{line}"'


def set_alarm(alarm: Alarm) -> str:
    """Install it; what will start it, in words. Raises :class:`Refused` where nothing would."""
    refuse_where_none_can_be()
    if _has_systemd():
        folder = _units()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{alarm.name}.service").write_text(alarm.service)
        (folder / f"{alarm.name}.timer").write_text(alarm.timer)
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", f"{alarm.name}.timer")
        return f"{alarm.name}.timer of systemd"
    if len(alarm.crontab) > LONGEST:
        raise Refused(f"cron: its line for this has {len(alarm.crontab)} letters, and may have "
                      f"{LONGEST}; {len(alarm.environment.get('PATH', ''))} of them are PATH: say "
                      f"PATH=/usr/bin:/bin before the command")
    _write_crontab([*_others(_crontab(), alarm.name), alarm.crontab])
    return "cron"


def refuse_where_none_can_be() -> None:
    if _has_systemd():
        _refuse_without_linger()
    elif shutil.which("crontab") is None or not _cron_runs():
        raise Refused("neither systemd nor cron runs here, so nothing would start it; schedule it "
                      "on a machine that stays on")


def problem(name: str) -> str:
    """Why nothing will start what was set; "" also where that cannot be known."""
    try:
        refuse_where_none_can_be()
    except Refused as error:
        return str(error)
    if _has_systemd():
        said = _run(_systemctl_line("is-active", f"{name}.timer")).stdout.strip()
        known = said in ("inactive", "failed", "unknown")
        return f"{name}.timer of systemd is {said}" if known else ""
    with suppress(Refused):
        lines = _crontab()
        return "its line in the crontab is gone" if _others(lines, name) == lines else ""
    return ""


def take_away(name: str) -> None:
    """The alarm is gone, also where it was never set."""
    if _has_systemd():
        timer, service = (_units() / f"{name}.{kind}" for kind in ("timer", "service"))
        if timer.exists():
            _systemctl("disable", "--now", timer.name)
        # The timer last: where this is cut off, the next one finds it.
        if timer.exists() or service.exists():
            service.unlink(missing_ok=True)
            timer.unlink(missing_ok=True)
            _systemctl("daemon-reload")
    elif shutil.which("crontab"):
        lines = _crontab()
        left = _others(lines, name)
        if left != lines:
            _write_crontab(left)


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _is_root() -> bool:
    return os.geteuid() == 0


def _units() -> Path:
    if _is_root():
        return Path("/etc/systemd/system")
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home, "systemd", "user")


def _systemctl_line(*words: str) -> list[str]:
    return ["systemctl", *([] if _is_root() else ["--user"]), *words]


def _systemctl(*words: str) -> None:
    done = _run(_systemctl_line(*words))
    if done.returncode:
        raise Refused(f"systemctl {shlex.join(words)}: {done.stderr.strip()}")


def _refuse_without_linger() -> None:
    """A user's timers run while that user is logged in, unless they may linger."""
    if _is_root():
        return
    asked = _run(["loginctl", "show-user", str(os.geteuid()), "--property=Linger", "--value"])
    if asked.stdout.strip() != "yes":
        raise Refused("your timers end when you log out; allow them to stay once: "
                      "sudo loginctl enable-linger \"$USER\"")


def _cron_runs() -> bool:
    """Whether a daemon does; where processes cannot be seen, as on macOS, it is taken to."""
    if not PROCESSES.is_dir():
        return True
    for path in PROCESSES.glob("[0-9]*/comm"):
        with suppress(OSError):  # one that has ended meanwhile
            if path.read_text().strip() in CRONS:
                return True
    return any(_is_alive(path) for pattern in CRON_PIDS for path in Path("/").glob(pattern))


def _is_alive(path: Path) -> bool:
    """The process of a pid file, which another user's eyes may not see in /proc."""
    try:
        os.kill(int(path.read_text()), 0)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _crontab() -> list[str]:
    """Raises :class:`Refused` where it cannot be read: what is not known must not be overwritten.
    """
    done = _run(["crontab", "-l"])
    there_is_none = "no crontab for" in done.stderr or "No such file" in done.stderr
    if done.returncode and not there_is_none:
        raise Refused(f"crontab -l: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout.splitlines()


def _others(lines: Sequence[str], name: str) -> list[str]:
    return [line for line in lines if not line.endswith(f" # {name}")]


def _write_crontab(lines: Sequence[str]) -> None:
    done = _run(["crontab", "-"], "".join(f"{line}\n" for line in lines))
    if done.returncode:
        raise Refused(f"crontab: {done.stderr.strip()}")


def _run(words: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=text, capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})
