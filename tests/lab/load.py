"""Visitors of a site, who count everything that is not a whole, right answer."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

PATIENCE = 30.0
PAGE = "page"


@dataclass
class Load:
    """What visitors saw: releases, and the whole page of a maintenance as ``PAGE``. ``lost``:
    refused, reset, cut short, or any other answer."""

    answers: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def asked(self) -> int:
        return sum(self.answers.values()) + len(self.lost)

    def __str__(self) -> str:
        return (f"{self.asked} requests, {len(self.lost)} lost, slowest {self.slowest:.2f} s, "
                f"releases {dict(self.answers)}")


@dataclass(frozen=True)
class Visitor:
    """One who asks again and again; with ``keep`` on one connection as long as that is open."""

    path: str
    keep: bool
    pause: float = 0.0


def crowd(quick: int = 8, slow: int = 2) -> list[Visitor]:
    """Half of them keep their connection; ``slow`` ask for pages of two seconds."""
    return [*(Visitor("/version", number % 2 == 0) for number in range(quick)),
            *(Visitor("/slow?seconds=2", number % 2 == 0) for number in range(slow))]


@contextmanager
def visited(address: str, visitors: Sequence[Visitor]) -> Iterator[Load]:
    """All of them at once, until the block ends; whoever has asked then still gets an answer."""
    load, guard, over = Load(), threading.Lock(), threading.Event()

    def visit(visitor: Visitor) -> None:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        while not over.is_set():
            began = time.monotonic()
            try:
                release, said = _ask(connection, visitor), ""
            except (OSError, http.client.HTTPException) as error:
                release, said = "", f"{type(error).__name__}: {error}"
            with guard:
                load.slowest = max(load.slowest, time.monotonic() - began)
                if release:
                    load.answers[release] += 1
                else:
                    load.lost.append(f"{visitor.path} {'kept' if visitor.keep else 'new'}: {said}")
            if said or not visitor.keep:
                connection.close()  # the next request opens it anew
            over.wait(visitor.pause)
        connection.close()

    threads = [threading.Thread(target=visit, args=(each,), daemon=True) for each in visitors]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE + 5)


def _ask(connection: http.client.HTTPConnection, visitor: Visitor) -> str:
    """The release that answered, or ``PAGE``; raises for anything that is no whole answer."""
    headers = {} if visitor.keep else {"Connection": "close"}
    connection.request("GET", visitor.path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status == 503 and answer.headers.get("X-Maintenance"):
        if not body.endswith("</html>") or answer.headers["Cache-Control"] != "no-store":
            raise http.client.HTTPException(f"a page that is not whole: {body[-80:]}")
        return PAGE
    if answer.status != 200:
        raise http.client.HTTPException(f"status {answer.status}")
    if not body.strip():
        raise http.client.HTTPException("an empty body")
    return body.strip()
