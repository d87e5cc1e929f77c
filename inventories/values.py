"""Values that are more than YAML: text never to be rendered, text still encrypted; and their JSON.

The JSON is Ansible's own (``__ansible_unsafe``, ``__ansible_vault``), in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date


class Unsafe(str):
    """Text under ``!unsafe``: its braces are braces, it is never rendered."""


class Vaulted(str):
    """Text under ``!vault``, still encrypted; rendering it asks ``ansible-vault``."""


_MARKERS: Mapping[str, type[Unsafe | Vaulted]] = {
    "__ansible_unsafe": Unsafe,
    "__ansible_vault": Vaulted,
}


def as_json(value: object) -> object:
    """``value`` as ``ansible-inventory --list`` writes it: markers, ISO dates, sets as lists."""
    for marker, kind in _MARKERS.items():
        if isinstance(value, kind):
            return {marker: str(value)}
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [as_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def from_json_object(pairs: Sequence[tuple[str, object]]) -> object:
    """An ``object_pairs_hook`` for ``json.loads`` that understands the markers.

    Raises ValueError for a key that stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    if len(found) == 1:
        [(key, value)] = found.items()
        if key in _MARKERS and isinstance(value, str):
            return _MARKERS[key](value)
    return found


def described(value: object) -> str:
    """What stands there, for the end of ``expected ..., got ...``; never a container's content."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set):
        return "a list"
    return repr(value.isoformat() if isinstance(value, date) else value)
