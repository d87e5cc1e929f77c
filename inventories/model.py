"""What an inventory says, frozen: hosts with their variables, groups, and ways to choose hosts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from inventories.errors import InventoryError
from inventories.nearest import did_you_mean
from inventories.paths import shown
from inventories.values import as_json, described

_KINDS: Mapping[str, Literal["ssh", "local"]] = {
    "ssh": "ssh",
    "paramiko": "ssh",
    "paramiko_ssh": "ssh",
    "smart": "ssh",
    "local": "local",
}


@dataclass(frozen=True)
class Inventory:
    """An environment. ``hosts`` stand in inventory order: that in which they were first named."""

    environment: str
    path: Path
    hosts: Mapping[str, Host] = field(hash=False)
    groups: Mapping[str, Group] = field(hash=False)

    def group(self, name: str) -> tuple[Host, ...]:
        """All hosts in and below the group, in inventory order.

        Raises InventoryError where there is no such group.
        """
        if name not in self.groups:
            there_are = ", ".join(sorted(self.groups))
            raise InventoryError(
                f"{shown(self.path)}: no group {name}; there are: {there_are}."
                f"{did_you_mean(name, self.groups)}"
            )
        return tuple(host for host in self.hosts.values() if name in ("all", *host.groups))

    def select(self, pattern: str) -> tuple[Host, ...]:
        """The hosts that a ``--hosts`` pattern means, in inventory order.

        ClusterShell's grammar: ``web[1-3],db1``, ``web*``, ``@web!web1``, ``&``, ``^``; also a bare
        group name, ``all``, and Ansible's ``web[1:3]``. Raises UsageError.
        """
        from inventories.selection import select

        return select(self, pattern)

    def listing(self) -> dict[str, object]:
        """The same as ``ansible-inventory --list``, ready for JSON."""
        hostvars = {
            name: as_json(host.variables) for name, host in self.hosts.items() if host.variables
        }
        meta = {"hostvars": hostvars, "profile": "inventory_legacy"}
        groups = {name: group.listing() for name, group in self.groups.items()}
        return {"_meta": meta, **{name: listed for name, listed in groups.items() if listed}}


@dataclass(frozen=True)
class Group:
    """``hosts`` and ``children`` are the direct ones; ``variables`` are raw and the group's own.

    An inventory that ``ansible-inventory`` had to read has no group variables: it brings them
    resolved in each host.
    """

    name: str
    hosts: tuple[str, ...]
    children: tuple[str, ...]
    variables: Mapping[str, object] = field(hash=False)

    def listing(self) -> dict[str, object]:
        """``hosts`` and ``children``, each only where there are some."""
        hosts = [] if self.name == "all" else list(self.hosts)
        listed: dict[str, object] = {"hosts": hosts, "children": list(self.children)}
        return {key: names for key, names in listed.items() if names}


@dataclass(frozen=True)
class Connection:
    """How to reach a host."""

    kind: Literal["ssh", "local"]
    address: str
    port: int | None
    user: str | None
    key_file: str | None
    ssh_args: tuple[str, ...]
    python: str | None


@dataclass(frozen=True)
class Host:
    """A host with its resolved variables.

    - ``groups``: all it is in, with their ancestors, without ``all``; sorted
    - ``variables``: raw, templates and vaulted text as they stand
    - ``origins``: variable name -> ``inventories/prod/group_vars/web.yml``, or with a key path
      ``inventories/prod/hosts.yml: web.hosts.web1``
    - ``home``: the file to name for a variable that stands nowhere
    - ``magic``: the variables that exist only in templates, such as ``inventory_hostname``
    """

    name: str
    groups: tuple[str, ...]
    variables: Mapping[str, object] = field(hash=False)
    origins: Mapping[str, str] = field(hash=False, repr=False)
    home: str = field(repr=False)
    magic: Mapping[str, object] = field(hash=False, repr=False, compare=False)

    def setting(self, name: str) -> object | None:
        """The rendered variable, None where there is none. Raises InventoryError."""
        from inventories.render import Renderer

        return Renderer(self).variable(name) if name in self.variables else None

    def render(self, value: object) -> object:
        """``value`` with its Jinja templates rendered, in strings, lists and mappings.

        A string that is exactly one ``{{ expression }}`` keeps the expression's type.
        Raises InventoryError that starts with the file and key of the broken template.
        """
        from inventories.render import Renderer

        return Renderer(self).value(value)

    def where(self, name: str, *keys: str) -> str:
        """The start of an error: ``inventories/prod/group_vars/web.yml: wsgi.bind``."""
        origin = self.origins.get(name, self.home)
        joint = "." if ": " in origin else ": "
        return f"{origin}{joint}{'.'.join([name, *keys])}"

    @cached_property
    def connection(self) -> Connection:
        """Computed when first asked for, so that a listing works on hosts we couldn't reach.

        Raises InventoryError where an ``ansible_*`` variable is not what it should be.
        """
        return Connection(
            kind=_kind(self),
            address=_text(self, "ansible_host") or self.name,
            port=_port(self),
            user=_text(self, "ansible_user"),
            key_file=_key_file(self),
            ssh_args=(
                *_arguments(self, "ansible_ssh_common_args"),
                *_arguments(self, "ansible_ssh_extra_args"),
            ),
            python=_python(self),
        )


def _kind(host: Host) -> Literal["ssh", "local"]:
    name = "ansible_connection"
    value = _text(host, name) or "ssh"
    if value not in _KINDS:
        raise InventoryError(f"{host.where(name)}: expected ssh or local, got {value!r}")
    return _KINDS[value]


def _port(host: Host) -> int | None:
    name = "ansible_port"
    value = host.setting(name)
    if value is None:
        return None
    text = "" if isinstance(value, bool) else str(value)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise InventoryError(
            f"{host.where(name)}: expected a port from 1 to 65535, got {described(value)}"
        )
    return int(text)


def _key_file(host: Host) -> str | None:
    path = _text(host, "ansible_ssh_private_key_file")
    return str(Path(path).expanduser()) if path else None


def _python(host: Host) -> str | None:
    """None too for ``auto`` and its kin: they ask for discovery."""
    path = _text(host, "ansible_python_interpreter")
    return None if path is None or path.startswith("auto") else path


def _arguments(host: Host, name: str) -> list[str]:
    try:
        return shlex.split(_text(host, name) or "")
    except ValueError as error:
        raise InventoryError(f"{host.where(name)}: {str(error).lower()}") from error


def _text(host: Host, name: str) -> str | None:
    value = host.setting(name)
    if value is None or isinstance(value, str):
        return value or None
    raise InventoryError(f"{host.where(name)}: expected text, got {described(value)}")
