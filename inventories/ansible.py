"""What only Ansible's own commands can read: scripts, plugins, INI, vaulted text.

The one place in this package that starts a process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypedDict, cast

from inventories.documents import NeedsAnsibleError
from inventories.draft import Draft
from inventories.errors import InventoryError
from inventories.paths import shown
from inventories.values import from_json_object


class CommandError(Exception):
    """A command of Ansible's is missing or failed; the message continues a sentence."""


class _ListedGroup(TypedDict, total=False):
    hosts: list[str]
    children: list[str]


def read(path: Path, need: NeedsAnsibleError) -> Draft:
    """The inventory at ``path`` as ``ansible-inventory --list`` gives it: variables resolved.

    ``need`` says which file forces this. Raises InventoryError.
    """
    try:
        listing = _run(["ansible-inventory", "-i", str(path), "--list"])
    except CommandError as error:
        raise InventoryError(f"{shown(need.file)}: {need.reason}: {error}") from error
    return _drafted(path, json.loads(listing, object_pairs_hook=from_json_object))


@lru_cache(maxsize=1024)
def decrypted(ciphertext: str) -> str:
    """The text inside a ``!vault`` value. Raises CommandError."""
    return _run(["ansible-vault", "decrypt", "--output", "-"], ciphertext)


def _run(arguments: Sequence[str], text: str = "") -> str:
    name = arguments[0]
    command = _found(name)
    if command is None:
        raise CommandError(
            f"reading it takes {name}, which is not installed; pip install ansible-core"
        )
    # Without this, a source that fails is a warning, and the inventory quietly lacks its hosts.
    strict = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}
    # The team's known_hosts lies beside the sources and is none.
    strict |= {"ANSIBLE_INVENTORY_IGNORE_REGEX": r"(^|/)known_hosts(\.|$)"}
    done = subprocess.run(
        [command, *arguments[1:]],
        input=text,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | strict,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{name} failed:\n{done.stderr.strip()}")
    return done.stdout


def _found(name: str) -> str | None:
    """On PATH, or beside the Python that runs us: an environment needn't be activated."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _drafted(path: Path, listing: Mapping[str, object]) -> Draft:
    draft = Draft()
    groups = cast(Mapping[str, _ListedGroup], listing)
    for name in _depth_first(groups, "all", set()):
        draft.add_group(name)
        listed = groups.get(name, {})
        for host in listed.get("hosts", []):
            draft.add_host(host, name, path)
        for child in listed.get("children", []):
            draft.add_group(child)
            draft.add_child(name, child)
    meta = cast(Mapping[str, Mapping[str, Mapping[str, object]]], listing["_meta"])
    for host, variables in meta["hostvars"].items():
        sourced = {name: (value, shown(path)) for name, value in variables.items()}
        draft.hosts[host].variables = sourced
    return draft


def _depth_first(groups: Mapping[str, _ListedGroup], top: str, seen: set[str]) -> Iterator[str]:
    if top in seen:
        return
    seen.add(top)
    yield top
    for child in groups.get(top, {}).get("children", []):
        yield from _depth_first(groups, child, seen)
