"""Settings: one mapping a role in the inventory, checked by that role's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from inventories.errors import InventoryError
from inventories.model import Host
from inventories.nearest import did_you_mean
from inventories.values import described

# pydantic's kinds of errors in the words of somebody who writes YAML.
EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
}


class Settings(BaseModel):
    """The base of every role's settings: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    is_reference: ClassVar[bool] = False  # to a secret


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
            f"{host.where(role)}: expected a mapping of settings, got {described(value)}"
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for each in error.errors():
            found.setdefault(_place(value, each["loc"], each["type"]), []).append(dict(each))
        lines = [_problem(host, role, model, path, alike) for path, alike in found.items()]
        raise InventoryError("\n".join(lines)) from None


def _place(value: object, location: Sequence[str | int], kind: str) -> tuple[str, ...]:
    """The key that is wrong, without what pydantic adds to tell the members of a union apart."""
    path: list[str] = []
    for part in location:
        inside = value if isinstance(value, Mapping) else {}
        if isinstance(value, list) and isinstance(part, int):
            inside = dict(enumerate(value))
        if part not in inside and kind != "missing":
            break
        path.append(str(part))
        value = inside.get(part)
    return tuple(path)


def _problem(
    host: Host, role: str, model: type[Settings], path: tuple[str, ...],
    errors: list[dict[str, Any]],
) -> str:
    where, error = host.where(role, *path), errors[0]
    if error["type"] == "extra_forbidden":
        known = _keys(model, path[:-1])
        hint = did_you_mean(path[-1], known)
        return f"{where}: unknown key.{hint} Known keys: {', '.join(sorted(known))}"
    if error["type"] == "missing":
        return f"{where}: missing; it has no default, so please set it"
    wanted = " or ".join(dict.fromkeys(map(_expected, errors))).replace(" or expected ", " or ")
    # Whoever writes a secret where its reference belongs must not read it again in a log.
    is_secret = "secrets" in path or _is_reference(model, path)
    got = "something else" if is_secret else described(error["input"])
    is_told = error["type"] == "value_error" and isinstance(error["input"], Mapping | list)
    return f"{where}: {wanted}" if is_told else f"{where}: {wanted}, got {got}"


def _expected(error: dict[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] not in EXPECTED:
        return f"expected {str(error['msg']).removeprefix('Input should be ')}"
    return "expected " + EXPECTED[error["type"]].format(**error.get("ctx", {}))


def _is_reference(model: type[BaseModel], path: Sequence[str]) -> bool:
    """Whether a reference to a secret belongs there."""
    try:
        return bool(getattr(_kind(model, path), "is_reference", False))
    except LookupError:  # a key or a depth that no model has
        return False


def _keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that may stand at ``path`` below ``model``, in mappings and lists of models too."""
    fields = _kind(model, path).model_fields
    return [field.alias or name for name, field in fields.items()]


def _kind(model: type[BaseModel], path: Sequence[str]) -> Any:
    kind: Any = model
    for part in path:
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        kind = kind.model_fields[part].annotation if is_model else get_args(kind)[-1]
        if get_origin(kind) in (Union, UnionType):
            kind = next(each for each in get_args(kind) if each is not NoneType)
    return kind
