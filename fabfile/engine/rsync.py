"""rsync over a connection that is already open.

rsync wants to start a remote shell itself; what it starts is ``rsync_bridge.py``, which hands its
standard streams to us over a UNIX socket, and we join them to a channel of the host's one SSH
connection. So rsync reaches the same machine, as the same user, by the same rules, with no
second login.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Protocol

from fabfile.engine.outcome import Kind, Outcome, of_exit
from fabfile.engine.transport import ConnectionBroken, Sync

BRIDGE = Path(__file__).with_name("rsync_bridge.py")
# Content decides, not times: a file of the same size and time with other content must arrive, and
# equal content must become a hard link whatever its time.
OPTIONS = ("-rlp", "--checksum", "--delete", "--delete-excluded", "--force", "--omit-dir-times")


class Pipe(Protocol):
    """Bytes to and from a command on a host. Raises :class:`ConnectionBroken`."""

    def read(self) -> bytes: ...
    def write(self, block: bytes) -> None: ...
    def end_of_input(self) -> None: ...
    def finish(self) -> tuple[int | None, str]: ...
    def abort(self) -> None: ...


def arguments(sync: Sync) -> list[str]:
    """rsync's own options for one release."""
    linked = [f"--link-dest={sync.link_to}"] if sync.link_to else []
    return ["rsync", *OPTIONS, *linked]


def wrapped(sync: Sync, receiver: list[str]) -> str:
    """The shell line on the host: what goes before, rsync's receiver, what goes after."""
    line = " ".join(map(quote, receiver))
    whole = f"{sync.before}{{ {line}; }} 9>&-; rc=$?; {sync.after}exit $rc"
    return f"exec sh -c {quote(whole)}"


def locally(host: str, sync: Sync) -> Outcome:
    """The same rsync within this machine."""
    started = time.monotonic()
    command = [*arguments(sync), f"{sync.source}/", f"{sync.target}/"]
    with subprocess.Popen(
        ["sh", "-c", wrapped(sync, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, process_group=0,
    ) as process:
        try:
            out, err = process.communicate(timeout=sync.timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            late = f"did not end within {sync.timeout:g} s and was stopped"
            return Outcome(host, Kind.TIMED_OUT, message=late, seconds=sync.timeout)
    seconds = time.monotonic() - started
    return of_exit(host, process.returncode, out, err, seconds, sync.timeout)


def through(host: str, sync: Sync, open_pipe: Callable[[str], Pipe]) -> Outcome:
    """rsync to another machine through a pipe that ``open_pipe(line)`` makes."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fabfleet-") as folder:
        path = os.path.join(folder, "bridge")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(sync.timeout)
            shell = f"{quote(sys.executable)} -I -S {quote(str(BRIDGE))} {quote(path)}"
            process = subprocess.Popen(
                [*arguments(sync), "-e", shell, f"{sync.source}/", f"host:{sync.target}/"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, process_group=0,  # Ctrl-C is for us, and we let finish what runs
            )
            bridge = _Bridge(listener, sync, open_pipe)
            bridge.start()
            try:
                out, err = process.communicate(timeout=sync.timeout)
            except subprocess.TimeoutExpired:
                bridge.abort()
                process.kill()
                process.communicate()
                late = f"did not end within {sync.timeout:g} s and was stopped"
                return Outcome(host, Kind.TIMED_OUT, message=late, seconds=sync.timeout)
            finally:
                listener.shutdown(socket.SHUT_RDWR)  # where rsync never got as far as the bridge
                bridge.join(15)
    seconds = time.monotonic() - started
    if bridge.error is not None:
        lost = f"the connection broke: {bridge.error or type(bridge.error).__name__}"
        return Outcome(host, Kind.LOST, message=lost, seconds=seconds)
    if bridge.ran and bridge.status is None:
        return of_exit(host, None, out, bridge.errors, seconds, sync.timeout)
    if process.returncode < 0:
        ended = f"rsync here was ended by {signal.Signals(-process.returncode).name}"
        return Outcome(host, Kind.LOST, message=ended, seconds=seconds)
    said = bridge.errors.strip() or err.strip()
    return of_exit(host, process.returncode, out, said, seconds, sync.timeout)


class _Bridge(threading.Thread):
    """Joins the streams that the bridge program hands over to a pipe on the host."""

    def __init__(
        self, listener: socket.socket, sync: Sync, open_pipe: Callable[[str], Pipe]
    ) -> None:
        super().__init__(daemon=True)
        self.listener, self.sync, self.open_pipe = listener, sync, open_pipe
        self.status: int | None = None
        self.errors = ""
        self.error: Exception | None = None
        self.ran = False
        self.pipe: Pipe | None = None

    def run(self) -> None:
        try:
            peer, _ = self.listener.accept()
        except OSError:
            return  # rsync itself could not start; its exit status tells
        with peer:
            message, handles, _, _ = socket.recv_fds(peer, 1 << 20, 2)
            source, sink = handles
            receiver = json.loads(message)
            try:
                self.ran = True
                self.pipe = self.open_pipe(wrapped(self.sync, receiver))
                self._join(self.pipe, source, sink)
            except (ConnectionBroken, OSError) as error:  # it ends this one transfer
                self.error = error
                for handle in (source, sink):
                    _close(handle)
            peer.sendall(bytes([self.status if self.status is not None else 255]))

    def _join(self, pipe: Pipe, source: int, sink: int) -> None:
        feeder = threading.Thread(target=self._feed, args=(pipe, source), daemon=True)
        feeder.start()
        while block := pipe.read():
            view = memoryview(block)
            while view:
                view = view[os.write(sink, view) :]
        self.status, self.errors = pipe.finish()
        _close(sink)

    def _feed(self, pipe: Pipe, source: int) -> None:
        try:
            while block := os.read(source, 1 << 18):
                pipe.write(block)
            pipe.end_of_input()
        except (ConnectionBroken, OSError) as error:
            self.error = self.error or error
        finally:
            _close(source)

    def abort(self) -> None:
        if self.pipe is not None:
            self.pipe.abort()


def _close(handle: int) -> None:
    try:
        os.close(handle)
    except OSError:
        return  # the other thread was first
