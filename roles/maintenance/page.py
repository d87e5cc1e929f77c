"""The page that visitors get meanwhile: one file, with nothing to load."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from inventories.errors import UsageError
from roles.maintenance.one_line import one_line
from roles.templates import ROLES

if TYPE_CHECKING:
    from roles.maintenance import MaintenanceSettings

# HAProxy takes a value of its map by one line of its command socket, whose buffer holds 16 kB.
LONGEST = 12_000
# Seconds in Retry-After, of which visitors are told the longest that does not go beyond the
# expected end, as it is when the site closes. nginx looks for each of them at each request, so
# these are few.
LADDER = (60, 120, 300, 600, 1800, 3600)


def retry_after(left: float) -> int:
    """The header of that name, ``left`` seconds before the expected end. Not the end itself: a
    maintenance that takes longer would go on telling a moment that is over."""
    return max((each for each in LADDER if each <= left), default=LADDER[0])


def render_page(settings: MaintenanceSettings, reason: str, until: float) -> tuple[str, str]:
    """(HTML, JSON). Everything that comes from somebody's keyboard is escaped.

    Raises :class:`UsageError`, which starts with the setting or the option that is wrong.
    """
    _check_letters(settings, reason)
    html, data = _answers(settings, reason, until)
    own = f"maintenance.template: {_template(settings)}" if settings.template else ""
    for what, text, origin in (("a page", html, own or "maintenance.text"),
                               ("an answer in JSON", data, "maintenance.text")):
        over = _size(text) - LONGEST
        if over > 0:
            fits = all(_size(each) <= LONGEST for each in _answers(settings, "", until))
            raise UsageError(f"{'--reason' if fits else origin}: {over} bytes too long: {what} may "
                             f"have {LONGEST}, as balancers keep it in memory")
    return html, data


def _answers(settings: MaintenanceSettings, reason: str, until: float) -> tuple[str, str]:
    from jinja2 import Environment, StrictUndefined, TemplateError

    path = _template(settings)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)
    told = {
        "title": settings.title, "text": settings.text, "contact": settings.contact,
        "language": settings.language, "reason": reason, "retry": settings.retry_after,
        "until": _moment(until).isoformat() if until else "",
        "until_text": f"{_moment(until):%d %B %Y, %H:%M} UTC" if until else "",
    }
    try:
        html = environment.from_string(path.read_text(encoding="utf-8")).render(**told)
    except OSError as error:
        raise UsageError(f"maintenance.template: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"maintenance.template: {path}: expected a file in UTF-8, which byte "
                         f"{error.start} is not; save it so") from None
    except TemplateError as error:
        raise UsageError(f"maintenance.template: {path}: {error}") from None
    if settings.driver == "haproxy":
        html = one_line(html)
    data = json.dumps({
        "error": "maintenance", "title": settings.title, "detail": settings.text,
        "reason": reason, "until": told["until"] or None}, ensure_ascii=False)
    return html, data


def _template(settings: MaintenanceSettings) -> Path:
    return Path(settings.template or f"{ROLES}/maintenance/templates/page.html.j2").expanduser()


def _check_letters(settings: MaintenanceSettings, reason: str) -> None:
    """What a terminal that is not UTF-8 makes of letters cannot be sent to anybody."""
    told = {"--reason": reason, "maintenance.title": settings.title,
            "maintenance.text": settings.text, "maintenance.contact": settings.contact,
            "maintenance.language": settings.language}
    for where, text in told.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{where}: expected text in UTF-8, got {text!r}; type it where "
                             f"the locale is UTF-8, as with LANG=C.UTF-8") from None


def _size(text: str) -> int:
    return len(text.encode())


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds), UTC)
