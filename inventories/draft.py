"""An inventory while it is read: groups and hosts collect here, then become the frozen model.

What a host's variables are, and in which order groups, children and hosts stand, follows
``ansible-inventory``, which the tests hold it to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from inventories.model import Group, Host, Inventory
from inventories.paths import shown
from inventories.patterns import is_address

Variables = dict[str, tuple[object, str]]
"""Variable name -> (raw value, the place it came from)."""

VariablesOf = Callable[[Literal["group_vars", "host_vars"], str], Variables]
"""What lies in ``group_vars/`` or ``host_vars/`` for a name."""

# Ansible computes these for each host, so `ansible-inventory` drops what an inventory says of them.
_ANSIBLES_OWN = frozenset(
    [
        "ansible_async_path",
        "ansible_collection_name",
        "ansible_config_file",
        "ansible_dependent_role_names",
        "ansible_diff_mode",
        "ansible_facts",
        "ansible_forks",
        "ansible_inventory_sources",
        "ansible_limit",
        "ansible_play_batch",
        "ansible_play_hosts",
        "ansible_play_hosts_all",
        "ansible_play_role_names",
        "ansible_playbook_python",
        "ansible_role_name",
        "ansible_role_names",
        "ansible_run_tags",
        "ansible_skip_tags",
        "ansible_verbosity",
        "ansible_version",
        "group_names",
        "groups",
        "hostvars",
        "inventory_dir",
        "inventory_file",
        "inventory_hostname",
        "inventory_hostname_short",
        "play_hosts",
        "playbook_dir",
        "role_name",
        "role_names",
        "role_path",
        "role_uuid",
    ]
)


@dataclass
class GroupDraft:
    """Hosts, children and parents are ordered sets."""

    name: str
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    parents: dict[str, None] = field(default_factory=dict)
    variables: Variables = field(default_factory=dict)
    priority: int = 1


@dataclass
class HostDraft:
    """``file`` is where the host was first named: a folder, where Ansible read it for us."""

    file: Path
    variables: Variables = field(default_factory=dict)


class Draft:
    """Groups and hosts in the order in which they were first named."""

    def __init__(self) -> None:
        self.groups: dict[str, GroupDraft] = {}
        self.hosts: dict[str, HostDraft] = {}
        for name in ("all", "ungrouped"):
            self.add_group(name)
        self.add_child("all", "ungrouped")

    def add_group(self, name: str) -> GroupDraft:
        return self.groups.setdefault(name, GroupDraft(name))

    def add_host(self, name: str, group: str, file: Path) -> HostDraft:
        self.groups[group].hosts[name] = None
        return self.hosts.setdefault(name, HostDraft(file))

    def add_child(self, parent: str, child: str) -> None:
        """Raises ValueError where the child contains its parent or can be in no group."""
        if reason := _unrelated(parent, child):
            raise ValueError(reason)
        if loop := self._chain(child, parent):
            raise ValueError(f"a group cannot contain itself: {' -> '.join([parent, *loop])}")
        self.groups[parent].children[child] = None
        self.groups[child].parents[parent] = None

    def variables_named(self, name: str) -> Variables:
        """Where a host's entry goes: like Ansible to the group, where one has the same name."""
        return (self.groups.get(name) or self.hosts[name]).variables

    def finished(
        self, environment: str, path: Path, main_file: Path, variables_of: VariablesOf
    ) -> Inventory:
        """The frozen inventory; ``main_file`` is the place named for a variable that is nowhere."""
        self._tidy()
        return _Finish(self, shown(main_file), variables_of).inventory(environment, path)

    def _chain(self, top: str, wanted: str) -> list[str]:
        """The groups from ``top`` down to ``wanted``; empty where it isn't below."""
        if top == wanted:
            return [top]
        chains = (self._chain(child, wanted) for child in self.groups[top].children)
        return next(([top, *chain] for chain in chains if chain), [])

    def _tidy(self) -> None:
        """Puts every group below `all`, and in `ungrouped` the hosts that are in no other group."""
        for name, group in self.groups.items():
            if name != "all" and not group.parents:
                self.add_child("all", name)
        grouped = {
            host
            for name, group in self.groups.items()
            for host in group.hosts
            if name not in ("all", "ungrouped")
        }
        ungrouped = self.groups["ungrouped"].hosts
        for name in self.hosts:
            if name in grouped:
                ungrouped.pop(name, None)
            else:
                ungrouped[name] = None


def _unrelated(parent: str, child: str) -> str | None:
    """Why the two can't be parent and child; Ansible allows some of it, and loses hosts then."""
    if child == "all":
        return "all contains every group and is in none"
    if child == "ungrouped" and parent != "all":
        return "ungrouped holds the hosts of no group and is in none"
    return "ungrouped holds hosts and no groups" if parent == "ungrouped" else None


class _Finish:
    """Computes what the model holds from a tidy draft."""

    def __init__(self, draft: Draft, home: str, variables_of: VariablesOf) -> None:
        self.draft = draft
        self.home = home
        self.variables_of = cache(variables_of)
        self.depth = cache(self._depth)
        self.ancestry = cache(self._ancestry)
        self.groups_of = self._groups_of_hosts()

    def inventory(self, environment: str, path: Path) -> Inventory:
        members = self._members()
        hosts = {name: self._host(name, members) for name in self.draft.hosts}
        groups = {name: self._group(group) for name, group in self.draft.groups.items()}
        return Inventory(environment, path, MappingProxyType(hosts), MappingProxyType(groups))

    def _group(self, group: GroupDraft) -> Group:
        variables = group.variables | self.variables_of("group_vars", group.name)
        values = {name: value for name, (value, _) in variables.items()}
        hosts, children = tuple(group.hosts), tuple(group.children)
        return Group(group.name, hosts, children, MappingProxyType(values))

    def _host(self, name: str, members: Mapping[str, list[str]]) -> Host:
        variables = self._variables(name)
        group_names = sorted(self.groups_of[name] - {"all"})
        file = self.draft.hosts[name].file.absolute()
        magic = {
            "inventory_hostname": name,
            "inventory_hostname_short": name if is_address(name) else name.split(".")[0],
            "inventory_file": str(file),
            "inventory_dir": str(file if file.is_dir() else file.parent),
            "group_names": group_names,
            "groups": members,
        }
        return Host(
            name=name,
            groups=tuple(group_names),
            variables=MappingProxyType({key: value for key, (value, _) in variables.items()}),
            origins=MappingProxyType({key: origin for key, (_, origin) in variables.items()}),
            home=self.home,
            magic=MappingProxyType(magic),
        )

    def _variables(self, name: str) -> Variables:
        """Later wins, whole values: Ansible's default is to replace, not to merge."""
        groups = self.draft.groups
        ranked = sorted(self.groups_of[name] - {"all"}, key=self._rank)
        resolved = dict(groups["all"].variables)
        for group in ranked:
            resolved |= groups[group].variables
        for group in ["all", *ranked]:
            resolved |= self.variables_of("group_vars", group)
        resolved |= self.draft.hosts[name].variables
        resolved |= self.variables_of("host_vars", name)
        return {key: value for key, value in resolved.items() if key not in _ANSIBLES_OWN}

    def _rank(self, group: str) -> tuple[int, int, str]:
        return self.depth(group), self.draft.groups[group].priority, group

    def _depth(self, group: str) -> int:
        """The longest way down from `all`."""
        return max((self.depth(name) + 1 for name in self.draft.groups[group].parents), default=0)

    def _ancestry(self, group: str) -> frozenset[str]:
        """The group and all groups that contain it."""
        parents = self.draft.groups[group].parents
        return frozenset({group}).union(*(self.ancestry(name) for name in parents))

    def _groups_of_hosts(self) -> dict[str, frozenset[str]]:
        groups_of: dict[str, frozenset[str]] = dict.fromkeys(self.draft.hosts, frozenset())
        for name, group in self.draft.groups.items():
            for host in group.hosts:
                groups_of[host] |= self.ancestry(name)
        return groups_of

    def _members(self) -> dict[str, list[str]]:
        """Group name -> the names of all hosts in and below it, in inventory order."""
        members: dict[str, list[str]] = {name: [] for name in self.draft.groups}
        for host, groups in self.groups_of.items():
            for group in groups:
                members[group].append(host)
        return members
