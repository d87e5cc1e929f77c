"""Settings: one mapping a role in the inventory, checked by that role's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from inventories.errors import InventoryError
from inventories.model import Host
from inventories.nearest import did_you_mean


class Settings(BaseModel):
    """The base of every role's settings: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


S = TypeVar("S", bound=Settings)


def read(model: type[S], host: Host, role: str) -> S:
    """The settings of ``role`` on ``host``.

    Raises :class:`InventoryError` with one line a problem, each starting with file and key.
    """
    value = host.setting(role)
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise InventoryError(
            f"{host.where(role)}: expected a mapping of settings, got {value!r}"
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_problem(host, role, model, dict(each)) for each in error.errors()]
        raise InventoryError("\n".join(lines)) from None


def _problem(host: Host, role: str, model: type[Settings], error: dict[str, Any]) -> str:
    path = [str(part) for part in error["loc"]]
    where = host.where(role, *path)
    if error["type"] == "extra_forbidden":
        known = _keys(model, path[:-1])
        hint = did_you_mean(path[-1], known)
        return f"{where}: unknown key.{hint} Known keys: {', '.join(sorted(known))}"
    if error["type"] == "missing":
        return f"{where}: missing; it has no default, so please set it"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = message if error["type"] == "value_error" else f"expected {message}"
    return f"{where}: {expected}, got {error['input']!r}"


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that may stand at ``path`` below ``model``."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return [field.alias or name for name, field in model.model_fields.items()]
