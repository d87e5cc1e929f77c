"""A cgroup for each host: without it the hosts' systemds remove each other's (219/CGROUP).

Below every hierarchy: ``fabfleet/<lab>/<host>/host`` for nspawn and all that runs in the host,
and ``.../keeper`` for the shell that starts nspawn again after a reboot. The layout of this
machine may be pure v2, pure v1 or hybrid.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fabfile.lab.model import LabError

TOP = "fabfleet"
# systemd finds its processes in `name=systemd`; the rest is for freezing and for honest figures.
WANTED_V1 = frozenset({"name=systemd", "freezer", "memory", "cpuacct"})
# None of them is needed to boot: each is asked for alone, and may be refused.
WANTED_V2 = ("memory", "pids", "cpu")
SECONDS_TO_DIE = 10.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Hierarchy:
    """One mounted tree of cgroups; ``controllers`` is empty for version 2."""

    mount: Path
    version: int
    controllers: frozenset[str] = frozenset()


def hierarchies() -> list[Hierarchy]:
    """The trees of this machine in which a host needs a place and can get one."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        controllers = WANTED_V1 & set(options.split(","))
        if "ro" in options.split(","):
            continue
        if kind == "cgroup2":
            found.append(Hierarchy(Path(mount), 2))
        elif kind == "cgroup" and controllers:
            found.append(Hierarchy(Path(mount), 1, controllers))
    # A chroot's /proc/mounts may show one tree twice, once for each bind mount of it.
    return list({_identity(tree.mount): tree for tree in found}.values())


def can_boot(trees: list[Hierarchy]) -> bool:
    """systemd needs one tree for its own processes."""
    return any(tree.version == 2 or "name=systemd" in tree.controllers for tree in trees)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


class HostGroup:
    """The cgroups of one host, in every hierarchy that can be written to."""

    def __init__(self, lab: str, host: str) -> None:
        self._where = f"lab {lab}: {host}"
        self._relative = Path(TOP) / lab / host

    @cached_property
    def _trees(self) -> list[Hierarchy]:
        return hierarchies()

    @cached_property
    def _v2(self) -> Path | None:
        return next((t.mount / self._relative for t in self._trees if t.version == 2), None)

    def _v1(self, controller: str) -> Path | None:
        return next(
            (t.mount / self._relative for t in self._trees if controller in t.controllers), None
        )

    def folders(self) -> list[Path]:
        return [tree.mount / self._relative for tree in self._trees]

    def create(self) -> None:
        """Make the groups. Raises ``LabError`` where this machine does not let us."""
        try:
            self._create()
        except OSError as error:
            raise LabError(f"{self._where}: cannot make its cgroup: {error}") from None

    def _create(self) -> None:
        for tree in self._trees:
            folder = tree.mount
            for part in self._relative.parts:
                if tree.version == 2:
                    _share_controllers(folder)
                folder = folder / part
                folder.mkdir(exist_ok=True)
            (folder / "host").mkdir(exist_ok=True)
            (folder / "keeper").mkdir(exist_ok=True)

    def pids(self) -> set[int]:
        """Every process of the host and its keeper, as this machine numbers them."""
        return {pid for folder in self.folders() for pid in _pids_below(folder)}

    def kill(self) -> None:
        """End everything at once, as a power cut does, and wait until it is gone."""
        deadline = time.monotonic() + SECONDS_TO_DIE
        while self.pids():
            if time.monotonic() > deadline:
                raise LabError(f"{self._where}: processes {sorted(self.pids())} do not die")
            self._kill_once()
            # After the signal, so that what was frozen dies without doing one thing more.
            self.thaw()
            time.sleep(POLL_SECONDS)

    def _kill_once(self) -> None:
        if self._v2 is not None and (self._v2 / "cgroup.kill").exists():
            (self._v2 / "cgroup.kill").write_text("1")
            return
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self) -> None:
        self._set_frozen(True)

    def thaw(self) -> None:
        if any(folder.exists() for folder in self.folders()):
            self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> None:
        if self._v2 is not None and (self._v2 / "cgroup.freeze").exists():
            (self._v2 / "cgroup.freeze").write_text("1" if frozen else "0")
        elif (freezer := self._v1("freezer")) is not None and freezer.exists():
            (freezer / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        elif frozen:
            raise LabError(f"{self._where}: this kernel has no cgroup freezer")
        deadline = time.monotonic() + SECONDS_TO_DIE
        while self.is_frozen() != frozen:
            if time.monotonic() > deadline:
                raise LabError(f"{self._where}: the freezer does not settle")
            time.sleep(POLL_SECONDS)

    def is_frozen(self) -> bool:
        if self._v2 is not None and (self._v2 / "cgroup.events").exists():
            return "frozen 1" in (self._v2 / "cgroup.events").read_text()
        freezer = self._v1("freezer")
        return freezer is not None and _read(freezer / "freezer.state").strip() == "FROZEN"

    def memory_bytes(self) -> int | None:
        candidates = [(self._v2, "memory.current"), (self._v1("memory"), "memory.usage_in_bytes")]
        for folder, name in candidates:
            if folder is not None and (text := _read(folder / name)):
                return int(text)
        return None

    def cpu_seconds(self) -> float | None:
        account = self._v1("cpuacct")
        if account is not None and (text := _read(account / "cpuacct.usage")):
            return int(text) / 1e9
        stat = _read(self._v2 / "cpu.stat").split() if self._v2 is not None else []
        return int(stat[stat.index("usage_usec") + 1]) / 1e6 if "usage_usec" in stat else None

    def remove(self) -> None:
        """Remove the groups, and the lab's and ours when they were the last."""
        for tree in self._trees:
            folder = tree.mount / self._relative
            for group in _groups_below(folder):
                _remove_group(group)
            for parent in (folder.parent, folder.parent.parent):
                with suppress(OSError):
                    parent.rmdir()


def _share_controllers(folder: Path) -> None:
    for controller in WANTED_V2:
        with suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _groups_below(folder: Path) -> Iterator[Path]:
    """The deepest first, so that each can be removed in turn."""
    for parent, _, _ in os.walk(folder, topdown=False):
        yield Path(parent)


def _pids_below(folder: Path) -> Iterator[int]:
    for group in _groups_below(folder):
        yield from map(int, _read(group / "cgroup.procs").split())


def _remove_group(group: Path) -> None:
    # The kernel takes a moment to let go of a group whose last process has just died.
    deadline = time.monotonic() + SECONDS_TO_DIE
    while group.exists():
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
