"""What is mounted where on this machine."""

from __future__ import annotations

import re
import time
from pathlib import Path

from fabfile.lab import shell

UMOUNT_SECONDS = 3.0


def mount_points() -> list[Path]:
    """Every mount point that this process sees, in the order in which they were mounted."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(_unescaped(line.split()[4])) for line in lines]


def is_mounted(path: Path) -> bool:
    return path in mount_points()


def root_is_a_mount() -> bool:
    """Not so in a chroot into a plain folder, where `pivot_root` is refused."""
    return is_mounted(Path("/"))


def mount_private_tmpfs(path: Path, options: str, where: str) -> None:
    """Private: what is mounted below must not spread into, and stay behind in, other namespaces."""
    path.mkdir(parents=True, exist_ok=True)
    shell.run(["mount", "-t", "tmpfs", "-o", options, "fabfleet-lab", str(path)], where=where)
    # A mount that is private already refuses nothing, so this is safe to ask for always.
    shell.run(["mount", "--make-private", str(path)], where=where)


def unmount_below(path: Path, where: str) -> None:
    """Unmount ``path`` and everything under it, last first."""
    for point in reversed(mount_points()):
        if point == path or path in point.parents:
            _unmount(point, where)


def _unmount(point: Path, where: str) -> None:
    # A process that was killed an instant ago may hold the mount for some milliseconds more.
    deadline = time.monotonic() + UMOUNT_SECONDS
    while time.monotonic() < deadline:
        if shell.run(["umount", str(point)], where=where, check=False).returncode == 0:
            return
        time.sleep(0.05)
    shell.run(["umount", "--lazy", str(point)], where=where)


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
