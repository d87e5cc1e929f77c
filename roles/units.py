"""systemd's units: what all roles that bring some say alike."""

from __future__ import annotations

from roles.app import AppSettings
from roles.command import Action, Run, command
from roles.role import Target

SYSTEMCTL = "/usr/bin/systemctl"
# A unit with Restart=always and no start limit, as ours are, fails only where it was told to stop
# and did not end well; one that crashes is started again (systemd.service(5)). One that is
# deactivating was told so, and may have tasks to finish.
TOLD_TO_STOP = frozenset({"inactive", "failed", "deactivating"})


def path(unit: str) -> str:
    """Where the unit's file lies."""
    return f"/etc/systemd/system/{unit}"


def absolute(python: str) -> str:
    """The host's own Python as a unit has to name it."""
    return python if python.startswith("/") else f"/usr/bin/{python}"


def runs_as(target: Target) -> str:
    """The user of the service's processes."""
    user = target.of(AppSettings, "app").user
    return user or target.host.connection.user or target.facts.user


def log(units: str, lines: int) -> Action:
    """The last lines of a unit's log, or of all that the pattern fits."""
    return Run(command("journalctl", "-q", "-u", units, "-n", str(lines), "--no-pager", "-o",
                       "cat"))
