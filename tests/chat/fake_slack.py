"""Slack on this machine: its Web API, addresses for answers, and Socket Mode."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from tests.loopback import Listening, Loopback, Quiet

PATIENCE = 30
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BOT, TEAM = "U0BOT", "T0HOME"


def wait(changed: threading.Condition, what: Callable[[], Any], so_far: object) -> Any:
    """What comes, as soon as it is more than nothing."""
    deadline = time.monotonic() + PATIENCE
    with changed:
        while not (found := what()):
            left = deadline - time.monotonic()
            assert left > 0, f"did not come; there was: {so_far}"
            changed.wait(min(left, 0.05))
    return found


class FakeSlack:
    """``calls`` are (method, arguments) in the order in which they came. ``failing`` methods answer
    with an error each, and addresses for answers with the HTTP statuses in ``refusing``, one after
    the other; ``silent`` makes it drop every connection."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failing: dict[str, str] = {}
        self.refusing: list[int] = []
        self.silent = False
        self.socket = Socket()
        own = self

        class Handler(Quiet):
            def do_POST(self) -> None:  # noqa: N802 - its name is given
                body = self.read().decode()
                is_json = self.headers.get_content_type() == "application/json"
                said = json.loads(body or "{}") if is_json else {
                    key: values[0] for key, values in parse_qs(body).items()}
                if own.silent:
                    self.close_connection = True
                    return
                method = self.path.rpartition("/")[2]
                status = own.refusing.pop(0) if own.refusing and method == "respond" else 200
                answer = json.dumps(own.answer(method, said)).encode()
                self.say(status, answer, {"Content-Type": "application/json"})

        self.server = Loopback(Handler)
        self.url = f"{self.server.url}/api/"

    def answer(self, method: str, said: dict[str, Any]) -> dict[str, Any]:
        with self.changed:
            self.calls.append((method, said))
            number = len(self.calls)
            self.changed.notify_all()
        if method in self.failing:
            return {"ok": False, "error": self.failing[method]}
        return {
            "auth.test": {"ok": True, "user_id": BOT, "bot_id": "B0", "team_id": TEAM,
                          "url": "https://example.invalid/", "team": "home", "user": "fab"},
            "apps.connections.open": {"ok": True, "url": self.socket.url},
        }.get(method, {"ok": True, "ts": f"{number}.000100", "channel": said.get("channel")})

    def said(self, method: str) -> list[dict[str, Any]]:
        with self.changed:
            return [said for name, said in self.calls if name == method]

    def wait(self, what: Callable[[], Any]) -> Any:
        return wait(self.changed, what, self.calls)

    def text(self, part: str) -> dict[str, Any]:
        """The first message, or change of one, with these words."""
        found = self.wait(lambda: [said for _, said in self.calls if part in said.get("text", "")])
        assert isinstance(found[0], dict)
        return found[0]

    def close(self) -> None:
        self.server.close()
        self.socket.close()


class Socket:
    """One end of Socket Mode: takes connections, sends what it is told, keeps what it hears."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.heard: list[dict[str, Any]] = []
        self.links: list[socket.socket] = []
        self.changed = threading.Condition()
        self.taking = Listening(self.listener, self._take)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.listener.getsockname()[1]}/link"

    def _take(self, link: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, link.makefile("rb") as stream:
            key = ""
            while line := stream.readline().strip().decode():
                name, _, value = line.partition(": ")
                key = value if name.lower() == "sec-websocket-key" else key
            accept = base64.b64encode(hashlib.sha1(f"{key}{MAGIC}".encode()).digest()).decode()  # noqa: S324 - RFC 6455
            link.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
            with self.changed:
                self.links.append(link)
                self.changed.notify_all()
            try:
                while self._frame(link, stream):
                    pass
            except OSError:
                return

    def _frame(self, link: socket.socket, stream: Any) -> bool:
        head = stream.read(2)
        if len(head) < 2:
            return False
        opcode, size = head[0] & 15, head[1] & 127
        if size == 126:
            (size,) = struct.unpack(">H", stream.read(2))
        mask = stream.read(4)
        data = bytes(each ^ mask[i % 4] for i, each in enumerate(stream.read(size)))
        if opcode == 9:
            link.sendall(bytes([0x8A, len(data)]) + data)
        if opcode == 1:
            with self.changed:
                self.heard.append(json.loads(data))
                self.changed.notify_all()
        return bool(opcode != 8)

    def send(self, envelope: dict[str, Any]) -> None:
        """To the newest connection."""
        self.wait(lambda: self.links)
        data = json.dumps(envelope).encode()
        self.links[-1].sendall(b"\x81\x7e" + struct.pack(">H", len(data)) + data)

    def wait(self, what: Callable[[], Any]) -> Any:
        return wait(self.changed, what, self.heard)

    def cut(self) -> None:
        """Every connection breaks."""
        for link in self.links:
            link.shutdown(socket.SHUT_RDWR)
        self.links.clear()

    def close(self) -> None:
        self.taking.close()
        for link in self.links:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
