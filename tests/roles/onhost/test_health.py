from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import Quiet
from tests.roles.onhost.programs import Done, run


class Service:
    """Answers with what it is told, the last of ``answers`` for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, str]] = [(200, "", "")]
        self.asked: list[tuple[str, str]] = []

    def next(self) -> tuple[int, str, str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(Quiet):
    service: Service

    def do_GET(self) -> None:  # noqa: N802 - its name is given
        self.service.asked.append((self.path, self.headers["Host"]))
        status, body, release = self.service.next()
        self.say(status, body.encode(), {"X-Release": release})


class OnSocket(socketserver.UnixStreamServer):
    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    handler = type("Bound", (Handler,), {"service": service})
    server = HTTPServer(("127.0.0.1", 0), handler)
    for _ in serving(server):
        yield f"127.0.0.1:{server.server_port}"


@pytest.fixture
def path(service: Service, tmp_path: Path) -> Iterator[str]:
    handler = type("Bound", (Handler,), {"service": service})
    server = OnSocket(str(tmp_path / "wsgi.sock"), handler)
    for _ in serving(server):
        yield str(tmp_path / "wsgi.sock")


def ask(address: str, **changes: Any) -> Done:
    arguments = {
        "address": address, "path": "/healthz", "host": "shop.test", "status": 200, "body": None,
        "release": None, "in_a_row": 1, "deadline": 0.1, "timeout": 1, "watch": 0, **changes,
    }
    return run("health", arguments)


def complaint(done: Done) -> str:
    """What it says, without the seconds."""
    assert done.exit == 1
    head, _, rest = done.err.partition(" s: GET ")
    assert head.startswith("not healthy after ")
    return rest.strip()


def test_healthy(service: Service, address: str) -> None:
    done = ask(address, in_a_row=3)
    assert (done.exit, done.err) == (0, "")
    assert done.answer["seconds"] < 5
    assert service.asked == [("/healthz", "shop.test")] * 3


def test_over_a_socket(service: Service, path: str) -> None:
    service.answers = [(200, "release r1", "")]
    assert ask(path, release="r1").exit == 0
    assert service.asked == [("/healthz", "shop.test")]


def test_another_status(service: Service, address: str) -> None:
    service.answers = [(503, "closed\n  for today", "")]
    assert complaint(ask(address)) == (
        f"/healthz on {address}: status 503 instead of 200: closed for today"
    )
    assert ask(address, status=503).exit == 0


@pytest.mark.parametrize("answer", [(200, "it is r2 here", ""), (200, "", "r2")])
def test_the_release_may_be_in_the_body_or_in_a_header(
    service: Service, address: str, answer: tuple[int, str, str]
) -> None:
    service.answers = [answer]
    assert ask(address, release="r2").exit == 0
    assert complaint(ask(address, release="r3")) == (
        f"/healthz on {address}: the answer does not name the release r3: {answer[1]}".strip()
    )


def test_a_text_that_has_to_be_there(service: Service, address: str) -> None:
    service.answers = [(200, "all is größer", "")]
    assert ask(address, body="größer").exit == 0
    assert complaint(ask(address, body="well")) == (
        f"/healthz on {address}: the answer does not hold 'well': all is größer"
    )


def test_one_bad_answer_starts_the_count_anew(service: Service, address: str) -> None:
    ok, bad = (200, "", ""), (500, "", "")
    service.answers = [bad, ok, bad, ok, ok]
    assert ask(address, in_a_row=2, deadline=20).exit == 0
    assert len(service.asked) == 5


def test_it_waits_for_a_service_that_is_slow_to_come(service: Service, address: str) -> None:
    service.answers = [(502, "", "")] * 3 + [(200, "", "r2")]
    assert ask(address, release="r2", deadline=20).exit == 0


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_nobody_listens() -> None:
    address = f"127.0.0.1:{closed_port()}"
    assert complaint(ask(address)) == (
        f"/healthz on {address}: no answer: [Errno 111] Connection refused"
    )
    assert complaint(ask("/no/such.sock")) == (
        "/healthz on /no/such.sock: no answer: [Errno 2] No such file or directory"
    )


def test_a_service_that_never_answers(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        assert complaint(ask(address, timeout=0.1)) == (
            f"/healthz on {address}: no answer: timed out"
        )
