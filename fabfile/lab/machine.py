"""One host as a running machine: started, found again, looked into, killed.

    keeper (sh, its own session)  ->  systemd-nspawn  ->  the host's PID 1

The keeper exists because nspawn ends with 133 when its host reboots, and wants to be run again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from subprocess import CompletedProcess

from fabfile.lab import mounts, network, shell
from fabfile.lab.cgroups import HostGroup
from fabfile.lab.furnish import Disk
from fabfile.lab.model import LabError, LabHost
from fabfile.lab.waiting import wait_until

SECONDS_TO_START = 10.0
LAST_LINES = 8
PATH_INSIDE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# nspawn keeps a folder for each machine name, which a killed one cannot remove.
NSPAWN_LEFTOVERS = Path("/run/systemd/nspawn/propagate")

# $1 is the pid file; the rest is nspawn's command line. Field 22 of /proc/PID/stat is the start
# time; the name in field 2 is `(sh)`, without the spaces that would spoil the count.
KEEPER = r"""
pid_file=$1; shift
for group in $LAB_CGROUPS; do echo $$ >"$group/keeper/cgroup.procs" || exit 70; done
echo "$$ $(cut -d' ' -f22 /proc/$$/stat)" >"$pid_file.new"
mv "$pid_file.new" "$pid_file"
while :; do
    sh -c '
        for group in $LAB_CGROUPS; do echo $$ >"$group/host/cgroup.procs" || exit 70; done
        exec "$@"' nspawn "$@"
    status=$?
    echo "keeper: nspawn ended with $status"
    [ $status -eq 133 ] || exit 0
done
"""

# In a chroot into a plain folder `/` is not a mount, and nspawn needs one to pivot from.
WITH_A_MOUNTED_ROOT = r"""
mount --rbind / "$1" && root=$1 && shift && exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Machine:
    """A host of the lab ``lab``; ``folder`` keeps its pid file, key and console log."""

    lab: str
    host: LabHost
    folder: Path
    disk: Disk
    bridge: network.Bridge

    @property
    def where(self) -> str:
        return f"lab {self.lab}: {self.host.name}"

    @property
    def name(self) -> str:
        """Unique on this machine; the host itself is called ``host.name``."""
        return f"{self.lab}-{self.host.name}"

    @cached_property
    def group(self) -> HostGroup:
        return HostGroup(self.lab, self.host.name)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def last_words(self) -> str:
        """Where its console is written, and what came last, for an error message."""
        try:
            lines = self.console.read_text(errors="replace").splitlines()[-LAST_LINES:]
        except FileNotFoundError:
            lines = []
        return "\n".join([f"its console is {self.console}", *lines])

    def keeper_pid(self) -> int | None:
        """The keeper's PID, or ``None``: the same number with another start is another process."""
        try:
            pid, started = self._pid_file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if _start_ticks(int(pid)) == int(started) else None

    def started_at(self) -> float | None:
        """Seconds after this machine's boot at which the host's PID 1 started."""
        pid = self.first_pid()
        ticks = _start_ticks(pid) if pid is not None else None
        return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")

    def first_pid(self) -> int | None:
        """The host's PID 1 as this machine numbers it."""
        keeper = self.keeper_pid()
        for nspawn in _children(keeper) if keeper is not None else ():
            for child in _children(nspawn):
                if _is_first_in_its_namespace(child) and self._has_its_root(child):
                    return child
        return None

    def _has_its_root(self, pid: int) -> bool:
        """A child that has not changed its root yet would run our commands on this machine."""
        try:
            return Path(f"/proc/{pid}/root").samefile(self.disk.root)
        except OSError:
            return False

    def start(self) -> None:
        """Boot it, in a session and cgroups of its own. Returns as soon as the keeper lives."""
        self._sweep()
        self.group.create()
        shell.start_detached(
            ["sh", "-c", KEEPER, "lab-keeper", str(self._pid_file), *self._nspawn()],
            where=self.where,
            log=self.console,
            env={
                "PATH": PATH_INSIDE,
                "LAB_CGROUPS": " ".join(map(str, self.group.folders())),
            },
        )
        wait_until(
            lambda: self.keeper_pid() is not None,
            seconds=SECONDS_TO_START,
            otherwise=lambda: f"{self.where}: it did not start; {self.last_words()}",
        )

    def _nspawn(self) -> list[str]:
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            "--settings=no",
            f"--directory={self.disk.root}",
            f"--machine={self.name}",
            f"--hostname={self.host.name}",
            "--boot",
            f"--network-bridge={self.bridge.name}",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
        ]
        if mounts.root_is_a_mount():
            return nspawn
        mounted_root = self.disk.folder / "machine-root"
        mounted_root.mkdir(exist_ok=True)
        unshare = ["unshare", "--mount", "--propagation", "unchanged"]
        return [*unshare, "sh", "-c", WITH_A_MOUNTED_ROOT, "sh", str(mounted_root), *nspawn]

    def kill(self) -> None:
        """A power cut: everything in the host ends at once, and its disk is left as it is."""
        keeper = self.keeper_pid()
        if keeper is not None:
            with suppress(ProcessLookupError):
                os.kill(keeper, signal.SIGKILL)
        self._sweep()

    def _sweep(self) -> None:
        """Nothing of an earlier run may be alive, or be in the way of the next."""
        self.group.kill()
        self._pid_file.unlink(missing_ok=True)
        network.remove_cable(self.bridge, self.name)

    def forget(self) -> None:
        """Remove what a dead machine leaves on this one, apart from its disk."""
        self.group.remove()
        with suppress(OSError):
            (NSPAWN_LEFTOVERS / self.name).rmdir()

    def entering(self, argv: Sequence[str], user: str = "root") -> list[str]:
        """The command line that runs ``argv`` inside. Raises ``LabError`` when the host is off."""
        pid = self.first_pid()
        if pid is None:
            raise LabError(f"{self.where}: the host is off; boot it first")
        if self.group.is_frozen():
            raise LabError(f"{self.where}: the host is frozen; thaw it first")
        home = "/root" if user == "root" else "/"
        as_user = [] if user == "root" else ["runuser", "-u", user, "--"]
        # Root and folder too: started in a chroot, the namespace's own root is this machine's.
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        return [
            *["nsenter", f"--target={pid}", *namespaces, "--"],
            *["env", "-i", f"PATH={PATH_INSIDE}", "LANG=C.UTF-8", f"HOME={home}", f"USER={user}"],
            *[f"TERM={os.environ.get('TERM', 'dumb')}", *as_user, *argv],
        ]

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        check: bool = True,
        user: str = "root",
        timeout: float = 600,
    ) -> CompletedProcess[str]:
        """Run inside, without SSH; see ``shell.run`` for what is raised.

        There always is an end to it: a host that shuts down stops all its processes before it ends
        them, and nsenter, which stops with its child, is then never continued.
        """
        entering = self.entering(argv, user)
        ended = shell.run(entering, where=self.where, stdin=stdin, check=False, timeout=timeout)
        if check and ended.returncode != 0:
            said = (ended.stderr.strip() or ended.stdout.strip())[-2000:]
            raise LabError(
                f"{self.where}: {argv[0]} ended with {ended.returncode}: {said or 'no output'}"
            )
        return ended

    def signal_all(self, program: str, number: signal.Signals) -> int:
        """Signal each process of the host whose name is ``program``; how many there were."""
        pids = [pid for pid in self.group.pids() if _program(pid) == program]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)


def _children(pid: int) -> list[int]:
    return [int(child) for child in _proc(pid, f"task/{pid}/children").split()]


def _program(pid: int) -> str:
    return _proc(pid, "comm").strip()


def _is_first_in_its_namespace(pid: int) -> bool:
    for line in _proc(pid, "status").splitlines():
        if line.startswith("NSpid:"):
            numbers = line.split()[1:]
            return len(numbers) > 1 and numbers[-1] == "1"
    return False


def _start_ticks(pid: int) -> int | None:
    """The start of a living process in clock ticks since boot; a zombie counts as dead."""
    # The name stands in parentheses and may itself hold spaces and parentheses.
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return int(fields[19]) if fields and fields[0] not in "ZX" else None


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
