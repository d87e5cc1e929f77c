"""Which roles there are: each folder of ``roles/`` with a ``role``, in the order of ``after``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from inventories.errors import UsageError
from roles.role import Role

HERE = Path(__file__).parent


@cache
def roles() -> tuple[Role, ...]:
    """Raises :class:`UsageError` when roles wait for each other or for one that is not there."""
    found: dict[str, Role] = {}
    for module in sorted(pkgutil.iter_modules([str(HERE)]), key=lambda each: each.name):
        if module.ispkg and module.name != "onhost":
            role = getattr(importlib.import_module(f"roles.{module.name}"), "role", None)
            if isinstance(role, Role):
                found[role.name] = role
    return tuple(found[name] for name in _ordered(found))


def _ordered(found: dict[str, Role]) -> list[str]:
    for name, role in found.items():
        for before in role.after:
            if before not in found:
                raise UsageError(f"roles/{name}: comes after {before}, but there is no such role")
    sorter = TopologicalSorter({name: sorted(found[name].after) for name in sorted(found)})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise UsageError(f"roles/: roles wait for each other: {circle}") from None
