"""One inventory file into a draft: groups, hosts, and variables with the place they came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from inventories.documents import NeedsAnsibleError, read
from inventories.draft import Draft, GroupDraft, Variables
from inventories.errors import InventoryError
from inventories.nearest import did_you_mean
from inventories.paths import shown
from inventories.patterns import expand
from inventories.values import described

_YAML = ("", ".yml", ".yaml", ".json")
_SECTIONS = ("vars", "hosts", "children")


def read_source(file: Path, draft: Draft) -> None:
    """Adds what the file says. Raises InventoryError, or NeedsAnsibleError where it isn't YAML."""
    if _is_script(file):
        raise NeedsAnsibleError(file, "is an executable script")
    if file.suffix not in _YAML:
        raise NeedsAnsibleError(file, "is no YAML")
    content = _content(file)
    if content.get("plugin"):
        raise NeedsAnsibleError(file, f"configures the plugin {content['plugin']}")
    source = _Source(file, draft)
    for name, group in content.items():
        source.add_group(name, group)


def _is_script(file: Path) -> bool:
    """Ansible tries to run all that may be run, and reads it if that fails: so does a shebang."""
    if not os.access(file, os.X_OK):
        return False
    with file.open("rb") as opened:
        return opened.read(2) == b"#!" or file.suffix not in _YAML


def _content(file: Path) -> Mapping[object, object]:
    """The file's groups by name; only a file without suffix may turn out to be an INI file."""
    try:
        content = read(file) or {}
    except InventoryError:
        if file.suffix:
            raise
        content = None
    if isinstance(content, dict):
        return content
    if file.suffix:
        raise InventoryError(
            f"{shown(file)}: expected a mapping of groups, got {described(content)}"
        )
    raise NeedsAnsibleError(file, "is an INI file")


class _Source:
    """A file that is being read into a draft. A place is the keys that lead to something."""

    def __init__(self, file: Path, draft: Draft) -> None:
        self.file = file
        self.draft = draft

    def add_group(self, name: object, content: object) -> None:
        """Adds a group at the top of the file with all below it."""
        group = self._group_named((), name)
        self._fill(group, (group.name,), content)

    def _group_named(self, place: tuple[str, ...], name: object) -> GroupDraft:
        if not isinstance(name, str) or not name:
            raise self._error(place, f"expected a group's name, got {described(name)}")
        return self.draft.add_group(name)

    def _fill(self, group: GroupDraft, place: tuple[str, ...], content: object) -> None:
        for key, section in self._mapping(place, content, "hosts, vars or children").items():
            self._add_section(place, group, key, section)

    def _add_section(
        self, place: tuple[str, ...], group: GroupDraft, key: object, section: object
    ) -> None:
        here = (*place, str(key))
        match key:
            case "vars":
                self._add_group_variables(here, group, section)
            case "hosts":
                for pattern, variables in self._names(here, section).items():
                    self._add_hosts(here, group, pattern, variables)
            case "children":
                for child, content in self._names(here, section).items():
                    self._add_child(here, group.name, child, content)
            case _:
                hint = did_you_mean(str(key), _SECTIONS)
                raise self._error(here, f"unknown key; a group has hosts, vars, children.{hint}")

    def _add_group_variables(
        self, place: tuple[str, ...], group: GroupDraft, section: object
    ) -> None:
        variables = self._variables(place, section)
        priority = variables.pop("ansible_group_priority", None)
        if priority is not None:
            group.priority = self._priority((*place, "ansible_group_priority"), priority[0])
        group.variables |= variables

    def _priority(self, place: tuple[str, ...], value: object) -> int:
        try:
            return int(str(value))
        except ValueError:
            raise self._error(place, f"expected a number, got {described(value)}") from None

    def _add_hosts(
        self, place: tuple[str, ...], group: GroupDraft, pattern: object, content: object
    ) -> None:
        if not isinstance(pattern, str) or not pattern:
            raise self._error(place, f"expected a host's name, got {described(pattern)}")
        here = (*place, pattern)
        variables = self._variables(here, content)
        try:
            names, port = expand(pattern)
        except ValueError as error:
            raise self._error(here, str(error)) from error
        for name in names:
            is_new = name not in self.draft.hosts
            host = self.draft.add_host(name, group.name, self.file)
            if port and is_new:
                host.variables["ansible_port"] = (port, self._at(here))
            self.draft.variables_named(name).update(variables)

    def _add_child(
        self, place: tuple[str, ...], parent: str, name: object, content: object
    ) -> None:
        child = self._group_named(place, name)
        try:
            self.draft.add_child(parent, child.name)
        except ValueError as error:
            raise self._error((*place, child.name), str(error)) from error
        self._fill(child, (*place, child.name), content)

    def _variables(self, place: tuple[str, ...], content: object) -> Variables:
        """Variable names with values and origin."""
        variables: Variables = {}
        for name, value in self._mapping(place, content, "variables").items():
            if not isinstance(name, str):
                raise self._error(place, f"expected a variable's name, got {described(name)}")
            variables[name] = (value, self._at(place))
        return variables

    def _names(self, place: tuple[str, ...], section: object) -> Mapping[object, object]:
        """Like Ansible, takes a single name that lacks its colon."""
        if isinstance(section, str):
            return {section: None}
        return self._mapping(place, section, "names")

    def _mapping(
        self, place: tuple[str, ...], content: object, what: str
    ) -> Mapping[object, object]:
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise self._error(place, f"expected a mapping of {what}, got {described(content)}")
        return content

    def _at(self, place: tuple[str, ...]) -> str:
        return f"{shown(self.file)}: {'.'.join(place)}" if place else shown(self.file)

    def _error(self, place: tuple[str, ...], problem: str) -> InventoryError:
        return InventoryError(f"{self._at(place)}: {problem}")
