"""What this machine lacks for a lab, and how it gets it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fabfile.lab import apt, cgroups, shell
from fabfile.lab.model import LabError

DEBIAN_PACKAGES = (
    "debootstrap",
    "systemd-container",
    "iproute2",
    "rsync",
    "openssh-client",
)
PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
}
# sshd stops starting at host 23 with the kernel's own figures.
KERNEL_LIMITS = {
    "fs/inotify/max_user_instances": 8192,
    "kernel/keys/maxkeys": 20_000,
    "kernel/keys/maxbytes": 2_000_000,
}


def missing(images_are_built: bool) -> list[str]:
    """Sentences for a person, each with what to do; empty when a lab can be brought up."""
    return [*_machine(), *_programs(), *([] if images_are_built else _sources())]


def _machine() -> Iterator[str]:
    if os.uname().sysname != "Linux":
        yield "This is not Linux: run the lab on a Debian 12 machine."
        return
    if os.geteuid() != 0:
        yield "You are not root: run it with sudo."
    if not _has_overlay():
        yield "The kernel has no overlayfs: `modprobe overlay`, or use a kernel that has it."
    if not cgroups.can_boot(cgroups.hierarchies()):
        yield "No cgroups are mounted: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`."


def _programs() -> Iterator[str]:
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            yield f"{program} is missing: `apt-get install {package}`."


def _sources() -> Iterator[str]:
    if apt.codename() is None or apt.mirror() is None:
        yield (
            "No apt source of this machine's own release has the component main: "
            "add one to /etc/apt/sources.list."
        )


def _has_overlay() -> bool:
    if "\toverlay\n" in Path("/proc/filesystems").read_text():
        return True
    # Not loaded yet, but the kernel loads it by itself at the first mount.
    return Path(f"/lib/modules/{os.uname().release}/kernel/fs/overlayfs").is_dir()


def install(where: str) -> None:
    """Install what Debian has of it. Raises ``LabError`` when not root or apt fails."""
    if os.geteuid() != 0:
        raise LabError(f"{where}: only root installs packages: run it with sudo")
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    shell.run([*quietly, "update"], where=where)
    shell.run([*quietly, "install", "--no-install-recommends", *DEBIAN_PACKAGES], where=where)


def raise_kernel_limits(root: Path = Path("/proc/sys")) -> list[str]:
    """Raise what is too low, never lower anything. Returns what could not be raised."""
    return [note for name, wanted in KERNEL_LIMITS.items() if (note := _raise(root / name, wanted))]


def _raise(path: Path, wanted: int) -> str | None:
    try:
        if int(path.read_text()) < wanted:
            path.write_text(f"{wanted}\n")
    except (OSError, ValueError) as error:
        return f"{path} stays below {wanted} ({error}): many hosts may not start"
    return None
