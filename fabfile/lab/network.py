"""The lab's bridge, and each host's cable to it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from fabfile.lab import shell
from fabfile.lab.model import LabError

BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@dataclass(frozen=True)
class Bridge:
    """``owner`` marks the interface, so that another's of the same name is never touched."""

    lab: str
    network: IPv4Network
    owner: str

    @property
    def name(self) -> str:
        return f"fl-{self.lab}"

    @property
    def address(self) -> str:
        return f"{self.network[1]}/{self.network.prefixlen}"

    @property
    def where(self) -> str:
        return f"lab {self.lab}"


def up(bridge: Bridge) -> None:
    """Create what is missing. Raises ``LabError`` when the name or the network is taken."""
    refuse_foreign_bridge(bridge)
    _refuse_used_network(bridge)
    if _alias(bridge) is None:
        # Without a MAC of its own a bridge takes its lowest port's, and changes it with each boot.
        _ip(bridge, "link", "add", bridge.name, "address", _mac(bridge), "type", "bridge")
        _ip(bridge, "link", "set", "dev", bridge.name, "alias", bridge.owner)
    _ip(bridge, "addr", "replace", bridge.address, "dev", bridge.name)
    _ip(bridge, "link", "set", "dev", bridge.name, "up")


def down(bridge: Bridge) -> None:
    if _alias(bridge) == bridge.owner:
        _ip(bridge, "link", "delete", "dev", bridge.name)


def cable(machine: str) -> str:
    """nspawn's name for the host's end on the bridge.

    Longer than the kernel's 15 characters it becomes an alternative name, which `ip` takes too.
    """
    return f"vb-{machine}"


def set_cable(bridge: Bridge, machine: str, *, plugged: bool) -> None:
    state = "up" if plugged else "down"
    _ip(bridge, "link", "set", "dev", cable(machine), state)


def remove_cable(bridge: Bridge, machine: str) -> None:
    """A dead host's network lingers until the kernel has tidied up; its name must be free now."""
    shell.run(["ip", "link", "delete", "dev", cable(machine)], where=bridge.where, check=False)


def unplugged(bridge: Bridge) -> set[str]:
    """The cables that are down now, by nspawn's names."""
    if _alias(bridge) is None:
        return set()
    ports = _ip_json(bridge, "link", "show", "master", bridge.name)
    down_ports = [port for port in ports if "UP" not in port["flags"]]
    return {name for port in down_ports for name in (port["ifname"], *port.get("altnames", ()))}


def is_filtered() -> bool:
    """Docker and its like filter bridges too, and may drop what their own rules do not name."""
    return BRIDGE_FILTER.exists() and BRIDGE_FILTER.read_text().strip() == "1"


def refuse_foreign_bridge(bridge: Bridge) -> None:
    """Raise ``LabError`` when another lab of this name, or no lab at all, has the bridge."""
    alias = _alias(bridge)
    if alias is not None and alias != bridge.owner:
        raise LabError(
            f"{bridge.where}: this machine already has an interface {bridge.name} "
            f"({alias or 'not a lab'}); give the lab another name or remove that one"
        )


def _refuse_used_network(bridge: Bridge) -> None:
    for interface in _ip_json(bridge, "addr", "show"):
        for address in interface.get("addr_info", ()):
            used = f"{address['local']}/{address['prefixlen']}"
            _refuse_overlap(bridge, used, interface["ifname"])
    for route in _ip_json(bridge, "route", "show"):
        if route["dst"] != "default":
            _refuse_overlap(bridge, route["dst"], route.get("dev", "a route"))


def _refuse_overlap(bridge: Bridge, used: str, interface: str) -> None:
    if interface != bridge.name and bridge.network.overlaps(IPv4Network(used, strict=False)):
        raise LabError(
            f"{bridge.where}: its network {bridge.network} is taken: {interface} has {used}; "
            "bring that down or give the lab other addresses"
        )


def _alias(bridge: Bridge) -> str | None:
    """``None`` without such an interface, ``""`` for one that no lab has marked."""
    path = Path("/sys/class/net") / bridge.name / "ifalias"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def _mac(bridge: Bridge) -> str:
    octets = hashlib.sha256(bridge.owner.encode()).digest()[:5]
    return ":".join(["02", *(f"{octet:02x}" for octet in octets)])


def _ip(bridge: Bridge, *words: str) -> str:
    return shell.run(["ip", *words], where=bridge.where).stdout


def _ip_json(bridge: Bridge, *words: str) -> list[dict[str, Any]]:
    text = shell.run(["ip", "-json", "-4", *words], where=bridge.where).stdout
    return [entry for entry in json.loads(text or "[]") if entry]
