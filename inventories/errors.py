"""The root of Fabfleet's errors: what a person reads, and the exit code a script sees."""

from __future__ import annotations


class FabfleetError(Exception):
    """Something a person has to know. ``str()`` is the whole message, starting with where.

    ``exit_code`` is what the process ends with; ``fabfile/errors.py`` shows the whole tree.
    ``announced``: whom the inventory names were told of it already.
    """

    exit_code = 1
    announced = False


class UsageError(FabfleetError):
    """What was typed, or what stands in the inventory, is wrong. Nothing was touched."""

    exit_code = 2


class InventoryError(UsageError):
    """A file below ``inventories/`` is wrong; the message starts with the file and the key."""
