"""All hosts of an environment behind one transport; the kind of connection is chosen per host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from fabfile.engine.local import LocalTransport
from fabfile.engine.outcome import Outcome
from fabfile.engine.transport import Call, Stream, Sync, Transport
from inventories.model import Host

if TYPE_CHECKING:
    from fabfile.engine.ssh import SshTransport

# Hosts that are worked on at the same time.
FORKS = 32

T = TypeVar("T")


class FleetTransport:
    """Local hosts and SSH hosts alike. Paramiko is only loaded for a fleet that needs it."""

    def __init__(self, known_hosts: tuple[str, ...] = (), environment: str = "") -> None:
        self.known_hosts, self.environment = known_hosts, environment
        self._local = LocalTransport()
        self._ssh: SshTransport | None = None
        self._guard = threading.Lock()

    def of(self, host: Host) -> Transport:
        if host.connection.kind == "local":
            return self._local
        # All hosts are first asked at once, and they have to share one transport.
        with self._guard:
            if self._ssh is None:
                from fabfile.engine.ssh import SshTransport

                self._ssh = SshTransport(self.known_hosts, self.environment)
            return self._ssh

    def run(self, host: Host, call: Call) -> Outcome:
        return self.of(host).run(host, call)

    def sync(self, host: Host, sync: Sync) -> Outcome:
        return self.of(host).sync(host, sync)

    def stream(self, host: Host, line: str, stdin: bytes) -> Stream:
        return self.of(host).stream(host, line, stdin)

    def close(self) -> None:
        if self._ssh is not None:
            self._ssh.close()


def everywhere(hosts: Iterable[Host], act: Callable[[Host], T], forks: int = FORKS) -> dict[str, T]:
    """``act`` on all hosts at once, at most ``forks`` at a time; answers in the hosts' order."""
    chosen = list(hosts)
    if not chosen:
        return {}
    with ThreadPoolExecutor(min(forks, len(chosen))) as pool:
        return dict(zip((host.name for host in chosen), pool.map(act, chosen), strict=True))
