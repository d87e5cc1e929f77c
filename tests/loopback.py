"""Servers on this machine, in the place of those that a test's subject talks to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any


class Loopback(ThreadingTCPServer):
    """Serves from its making until it is closed; nobody waits for the connections left then."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.port: int = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def __exit__(self, *_: object) -> None:
        self.close()


class Listening:
    """Hands each connection to ``serve`` from its making until it is closed.

    A thread that is about to accept while the socket closes would go on with whichever socket gets
    the number next, another test's: so it ends first.
    """

    def __init__(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        self.listener, self.serve = listener, serve
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.serve(connection)

    def close(self) -> None:
        with suppress(OSError):  # where it was closed before
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.listener.close()


class Quiet(BaseHTTPRequestHandler):
    """Logs nothing."""

    def read(self) -> bytes:
        """The request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def say(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with suppress(OSError):  # whoever asked has not waited
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name is given
        pass
