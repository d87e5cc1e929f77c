"""Templates of files on hosts; a name that is not defined is an error, never an empty value."""

from __future__ import annotations

from pathlib import Path

ROLES = Path(__file__).parent


def render(template: str, /, **values: object) -> str:
    """The text of ``roles/<template>`` with ``values`` put in."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ROLES), undefined=StrictUndefined, autoescape=False,
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
