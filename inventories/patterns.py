"""The host names behind an inventory key: ``web[01:20]``, ``db[a:c].eu``, ``proxy:2222``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from string import ascii_letters

_WITH_PORT = re.compile(
    r"(?:\[(?P<bracketed>.+)\]|(?P<bare>(?:[^:\[\]]|\[[^\]]*\])*)):(?P<port>[0-9]+)"
)
_RANGE = re.compile(r"\[([^\]]*)\]")
_LABEL = r"(?:\w|\[[^\]]*\])(?:[\w-]|\[[^\]]*\])*(?<![_-])"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def expand(pattern: str) -> tuple[list[str], int | None]:
    """The names, and the port if the pattern ends in one. Raises ValueError."""
    names, port = _split_port(pattern)
    return list(_expand_ranges(names)), port


def is_address(name: str) -> bool:
    """Whether ``name`` is an IPv4 or IPv6 address rather than a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _split_port(pattern: str) -> tuple[str, int | None]:
    found = _WITH_PORT.fullmatch(pattern)
    if found is None:
        return pattern, None
    host = found["bracketed"] or found["bare"]
    if not (_HOST_NAME.fullmatch(host) or is_address(host)):
        return pattern, None
    return host, int(found["port"])


def _expand_ranges(pattern: str) -> Iterator[str]:
    if "[" not in pattern:
        yield pattern
        return
    found = _RANGE.search(pattern)
    if found is None:
        raise ValueError("a range has no closing bracket")
    for item in _range_items(found[1]):
        yield from _expand_ranges(pattern[: found.start()] + item + pattern[found.end() :])


def _range_items(text: str) -> list[str]:
    """``01:20`` or ``a:f:2`` as its items: zero-padded like its begin, the end included."""
    begin, end, step = _bounds(text)
    if begin in ascii_letters and end in ascii_letters:
        first, last = ascii_letters.index(begin), ascii_letters.index(end)
        items = list(ascii_letters[first : last + 1 : step])
    else:
        width = _padding(text, begin, end)
        items = [str(number).zfill(width) for number in range(int(begin), int(end) + 1, step)]
    if not items:
        raise ValueError(f"range [{text}] ends before it begins")
    return items


def _bounds(text: str) -> tuple[str, str, int]:
    begin, _, rest = text.partition(":")
    end, _, step = rest.partition(":")
    begin, step = begin or "0", step or "1"
    letters = len(begin) == len(end) == 1 and begin.isalpha() and end.isalpha()
    numbers = begin.isdecimal() and end.isdecimal()
    if not (letters or numbers) or not step.isdecimal() or int(step) == 0:
        raise ValueError(f"range [{text}] is not [begin:end] or [begin:end:step]")
    return begin, end, int(step)


def _padding(text: str, begin: str, end: str) -> int:
    if len(begin) == 1 or not begin.startswith("0"):
        return 0
    if len(begin) != len(end):
        raise ValueError(f"range [{text}] pads its begin and its end differently")
    return len(begin)
