"""The lab as a whole: up, down, status, and the faults that can be made."""

from __future__ import annotations

import fcntl
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import TypeVar

from fabfile.lab import digest, images, keys, limits, mounts, needs, network, services, shell
from fabfile.lab.furnish import Disk, Neighbourhood, furnish
from fabfile.lab.machine import Machine
from fabfile.lab.model import (
    HostStatus,
    LabError,
    LabHost,
    State,
    checked_network,
    state_directory,
)
from fabfile.lab.waiting import wait_until
from inventories.errors import UsageError

READY_SECONDS = 90.0
# tmpfs takes only what is used; this is where a runaway test is stopped.
DISKS_SHARE_OF_MEMORY = "60%"
DEFAULT_SHELL = ("bash", "--login")

# The clock in which /proc counts the start of a process.
CLOCK = time.CLOCK_BOOTTIME

Progress = Callable[[str], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


def _silent(_: str) -> None:
    pass


class Lab:
    """Some hosts in one /24 behind one bridge.

    ``state`` holds the images that all labs share (default: ``$FABFLEET_LAB_DIR`` or
    ``/var/lib/fabfleet/lab``); ``directory`` is this lab's own (default: ``state/name``).
    Making the object touches nothing. Raises ``UsageError`` for names or addresses that cannot be.
    """

    def __init__(
        self,
        name: str,
        hosts: Sequence[LabHost],
        directory: Path | None = None,
        *,
        state: Path | None = None,
    ) -> None:
        self.network = checked_network(name, hosts)
        self.name = name
        self.hosts = tuple(hosts)
        self.state = (state or state_directory()).resolve()
        self.directory = (directory or self.state / name).resolve()
        self._bridge = network.Bridge(name, self.network, owner=f"fabfleet {self.directory}")

    @property
    def where(self) -> str:
        return f"lab {self.name}"

    @property
    def ssh_config(self) -> Path:
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def private_key(self) -> Path:
        return self.directory / keys.LAB_KEY

    # What the machine needs

    def needs(self) -> list[str]:
        """What this machine lacks, in sentences; empty when ``up`` can begin."""
        return needs.missing(all(images.is_built(self._images, layer) for layer in self._layers))

    def install_needs(self) -> None:
        needs.install(self.where)

    # The whole lab

    def up(self, progress: Progress = _silent) -> None:
        """Boot the hosts that are not running, and return when all answer. Leaves the rest alone.

        Raises ``LabError``: with all of ``needs``, for a taken network, for a host that does not
        come up in time.
        """
        self._refuse_unmet_needs()
        started = time.monotonic()
        with self._alone():
            images.build_missing(self._images, self._layers, progress)
            self._prepare(progress)
            booted = [self._machine(host) for host in self.hosts if not self._is_on(host)]
            self._in_parallel(self._power_on, booted)
            progress(f"{self.where}: {len(booted)} of {len(self.hosts)} hosts booting")
            reachable = self._reachable()
            warnings = [*self._in_parallel(_ready, reachable), _filter_warning(reachable)]
        for line in filter(None, warnings):
            progress(line)
        progress(f"{self.where}: up after {time.monotonic() - started:.1f} s")

    def down(self, progress: Progress = _silent) -> None:
        """Stop all hosts and remove disks, bridge and cgroups. Keys and images stay."""
        if not self.directory.is_dir():
            return
        with self._alone():
            machines = [self._machine(host) for host in self._every_host_ever()]
            self._in_parallel(Machine.kill, machines)
            mounts.unmount_below(self._disks, self.where)
            network.down(self._bridge)
            self._in_parallel(Machine.forget, machines)
            with suppress(FileNotFoundError):
                self._disks.rmdir()
        progress(f"{self.where}: down")

    def status(self) -> list[HostStatus]:
        """What each host is doing, in the lab's order; asks all of them at once."""
        cut = network.unplugged(self._bridge)
        machines = [self._machine(host) for host in self.hosts]
        return self._in_parallel(partial(_status, cut=cut), machines)

    # One host

    def run(
        self,
        host: str,
        argv: Sequence[str],
        stdin: str | None = None,
        check: bool = True,
        user: str = "root",
        timeout: float = 600,
    ) -> CompletedProcess[str]:
        """Run it in the host without SSH. Raises ``LabError`` when it fails and ``check``."""
        return self._named(host).run(argv, stdin=stdin, check=check, user=user, timeout=timeout)

    def shell(self, host: str, argv: Sequence[str] = DEFAULT_SHELL) -> int:
        """A root shell in the host on this terminal; its exit status."""
        return shell.interactive(self._named(host).entering(argv))

    def boot(self, host: str) -> None:
        """Switch it on, on the disk that it had, and wait until it answers."""
        machine = self._named(host)
        with self._alone():
            self._refuse_no_disk(machine)
            if machine.keeper_pid() is None:
                self._power_on(machine)
            _ready(machine)

    def kill(self, host: str) -> None:
        """A power cut. The disk keeps what was written; the network cable is plugged at boot."""
        with self._alone():
            self._named(host).kill()

    def reboot(self, host: str) -> None:
        """``systemctl reboot`` inside, and wait until it answers again."""
        machine = self._named(host)
        before = machine.first_pid()
        machine.run(["systemctl", "reboot"], check=False)
        wait_until(
            lambda: machine.first_pid() not in (before, None),
            seconds=READY_SECONDS,
            otherwise=lambda: f"{machine.where}: it does not reboot; {machine.last_words()}",
        )
        _ready(machine)

    # Faults

    def cut(self, host: str) -> None:
        """Take it off the network: nothing arrives, nothing leaves, no connection is closed."""
        self._plug(host, plugged=False)

    def heal(self, host: str) -> None:
        self._plug(host, plugged=True)

    def freeze(self, host: str) -> None:
        """Stop every process of the host where it is; its network still answers pings."""
        machine = self._named(host)
        self._refuse_off(machine)
        machine.group.freeze()

    def thaw(self, host: str) -> None:
        machine = self._named(host)
        self._refuse_off(machine)
        machine.group.thaw()

    def freeze_sshd(self, host: str) -> int:
        """SIGSTOP to all its sshd processes; how many. New connections open and then hang."""
        return self._named(host).signal_all("sshd", signal.SIGSTOP)

    def thaw_sshd(self, host: str) -> int:
        return self._named(host).signal_all("sshd", signal.SIGCONT)

    def limit_disk(self, host: str, path: str, size_bytes: int, inodes: int | None = None) -> None:
        """Give ``path`` (empty or missing) a file system of its own size until ``down``."""
        machine = self._named(host)
        self._refuse_no_disk(machine)
        limits.limit(machine, path, size_bytes, inodes)

    def fill_disk(self, host: str, path: str, leave_bytes: int = 0) -> None:
        """Leave only ``leave_bytes`` free below a limited ``path``."""
        limits.fill(self._named(host), path, leave_bytes)

    def free_disk(self, host: str, path: str) -> None:
        limits.free(self._named(host), path)

    def tree_digest(self, host: str, paths: Sequence[str]) -> dict[str, str]:
        """Every attribute and content below ``paths``; see ``digest.tree_digest`` for its form."""
        return digest.tree_digest(self._named(host), paths)

    # Details

    @property
    def _images(self) -> Path:
        return self.state / "images"

    @property
    def _disks(self) -> Path:
        return self.directory / "disks"

    @property
    def _layers(self) -> list[images.Layer]:
        chains = (images.layers_for(host.groups) for host in self.hosts)
        return list(dict.fromkeys(layer for chain in chains for layer in chain))

    def _machine(self, host: LabHost) -> Machine:
        disk = Disk(self._disks / host.name)
        return Machine(self.name, host, self.directory / host.name, disk, self._bridge)

    def _named(self, name: str) -> Machine:
        for host in self.hosts:
            if host.name == name:
                return self._machine(host)
        known = ", ".join(host.name for host in self.hosts)
        raise UsageError(f"{self.where}: there is no host {name}; it has {known}")

    def _every_host_ever(self) -> list[LabHost]:
        """Also those that have left the inventory since they were booted."""
        known = {host.name: host for host in self.hosts}
        found = {path.parent.name for path in self.directory.glob("*/console.log")}
        return [known.get(name, LabHost(name, "")) for name in sorted(found | known.keys())]

    def _is_on(self, host: LabHost) -> bool:
        return self._machine(host).keeper_pid() is not None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two commands must not boot or stop the same lab at the same time."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A lab of this name in another directory would have the same cgroups: not ours to end.
            network.refuse_foreign_bridge(self._bridge)
            yield

    def _in_parallel(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        with ThreadPoolExecutor(max_workers=max(len(items), 1)) as pool:
            return list(pool.map(work, items))

    def _prepare(self, progress: Progress) -> None:
        for note in needs.raise_kernel_limits():
            progress(f"{self.where}: {note}")
        network.up(self._bridge)
        keys.prepare(self.name, self.directory, self.hosts)
        if not mounts.is_mounted(self._disks):
            options = f"size={DISKS_SHARE_OF_MEMORY},nr_inodes=0,mode=755"
            mounts.mount_private_tmpfs(self._disks, options, self.where)

    def _power_on(self, machine: Machine) -> None:
        lower = images.lower_directories(self._images, machine.host.groups)
        machine.disk.mount(lower, machine.where)
        around = Neighbourhood(self.name, self.directory, self.network, self.hosts)
        furnish(machine.disk, machine.host, around)
        machine.start()

    def _reachable(self) -> list[Machine]:
        """Hosts that can answer: a fault that somebody made is not to be waited for."""
        cut = network.unplugged(self._bridge)
        machines = (self._machine(host) for host in self.hosts)
        return [m for m in machines if network.cable(m.name) not in cut and not m.group.is_frozen()]

    def _plug(self, host: str, *, plugged: bool) -> None:
        machine = self._named(host)
        self._refuse_off(machine)
        network.set_cable(self._bridge, machine.name, plugged=plugged)

    def _refuse_unmet_needs(self) -> None:
        unmet = self.needs()
        if unmet:
            raise LabError(f"{self.where}: it cannot run here:\n" + "\n".join(unmet))

    def _refuse_off(self, machine: Machine) -> None:
        if machine.keeper_pid() is None:
            raise LabError(f"{machine.where}: the host is off; boot it first")

    def _refuse_no_disk(self, machine: Machine) -> None:
        if not machine.disk.is_furnished:
            raise LabError(f"{machine.where}: it has never been up; bring the lab up first")


def _ready(machine: Machine) -> str | None:
    """Wait until sshd answers and systemd has started everything; a line on what failed."""
    deadline = time.monotonic() + READY_SECONDS
    wait_until(
        lambda: _sshd_answers(machine.host.address) or machine.keeper_pid() is None,
        seconds=READY_SECONDS,
        otherwise=lambda: f"{machine.where}: sshd does not answer; {machine.last_words()}",
    )
    if machine.keeper_pid() is None:
        raise LabError(f"{machine.where}: it went off while booting; {machine.last_words()}")
    left = max(deadline - time.monotonic(), 1.0)
    machine.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=left)
    if "db" in machine.host.groups:
        _create_shop(machine)
    failed = _failed_units(machine)
    return f"{machine.where}: degraded, failed: {', '.join(failed)}" if failed else None


def _sshd_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1.0) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _filter_warning(machines: Sequence[Machine]) -> str | None:
    if len(machines) < 2 or not network.is_filtered():
        return None
    one, other = machines[:2]
    knock = ["timeout", "2", "bash", "-c", f"</dev/tcp/{other.host.address}/22"]
    if one.run(knock, check=False).returncode == 0:
        return None
    return (
        f"{one.where}: it cannot reach {other.host.name}: this machine's iptables filters bridges; "
        "`sysctl net.bridge.bridge-nf-call-iptables=0` ends that"
    )


def _create_shop(machine: Machine) -> None:
    psql = ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1"]
    machine.run(psql, stdin=services.POSTGRESQL_SHOP, user="postgres")


def _failed_units(machine: Machine) -> tuple[str, ...]:
    listing = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"]
    lines = machine.run(listing, check=False).stdout.splitlines()
    return tuple(line.split()[0] for line in lines if line.strip())


def _status(machine: Machine, cut: set[str]) -> HostStatus:
    host = machine.host
    pid, started = machine.keeper_pid(), machine.started_at()
    if pid is None:
        return HostStatus(host.name, host.address, host.groups, "off", cut=False)
    state = _state(machine)
    return HostStatus(
        host.name,
        host.address,
        host.groups,
        state,
        cut=network.cable(machine.name) in cut,
        pid=pid,
        uptime_seconds=None if started is None else time.clock_gettime(CLOCK) - started,
        memory_bytes=machine.group.memory_bytes(),
        cpu_seconds=machine.group.cpu_seconds(),
        failed=_failed_units(machine) if state == "running" else (),
    )


def _state(machine: Machine) -> State:
    if machine.group.is_frozen():
        return "frozen"
    if machine.first_pid() is None:
        return "booting"
    try:
        said = machine.run(["systemctl", "is-system-running"], check=False, timeout=10).stdout
    except LabError:
        return "booting"
    said = said.strip()
    return "running" if said in ("running", "degraded") else "booting"
