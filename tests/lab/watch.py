"""Every host of a fleet, asked from outside all the while."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.lab.fleet import Fleet

EVERY = 0.05
PATIENCE = 2.0


@dataclass(frozen=True)
class Sample:
    """What one host answered, and when (seconds since the epoch, as in journals); ``release`` is
    "" where it was down."""

    began: float
    ended: float
    release: str


@dataclass
class Watch:
    """Samples of every host, each taken by a thread of its own."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def outages(self, host: str) -> list[tuple[float, float]]:
        """From the first to the last of the samples in a row that found the host down."""
        found: list[tuple[float, float]] = []
        down = False
        for sample in self.samples[host]:
            if sample.release:
                down = False
            elif down:
                found[-1] = (found[-1][0], sample.began)
            else:
                found.append((sample.began, sample.began))
                down = True
        return found

    def down_at_once(self) -> list[tuple[str, str]]:
        """Pairs of hosts that were down at the same moment."""
        outages = [(host, *outage) for host in self.samples for outage in self.outages(host)]
        return [(one, other) for one, began, ended in outages for other, start, end in outages
                if one < other and began <= end and start <= ended]

    def first_seen(self, host: str, release: str) -> float:
        return next(each.began for each in self.samples[host] if each.release == release)


@contextmanager
def watched(fleet: Fleet) -> Iterator[Watch]:
    """Ask every host's own server every 50 ms, all at once."""
    watch, stop = Watch({host: [] for host in fleet.web}), threading.Event()

    def sample(host: str) -> None:
        while not stop.is_set():
            began = time.time()
            release = ask(fleet.address[host])
            watch.samples[host].append(Sample(began, time.time(), release))
            stop.wait(max(0.0, began + EVERY - time.time()))

    threads = [threading.Thread(target=sample, args=(host,), daemon=True) for host in fleet.web]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def ask(address: str) -> str:
    """The release in a good answer of ``/version``; "" for any other, and for none."""
    connection = http.client.HTTPConnection(address, 8000, timeout=PATIENCE)
    try:
        connection.request("GET", "/version", headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.read().decode().strip() if answer.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
