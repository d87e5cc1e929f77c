"""Moments as a person types them."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fabfile.errors import UsageError
from roles.maintenance.windows import in_zone, seconds_in


def moment(option: str, text: str) -> tuple[float, str]:
    """(seconds since the epoch, zone) of ``90m``, ``2h`` or ``2026-12-01 02:00 Europe/London``;
    the zone has to be said, as which one is meant is no matter of course.

    Raises :class:`UsageError`, which starts with the option; also for a moment that is over, and
    for a local time that does not exist or exists twice.
    """
    with suppress(ValueError):
        return time.time() + seconds_in(text), "UTC"
    where = f"--{option}={text}"
    said = re.fullmatch(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d)(?: (\S+))?", text)
    if not said:
        raise UsageError(f"{where}: expected 90m, 2h or a moment such as "
                         f"\"2026-12-01 02:00 Europe/London\"")
    name = said[2]
    if not name:
        raise UsageError(f"{where}: in which time zone? \"{text} UTC\" or "
                         f"\"{text} Europe/London\"")
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise UsageError(f"{where}: {name}: no such time zone; expected one such as Europe/London"
                         ) from None
    try:
        naive = datetime.fromisoformat(said[1])
    except ValueError as error:
        raise UsageError(f"{where}: no such moment: {error}") from None
    found = in_zone(naive, zone, where)
    if found < time.time():
        raise UsageError(f"{where}: is over")
    return found, name


def shown(seconds: float, zone: str) -> str:
    return f"{datetime.fromtimestamp(seconds, ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"
