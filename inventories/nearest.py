"""The word that was probably meant, for errors about a word that doesn't exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``word``, or None when none is close."""
    matches = get_close_matches(word, list(candidates), n=1)
    return matches[0] if matches else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`` Did you mean prod?`` with its leading space, to end a message; or nothing."""
    match = nearest(word, candidates)
    return f" Did you mean {match}?" if match else ""
