"""Addresses at which a site is asked what visitors get."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_one(url: str) -> bool:
    try:
        said = urlsplit(url)
        (said.hostname or "").encode("idna")
        return said.scheme in ("http", "https") and bool(said.hostname) and said.port != 0
    except ValueError:
        return False


def filled(ask: str, address: str) -> str:
    """``ask`` for one host. IPv6 has to stand in brackets and nothing else may, whoever wrote them.
    """
    bare = address.strip("[]")
    written = f"[{bare}]" if ":" in bare else bare
    return ask.replace("[{address}]", "{address}").replace("{address}", written)
