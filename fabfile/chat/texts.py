"""What is said in the chat. Values in, text out.

Slack's own signs are escaped in all that a program printed: `&`, `<` and `>`, and what would end a
block of code. Its limits: 3000 signs for a section, 4000 for a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from fabfile import errors
from fabfile.engine.children import GONE

LONGEST = 2400
LINES = 14


def escape(text: str) -> str:
    for sign, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, escaped)
    return text


def tail(output: str, hidden: Iterable[str] = (), lines: int = LINES) -> str:
    """The last lines as a block of code, and how many there are before them; nothing for nothing.
    ``hidden`` are secrets."""
    whole = _lines(output, hidden)
    kept = whole[-lines:]
    while len("\n".join(map(_shown, kept))) > LONGEST:
        kept = kept[1:]
    gone = len(whole) - len(kept)
    left = [f"({gone} line{'' if gone == 1 else 's'} more above)"] if gone else []
    return _block([*left, *kept]) if kept else ""


def blocks(output: str, hidden: Iterable[str] = ()) -> list[str]:
    """All of it, as blocks of code, each of which one message can hold."""
    found: list[list[str]] = []
    for line in _lines(output, hidden):
        if found and len("\n".join(map(_shown, [*found[-1], line]))) <= LONGEST:
            found[-1].append(line)
        else:
            found.append([line])
    return list(map(_block, found))


def _lines(output: str, hidden: Iterable[str]) -> list[str]:
    """What is not empty; the longest lines in pieces, cut before anything is escaped, so that no
    escape is cut in two."""
    for secret in hidden:
        output = output.replace(secret, "***") if secret else output
    clean = "".join(sign for sign in output if sign == "\n" or sign.isprintable())
    piece = LONGEST // 5
    return [line[start:start + piece] for line in clean.splitlines() if line.strip()
            for start in range(0, len(line), piece)]


def _block(lines: Iterable[str]) -> str:
    return "```\n" + "\n".join(map(_shown, lines)) + "\n```"


def _shown(line: str) -> str:
    return escape(line).replace("`", "'")


def meaning(status: int) -> str:
    """What an exit status says, in the words of its documentation."""
    if status == GONE:
        return "it was cut off, and nobody knows how far it came"
    table = re.findall(r"^\| (\d+) \| (.+) \|$", errors.__doc__ or "", re.MULTILINE)
    known: dict[str, str] = dict(table)
    return known.get(str(status), "an end that nobody foresaw")


def following(output: str, status: int, environment: str) -> str:
    """The command that goes on, as the run itself says, or where to look."""
    said = re.findall(r"^\s*next(?:, [^:]*)?: (fab .+)$", output, re.MULTILINE)
    if status == 0:
        return ""
    return said[-1] if said else f"fab status --env={environment}"


def code(text: str) -> str:
    return f"`{_shown(text)}`"


def until(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S} UTC"


def joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
