"""Plans that wait for their confirmation: each can be confirmed once, in time, by its own button.

A button carries the offer's id and a code over everything that it means. Nothing else of a click is
believed, and no part of it is parsed: what runs is what was kept here when the plan was shown.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
from dataclasses import asdict, dataclass
from typing import Literal

End = Literal["confirmed", "cancelled", "expired"]
Purpose = Literal["confirm", "cancel"]
# Clicks that come too late are told so for a day.
KEPT = 86400


class Forged(Exception):
    """No button of ours, or not any more."""


@dataclass(frozen=True)
class Offer:
    """``task``: the words of ``fab`` that run; ``plan``: the digest of what was shown; ``message``
    has the buttons, and ``thread`` the progress; ``expires`` in seconds since the epoch."""

    id: str
    user: str
    channel: str
    message: str
    thread: str
    environment: str
    words: str
    task: tuple[str, ...]
    plan: str
    expires: float


def seal(key: bytes, purpose: Purpose, offer: Offer) -> str:
    """What the button carries."""
    meant = json.dumps([purpose, asdict(offer)], sort_keys=True).encode()
    return f"{offer.id}.{hmac.new(key, meant, hashlib.sha256).hexdigest()}"


class Offers:
    """Safe to use from several threads. The key is each process's own: buttons of an earlier one
    are nobody's."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key or secrets.token_bytes(32)
        self._guard = threading.Lock()
        self._open: dict[str, Offer] = {}
        self._ended: dict[str, tuple[End, str]] = {}

    def add(self, offer: Offer, now: float) -> None:
        with self._guard:
            for old in [each.id for each in self._open.values() if each.expires + KEPT < now]:
                del self._open[old]
                self._ended.pop(old, None)
            self._open[offer.id] = offer

    def button(self, purpose: Purpose, offer: Offer) -> str:
        return seal(self._key, purpose, offer)

    def of(self, purpose: Purpose, value: str) -> Offer:
        """Raises :class:`Forged`."""
        with self._guard:
            offer = self._open.get(value.partition(".")[0])
        # Compared as bytes, as text with other letters cannot be.
        if offer is None or not hmac.compare_digest(
            self.button(purpose, offer).encode(), value.encode("utf-8", "surrogatepass")
        ):
            raise Forged
        return offer

    def end(self, offer: Offer, how: End, user: str, now: float) -> tuple[End, str] | None:
        """None for the one who ended it so, in time; for all others how it ended, and by whom."""
        with self._guard:
            if offer.id in self._ended:
                return self._ended[offer.id]
            if now >= offer.expires:
                self._ended[offer.id] = ("expired", "")
                return self._ended[offer.id]
            self._ended[offer.id] = (how, user)
            return None


def new_id() -> str:
    return secrets.token_hex(8)
