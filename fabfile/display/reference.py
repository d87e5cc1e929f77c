"""The reference of all settings, drawn from the models themselves: ``docs/settings.md``.

    python -m fabfile.display.reference > docs/settings.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from roles.registry import roles

HEAD = """\
# Settings

Each role has one mapping of this name among a host's variables (`group_vars/`, `host_vars/`,
`hosts.yml`), resolved as in Ansible; a value may hold Jinja templates. This page is made from the
models: `python -m fabfile.display.reference > docs/settings.md`.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([HEAD, *(line for role in roles() for line in _role(role))]) + "\n"


def _role(role: Any) -> Iterator[str]:
    if not role.settings.model_fields:
        return
    yield f"## {role.name}"
    yield ""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    yield from _rows(role.settings, "")
    yield ""


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        default = "required" if field.is_required() else f"`{_shown(field.default)}`"
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        kind = _kind(field.annotation).replace("|", "\\|")
        yield f"| `{prefix}{name}` | {kind} | {'' if inner else default} | {meaning} |"
        if inner is not None:
            yield from _rows(inner, f"{prefix}{_path(name, field.annotation)}.")


def _model(annotation: Any) -> type[BaseModel] | None:
    """The settings inside a field: its own, or those of a mapping's or list's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for each in get_args(annotation):
        found = _model(each)
        if found is not None:
            return found
    return None


def _path(name: str, annotation: Any) -> str:
    return name if isinstance(annotation, type) else f"{name}.*"


def _kind(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if _model(annotation) is not None:
        return "mapping"
    return text.replace("typing.", "").replace("NoneType", "None")


def _shown(default: Any) -> str:
    return "null" if default is None else str(default).lower() if default in (True, False) else str(
        default
    )


if __name__ == "__main__":
    print(page(), end="")
