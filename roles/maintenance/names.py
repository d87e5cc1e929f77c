"""By which names a site is asked for, where it shares a server with others."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from roles.maintenance.address import is_one


def names_of(names: Sequence[str], urls: Sequence[str]) -> tuple[str, ...]:
    """``names`` and the host of the site's own address, the first of ``urls``, by which we ask for
    it; where there are none, the hosts of all ``urls``. () where these are addresses only, which
    tell no sites apart."""
    known = [urlsplit(url).hostname for url in urls if is_one(url)]
    hosts = [_ascii(host) for host in known if host]
    if not names and all(map(_is_address, hosts)):
        return ()
    found = [*hosts[:1], *(each.lower() for each in names)] if names else hosts
    return tuple(dict.fromkeys(found))


def _ascii(host: str) -> str:
    """As browsers send it."""
    return host if host.isascii() else host.encode("idna").decode()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
