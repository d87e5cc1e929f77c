"""Reads an environment of ``inventories/``: Ansible's YAML layout, and all else through Ansible."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from inventories import ansible
from inventories.documents import NeedsAnsibleError, read
from inventories.draft import Draft, Variables
from inventories.errors import InventoryError, UsageError
from inventories.model import Inventory
from inventories.nearest import did_you_mean
from inventories.paths import shown
from inventories.sources import read_source
from inventories.values import described

_YAML = (".yml", ".yaml", ".json")

# Ansible's defaults for what a folder holds beside inventory sources; and the team's known_hosts.
_NO_SOURCE = re.compile(
    r"^\.|^(host_vars|group_vars|vars_plugins|__pycache__)$|^known_hosts(\.|$)"
    r"|(\.pyc|\.pyo|\.swp|\.bak|~|\.rpm|\.md|\.txt|\.rst|\.orig|\.cfg|\.retry)$"
)


def load(environment: str, root: Path) -> Inventory:
    """The inventory of ``environment``, a folder or file below ``root``.

    Raises UsageError for an unknown environment, InventoryError for a broken one.
    """
    path = _path_of(environment, root)
    try:
        return _read_plainly(environment, path)
    except NeedsAnsibleError as need:
        draft = ansible.read(path, need)
        return draft.finished(environment, path, path, _no_variables)


def environments(root: Path) -> tuple[str, ...]:
    """The names below ``root`` that are inventories, sorted."""
    return tuple(_environments(root))


def _path_of(environment: str, root: Path) -> Path:
    known = _environments(root)
    if environment in known:
        return known[environment]
    folder = f"{shown(root)}/"
    if not known:
        raise UsageError(f"--env={environment}: {folder} holds no environments yet")
    there_are = f"there are: {', '.join(known)}"
    if not environment:
        raise UsageError(f"--env: names no environment of {folder}; {there_are}.")
    raise UsageError(
        f"--env={environment}: no such environment in {folder}; {there_are}."
        f"{did_you_mean(environment, known)}"
    )


def _environments(root: Path) -> dict[str, Path]:
    """A folder goes by its name, a YAML file without its suffix."""
    entries = _candidates(root) if root.is_dir() else []
    files = {_file_environment(entry): entry for entry in entries if _is_file_environment(entry)}
    folders = {entry.name: entry for entry in entries if entry.is_dir() and any(_sources(entry))}
    return dict(sorted((files | folders).items()))


def _file_environment(file: Path) -> str:
    return file.stem if file.suffix in _YAML else file.name


def _is_file_environment(entry: Path) -> bool:
    known = entry.suffix in ("", *_YAML, ".ini", ".toml")
    return entry.is_file() and known


def _read_plainly(environment: str, path: Path) -> Inventory:
    sources = list(_sources(path))
    draft = Draft()
    for source in sources:
        read_source(source, draft)
    folder = path if path.is_dir() else path.parent
    main = next((source for source in sources if source.stem == "hosts"), sources[0])
    return draft.finished(environment, path, main, partial(_variables_of, folder))


def _sources(path: Path) -> Iterator[Path]:
    """The inventory files of an environment, in the order in which Ansible reads them."""
    if not path.is_dir():
        yield path
        return
    for entry in _candidates(path):
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.suffix != ".py" or os.access(entry, os.X_OK):
            yield entry


def _candidates(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if not _NO_SOURCE.search(entry.name)]


def _no_variables(_kind: Literal["group_vars", "host_vars"], _name: str) -> Variables:
    """For an inventory that comes with its variables resolved."""
    return {}


def _variables_of(folder: Path, kind: Literal["group_vars", "host_vars"], name: str) -> Variables:
    variables: Variables = {}
    for file in _variable_files(folder / kind, name):
        variables |= {key: (value, shown(file)) for key, value in _read_variables(file).items()}
    return variables


def _read_variables(file: Path) -> dict[str, object]:
    content = read(file) or {}
    if not isinstance(content, dict):
        raise InventoryError(
            f"{shown(file)}: expected a mapping of variables, got {described(content)}"
        )
    for name in content:
        if not isinstance(name, str):
            raise InventoryError(
                f"{shown(file)}: expected a variable's name, got {described(name)}"
            )
    return content


def _variable_files(folder: Path, name: str) -> Iterator[Path]:
    """The first that exists of ``NAME``, ``NAME.yml`` and so on; a folder with all files in it."""
    if name.startswith("/"):  # a chroot's name, and the way out of the folder
        return
    for path in (folder / f"{name}{suffix}" for suffix in ("", *_YAML)):
        if path.is_dir():
            yield from _files_below(path)
            return
        if path.exists():
            yield path
            return


def _files_below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name.endswith("~"):
            continue
        if entry.is_dir() and not entry.suffix:
            yield from _files_below(entry)
        elif entry.is_file() and entry.suffix in ("", *_YAML):
            yield entry
