"""Waiting for a condition, with a deadline; never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from fabfile.lab.model import LabError

POLL_SECONDS = 0.05


def wait_until(
    condition: Callable[[], bool], *, seconds: float, otherwise: Callable[[], str]
) -> None:
    """Return once ``condition`` holds. Raises ``LabError`` with ``otherwise`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(otherwise())
        time.sleep(POLL_SECONDS)
