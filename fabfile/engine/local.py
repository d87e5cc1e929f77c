"""Hosts with ``ansible_connection: local``: the same commands, on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from codecs import getincrementaldecoder
from contextlib import suppress
from pathlib import Path

from fabfile.engine import rsync
from fabfile.engine.outcome import Kind, Outcome, of_exit
from fabfile.engine.transport import GRACE, Call, ConnectionBroken, Stream, Sync
from inventories.model import Host


class LocalTransport:
    """Runs in the home folder with a small environment, as sshd would."""

    def environment(self) -> dict[str, str]:
        kept = ("HOME", "USER", "LOGNAME", "LANG", "TMPDIR")
        ours = str(Path(sys.executable).parent)  # uv and supervisor live beside us
        path = f"{ours}:{os.environ.get('PATH', os.defpath)}"
        return {"PATH": path} | {name: os.environ[name] for name in kept if name in os.environ}

    def _start(self, line: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["sh", "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=Path.home(), env=self.environment(),
            start_new_session=True,
        )

    def run(self, host: Host, call: Call) -> Outcome:
        started = time.monotonic()
        process = self._start(call.guarded)
        out, err = bytearray(), bytearray()
        readers = [
            threading.Thread(target=_collect, args=(process.stdout, out, call.tell), daemon=True),
            threading.Thread(target=_collect, args=(process.stderr, err, call.tell_error),
                             daemon=True),
        ]
        for reader in readers:
            reader.start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # what does not want its input has an exit status as well
            process.stdin.write(call.stdin)
        with suppress(BrokenPipeError):
            process.stdin.close()
        limit = call.timeout + GRACE
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            late = f"did not end within {call.timeout:g} s"
            return Outcome(host.name, Kind.TIMED_OUT, message=late, seconds=limit)
        for reader in readers:
            # A daemon that the command left behind may keep its output open for ever.
            reader.join(5)
        seconds = time.monotonic() - started
        texts = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
        status = 128 - status if status < 0 else status
        return of_exit(host.name, status, *texts, seconds, call.timeout)

    def sync(self, host: Host, sync: Sync) -> Outcome:
        return rsync.locally(host.name, sync)

    def stream(self, host: Host, line: str, stdin: bytes) -> Stream:
        stream = ProcessStream(self._start(line))
        stream.write(stdin)
        return stream

    def close(self) -> None:
        """Nothing is kept open."""


def _collect(pipe: object, into: bytearray, tell: object) -> None:
    decoder = getincrementaldecoder("utf-8")("replace")
    with pipe as stream:  # type: ignore[attr-defined]
        while block := stream.read1(1 << 16):
            into += block
            if callable(tell):
                tell(decoder.decode(block))


class ProcessStream:
    """A :class:`Stream` over a process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.ended = False
        self.ready = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self.ready:
                    self.lines.append(line.decode().rstrip("\n"))
                    self.ready.notify()
        with self.ready:
            self.ended = True
            self.ready.notify()

    def send(self, line: str) -> None:
        self.write(line.encode() + b"\n")

    def write(self, content: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(content)
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise ConnectionBroken(str(error)) from error

    def receive(self, timeout: float) -> str | None:
        with self.ready:
            if not self.ready.wait_for(lambda: self.lines or self.ended, timeout):
                raise TimeoutError
            return self.lines.pop(0) if self.lines else None

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and pipe is not self.process.stdout:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
