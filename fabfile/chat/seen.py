"""What was delivered already: the same request must not be answered twice."""

from __future__ import annotations

import threading

# Slack's deliveries are younger, and so are signatures that are still good.
OLDEST = 300
REMEMBERED = 3600


class Seen:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._when: dict[str, float] = {}

    def is_new(self, name: str, now: float) -> bool:
        """Whether it comes for the first time; from now on it does not."""
        with self._guard:
            # A dict keeps its order, so the oldest stand in front.
            while self._when and next(iter(self._when.values())) < now - REMEMBERED:
                del self._when[next(iter(self._when))]
            if name in self._when:
                return False
            self._when[name] = now
            return True
