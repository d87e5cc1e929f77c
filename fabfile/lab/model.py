"""The lab's words: a host, its status, where labs live, and what is refused at once."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Literal

from inventories.errors import FabfleetError, UsageError

# No hyphen in a lab's name: the machine name is `lab-host`, and `a-b`+`c` must not be `a`+`b-c`.
LAB_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
HOST_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")
RESERVED_LAB_NAMES = frozenset({"images"})
RESERVED_HOST_NAMES = frozenset({"disks", "localhost"})


class LabError(FabfleetError):
    """The lab cannot do what was asked. The message starts with ``lab NAME:``."""

    exit_code = 1


@dataclass(frozen=True)
class LabHost:
    """One machine of a lab. ``address`` is an IPv4 address such as ``10.88.0.11``."""

    name: str
    address: str
    groups: tuple[str, ...] = ()


State = Literal["running", "booting", "off", "frozen"]


@dataclass(frozen=True)
class HostStatus:
    """What one host is doing now. Figures of a host that is off are ``None``.

    ``pid`` is the keeper on this machine; ``failed`` are the systemd units that failed.
    """

    name: str
    address: str
    groups: tuple[str, ...]
    state: State
    cut: bool
    pid: int | None = None
    uptime_seconds: float | None = None
    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    failed: tuple[str, ...] = ()


def state_directory() -> Path:
    """Where labs and images are kept: ``$FABFLEET_LAB_DIR``, else ``/var/lib/fabfleet/lab``."""
    return Path(os.environ.get("FABFLEET_LAB_DIR") or "/var/lib/fabfleet/lab").absolute()


def checked_network(lab: str, hosts: Sequence[LabHost]) -> IPv4Network:
    """The /24 that all ``hosts`` share. Raises ``UsageError`` for anything that cannot work."""
    if not LAB_NAME.fullmatch(lab) or lab in RESERVED_LAB_NAMES:
        raise UsageError(f"lab {lab}: a lab's name is 1 to 12 of a-z and 0-9, a letter first")
    if not hosts:
        raise UsageError(f"lab {lab}: it has no hosts")
    for host in hosts:
        _check_host_name(lab, host)
    _refuse_twice(lab, "name", [host.name for host in hosts])
    _refuse_twice(lab, "address", [host.address for host in hosts])
    return _shared_network(lab, hosts)


def _check_host_name(lab: str, host: LabHost) -> None:
    if not HOST_NAME.fullmatch(host.name) or host.name in RESERVED_HOST_NAMES:
        raise UsageError(
            f"lab {lab}: {host.name}: a host's name is up to 32 of a-z, 0-9 and '-', a letter first"
        )


def _refuse_twice(lab: str, what: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise UsageError(f"lab {lab}: two hosts have the {what} {', '.join(twice)}")


def _shared_network(lab: str, hosts: Sequence[LabHost]) -> IPv4Network:
    network = IPv4Network(f"{_address(lab, hosts[0])}/24", strict=False)
    for host in hosts:
        address = _address(lab, host)
        if address not in network:
            raise UsageError(f"lab {lab}: {host.name}: {address} is outside of {network}")
        if int(address) & 0xFF in (0, 1, 255):
            raise UsageError(
                f"lab {lab}: {host.name}: {address} is not free: .0, .1 (the bridge) and .255"
            )
    return network


def _address(lab: str, host: LabHost) -> IPv4Address:
    try:
        return IPv4Address(host.address)
    except ValueError:
        raise UsageError(
            f"lab {lab}: {host.name}: {host.address!r} is not an IPv4 address"
        ) from None
