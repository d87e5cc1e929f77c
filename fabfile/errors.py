"""The whole tree of errors on one page, with the exit code of each.

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed; the state is known and was listed |
| 2 | what was typed or what stands in the inventory is wrong; nothing was touched |
| 3 | refused; nothing changed |
| 4 | done, but something is pending |
| 69 | a host or a service did not answer |
| 75 | somebody else holds the lock, or the fleet is frozen |
| 130 | interrupted |
"""

from __future__ import annotations

from inventories.errors import FabfleetError, InventoryError, UsageError


class Failed(FabfleetError):
    """A step failed. What state each host is in was listed."""


class Refused(FabfleetError):
    """Something speaks against it, and nothing was changed."""

    exit_code = 3


class Pending(FabfleetError):
    """It is done, but a part is left for later."""

    exit_code = 4


class Unavailable(FabfleetError):
    """A host or a service did not answer."""

    exit_code = 69


class LockHeld(FabfleetError):
    """Another run holds the lock, or a person froze the fleet."""

    exit_code = 75


class Interrupted(FabfleetError):
    """Ctrl-C."""

    exit_code = 130


__all__ = [
    "FabfleetError", "Failed", "Interrupted", "InventoryError", "LockHeld", "Pending", "Refused",
    "Unavailable", "UsageError",
]
