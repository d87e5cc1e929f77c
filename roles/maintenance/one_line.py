"""HTML in one line, which means the same: HAProxy's maps hold one line for each value."""

from __future__ import annotations

import re

# Ends a line for JavaScript, and so a comment or a statement, but for nobody else.
LINE_SEPARATOR = "\u2028"
COMMENT = r"<!--.*?-->"
ELEMENT = r"(<(script|pre|textarea)\b[^>]*>)(.*?)(</\2\s*>)"
# In scripts of other types, as JSON, line ends mean nothing.
DATA = re.compile(
    r"(?<![\w-])type\s*=\s*[\"']?(?!module\b|[\w/-]*(?:java|ecma)script\b)\w", re.IGNORECASE)


def one_line(html: str) -> str:
    """Line ends become spaces, except for where they count."""
    kept = re.sub(f"{COMMENT}|{ELEMENT}", _kept, html, flags=re.DOTALL | re.IGNORECASE)
    return re.sub(r"\s*\n\s*", " ", kept).strip()


def _kept(found: re.Match[str]) -> str:
    opening, name, content, closing = found.groups()
    if not name or (name.lower() == "script" and DATA.search(opening)):
        return found[0]
    mark = LINE_SEPARATOR if name.lower() == "script" else "&#10;"
    return opening + content.replace("\n", mark) + closing
