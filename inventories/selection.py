"""What a ``--hosts`` pattern means: ClusterShell's node sets over hosts and groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ClusterShell.NodeSet import (
    RESOLVER_NOGROUP,
    NodeSet,
    NodeSetException,
)
from ClusterShell.NodeUtils import (
    GroupResolver,
    GroupResolverError,
    GroupSource,
)

from inventories.errors import UsageError
from inventories.nearest import did_you_mean

if TYPE_CHECKING:
    from inventories.model import Host, Inventory

_OPERAND = re.compile(r"(?:[^,!&^\[]|\[[^\]]*\]?)+")
_ANSIBLE_RANGE = re.compile(r"\[(\d+):(\d+)(?::(\d+))?\]")


def select(inventory: Inventory, pattern: str) -> tuple[Host, ...]:
    """The chosen hosts in inventory order, at least one. Raises UsageError."""
    if not pattern.strip():
        raise UsageError(
            f"--hosts: names no host of {inventory.environment}; {_there_are(inventory)}."
        )
    chosen = _Selection(inventory, pattern).names()
    hosts = tuple(host for name, host in inventory.hosts.items() if name in chosen)
    if not hosts:
        raise UsageError(
            f"--hosts {pattern!r}: matches no host of {inventory.environment};"
            f" {_there_are(inventory)}."
        )
    return hosts


class _Selection:
    """Checks each operand by itself: a node set takes any name, and ``web!wbe1`` would hide one."""

    def __init__(self, inventory: Inventory, pattern: str) -> None:
        self.inventory = inventory
        self.pattern = pattern
        self.resolver = _resolver(inventory)

    def names(self) -> frozenset[str]:
        """The names of the hosts that the whole pattern leaves."""
        ranges = _ANSIBLE_RANGE.sub(_node_set_range, self.pattern)
        return frozenset(self._node_set(_OPERAND.sub(self._checked, ranges)))

    def _checked(self, found: re.Match[str]) -> str:
        operand = found[0].strip()
        if operand in self.inventory.groups:
            return f"@{operand}"
        if not ("*" in operand or "?" in operand):
            for name in self._node_set(operand, resolved=False):
                self._refuse_unknown(name)
        return operand

    def _refuse_unknown(self, name: str) -> None:
        group = name.removeprefix("@")
        known = self.inventory.groups if group != name else self.inventory.hosts
        if group in known:
            return
        kind, others = ("group", ()) if group != name else ("host or group", self.inventory.groups)
        raise UsageError(
            f"--hosts {self.pattern!r}: no {kind} {group} in {self.inventory.environment};"
            f" {_there_are(self.inventory)}.{did_you_mean(group, [*known, *others])}"
        )

    def _node_set(self, text: str, *, resolved: bool = True) -> Iterator[str]:
        resolver = self.resolver if resolved else RESOLVER_NOGROUP
        try:
            yield from map(str, NodeSet(text, resolver=resolver))
        except (NodeSetException, GroupResolverError) as error:
            raise UsageError(
                f"--hosts {self.pattern!r}: is no host pattern: {error};"
                " write web1,db1 or web[1-3] or web* or @web!web1."
            ) from error


def _node_set_range(found: re.Match[str]) -> str:
    begin, end, step = found.groups()
    return f"[{begin}-{end}/{step}]" if step else f"[{begin}-{end}]"


def _resolver(inventory: Inventory) -> GroupResolver:
    groups = {
        name: ",".join(host.name for host in inventory.group(name)) for name in inventory.groups
    }
    return GroupResolver(GroupSource("inventory", groups, groups["all"]))


def _there_are(inventory: Inventory) -> str:
    return f"there are: {_folded(inventory.hosts)}; groups: {', '.join(sorted(inventory.groups))}"


def _folded(names: Iterable[str]) -> str:
    """``db1,web[1-3]``: hundreds of hosts in one line."""
    return str(NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP))
