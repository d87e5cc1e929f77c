"""A host's disk: mounted over its image, and furnished once with what makes it this host."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from fabfile.lab import images, keys, mounts, services
from fabfile.lab.model import LabError, LabHost
from roles.maintenance import seeds

NETWORK_FILE = """\
[Match]
Name=host0

[Network]
Address={address}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


@dataclass(frozen=True)
class Disk:
    """``folder`` lies on the lab's tmpfs; ``root`` is the host's whole tree, overlay mounted."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def is_furnished(self) -> bool:
        return self._furnished.exists()

    @property
    def _furnished(self) -> Path:
        return self.folder / "furnished"

    def mount(self, lower: Sequence[Path], where: str) -> None:
        """Mount it where it is not. It stays mounted while the host is off."""
        upper, work = self.folder / "upper", self.folder / "work"
        for folder in (upper, work, self.root):
            folder.mkdir(parents=True, exist_ok=True)
        if not mounts.is_mounted(self.root):
            images.mount_overlay(self.root, lower, upper, work, where)

    def mark_furnished(self) -> None:
        self._furnished.touch()


@dataclass(frozen=True)
class Neighbourhood:
    """What every host of a lab knows about the lab."""

    lab: str
    directory: Path
    network: IPv4Network
    hosts: tuple[LabHost, ...]


def furnish(disk: Disk, host: LabHost, around: Neighbourhood) -> None:
    """Write the host's identity and services onto its mounted disk, unless that is done."""
    if disk.is_furnished:
        return
    _identity(disk.root, host, around)
    _ssh(disk.root, host, around)
    if "db" in host.groups:
        _postgresql(disk.root, host, around)
    if "queue" in host.groups:
        with (disk.root / "etc/redis/redis.conf").open("a") as settings:
            settings.write(services.REDIS_CONF)
    if "proxy" in host.groups:
        _haproxy(disk.root, around)
    disk.mark_furnished()


def _identity(root: Path, host: LabHost, around: Neighbourhood) -> None:
    (root / "etc/hostname").write_text(f"{host.name}\n")
    others = "".join(f"{other.address} {other.name}\n" for other in around.hosts)
    # By address, not 127.0.1.1: a service that listens on its own name must be reachable.
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{others}")
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    # Sorts before 80-container-host0.network, which would ask a DHCP server that is not there.
    network = root / "etc/systemd/network/10-host0.network"
    network.write_text(NETWORK_FILE.format(address=host.address))


def _ssh(root: Path, host: LabHost, around: Neighbourhood) -> None:
    own_key = around.directory / host.name / keys.HOST_KEY
    _write(root / "etc/ssh" / keys.HOST_KEY, own_key.read_text(), 0o600)
    _write(root / "etc/ssh" / f"{keys.HOST_KEY}.pub", keys.public_key(own_key) + "\n", 0o644)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    allowed = keys.public_key(around.directory / keys.LAB_KEY)
    _write(root / "root/.ssh/authorized_keys", f"{allowed}\n", 0o600)


def _postgresql(root: Path, host: LabHost, around: Neighbourhood) -> None:
    clusters = sorted(root.glob("etc/postgresql/*/main"))
    if not clusters:
        raise LabError(f"lab {around.lab}: {host.name}: its image has no PostgreSQL cluster")
    for cluster in clusters:
        _write(cluster / "conf.d/lab.conf", services.POSTGRESQL_CONF, 0o644)
        with (cluster / "pg_hba.conf").open("a") as access:
            access.write(services.postgresql_access(around.network))


def _haproxy(root: Path, around: Neighbourhood) -> None:
    site = services.maintenance_site(around.lab)
    folder = root / site.folder.lstrip("/")
    folder.mkdir(parents=True)
    for name in seeds(site.settings.driver):
        (folder / name).touch()
    config = services.haproxy_config(around.hosts, around.lab)
    (root / "etc/haproxy/haproxy.cfg").write_text(config)


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)
