"""Notices on their way to services that are quick, slow, dead or unwilling."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from fabfile.announcing import _sent
from fabfile.display.notices import Mail, Post
from fabfile.engine.post import PAUSE, TRIES, Sender, _quotable
from fabfile.errors import UsageError
from roles.notifications import EmailSettings
from tests.lab.fleet import wait_for
from tests.loopback import Loopback, Quiet

SECRET = "s3cret"
# A busy machine's, far below the half minute of the slow service.
LEEWAY = 10


class Service:
    """Answers with these statuses, one after the other, then with the last one for ever."""

    def __init__(self, *statuses: int, seconds: float = 0) -> None:
        self.statuses, self.seconds = list(statuses), seconds
        self.bodies: list[bytes] = []
        own = self

        class Handler(Quiet):
            def do_POST(self) -> None:  # noqa: N802 - its name is given
                own.bodies.append(self.read())
                time.sleep(own.seconds)
                status = own.statuses.pop(0) if len(own.statuses) > 1 else own.statuses[0]
                self.say(status, b"no", {"Location": "/elsewhere"})

        self.server = Loopback(Handler)
        self.address = f"{self.server.url}/{SECRET}"


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    statuses, seconds = request.param
    made = Service(*statuses, seconds=seconds)
    yield made
    made.server.close()


class Greets(socketserver.StreamRequestHandler):
    """A mail server as far as its greeting."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for _ in iter(self.rfile.readline, b""):
            self.wfile.write(b"250 AUTH PLAIN\r\n")


def post(address: str, body: bytes = b"{}") -> Post:
    return Post("slack", address, {"Content-Type": "application/json"}, body)


def sender(timeout: float = 2, **email: Any) -> Sender:
    return Sender(timeout, EmailSettings.model_validate(email), lambda: "pw")


@pytest.mark.parametrize("service", [((200,), 0)], indirect=True)
def test_they_arrive_in_order_and_once(service: Service) -> None:
    made = sender()
    made.send([post(service.address, b"1"), post(service.address, b"2")])
    made.send([post(service.address, b"3")])
    assert made.finish() == []
    assert service.bodies == [b"1", b"2", b"3"]


@pytest.mark.parametrize("service", [((500, 200), 0)], indirect=True)
def test_it_is_tried_once_more(service: Service) -> None:
    made = sender()
    made.send([post(service.address)])
    assert made.finish() == []
    assert len(service.bodies) == 2


@pytest.mark.parametrize(("service", "said"), [
    (((404,), 0), "slack: HTTP status 404: no"),
    (((302,), 0), "slack: HTTP status 302: no"),
], indirect=["service"])
def test_who_is_unwilling_is_named_without_an_address(service: Service, said: str) -> None:
    made = sender()
    made.send([post(service.address)])
    assert made.finish() == [said]
    assert len(service.bodies) == TRIES


@pytest.mark.parametrize("service", [((200,), 30)], indirect=True)
def test_a_slow_service_delays_nothing_but_the_end_and_that_by_two_tries(service: Service) -> None:
    made = sender(timeout=0.5)
    began = time.monotonic()
    made.send([post(service.address), post(service.address)])
    assert time.monotonic() - began < 5
    notes = made.finish()
    assert time.monotonic() - began < TRIES * 0.5 + PAUSE + LEEWAY
    assert notes[0] in ("slack: no answer: not within the time",
                        "not all were taken in time; the run waits no longer")


class Stalls(socketserver.StreamRequestHandler):
    """Says no, and never why."""

    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 500 no\r\nContent-Length: 100\r\n\r\n")
        self.request.recv(1)  # until whoever asked hangs up


@pytest.mark.parametrize("service", [((200,), 0)], indirect=True)
def test_an_answer_that_never_ends_keeps_no_other_notice_back(service: Service) -> None:
    with Loopback(Stalls) as stalling:
        made = sender(timeout=0.3)
        made.send([post(stalling.url), post(service.address)])
        wait_for("the other has arrived", lambda: service.bodies)
        assert made.finish() == ["slack: HTTP status 500"]


@pytest.mark.parametrize("service", [((200,), 0)], indirect=True)
def test_a_password_that_is_missing_keeps_no_other_notice_back(service: Service) -> None:
    def missing() -> str:
        raise UsageError("secret env:SMTP: not set")

    with Loopback(Greets) as greeting:
        settings = EmailSettings.model_validate({
            "server": "127.0.0.1", "port": greeting.port, "encryption": "none",
            "user": "u", "sender": "a@b.example", "to": ["c@d.example"]})
        made = Sender(2, settings, missing)
        made.send([Mail("email", EmailMessage()), post(service.address)])
        wait_for("the other has arrived", lambda: service.bodies)
        assert made.finish() == ["secret env:SMTP: not set"]


def test_nobody_there() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{found.getsockname()[1]}/{SECRET}"
    made = sender()
    made.send([post(address)])
    (note,) = made.finish()
    assert note == "slack: no answer: Connection refused"


@pytest.mark.parametrize("address", [f"ftp://x/{SECRET}", SECRET, f"http://[{SECRET}/", "https://"])
def test_an_address_that_is_none(address: str) -> None:
    made = sender()
    made.send([post(address)])
    (note,) = made.finish()
    assert note.startswith("slack: ")
    assert SECRET not in note


class Smtp(socketserver.StreamRequestHandler):
    """As much of SMTP as one mail needs."""

    def handle(self) -> None:
        mails: list[bytes] = self.server.mails  # type: ignore[attr-defined]
        self.wfile.write(b"220 mail.test\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if line.startswith(b"rcpt TO:<no"):
                self.wfile.write(b"550 nobody\r\n")
                continue
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")


def test_a_mail_arrives() -> None:
    with Loopback(Smtp) as server:
        server.mails = []  # type: ignore[attr-defined]
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@x.test", "b@x.test", "done"
        message.set_content("all is well\n")
        made = sender(server="127.0.0.1", port=server.port, encryption="none",
                      sender="a@x.test", to=["b@x.test"])
        made.send([Mail("email", message)])
        assert made.finish() == []
        (mail,) = server.mails  # type: ignore[attr-defined]
    assert b"Subject: done" in mail
    assert b"all is well" in mail


def test_a_mail_that_nobody_takes() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    made = sender(server="127.0.0.1", port=port, sender="a@x.test", to=["b@x.test"])
    made.send([Mail("email", EmailMessage())])
    assert made.finish() == ["email: 127.0.0.1: Connection refused"]


def test_a_recipient_who_does_not_get_it_is_noted() -> None:
    """And the others do not get it twice."""
    with Loopback(Smtp) as server:
        server.mails = []  # type: ignore[attr-defined]
        message = EmailMessage()
        message["From"], message["To"] = "a@x.test", "b@x.test, no@x.test"
        message.set_content("all is well\n")
        made = sender(server="127.0.0.1", port=server.port, encryption="none",
                      sender="a@x.test", to=["b@x.test", "no@x.test"])
        made.send([Mail("email", message)])
        assert made.finish() == ["email: 127.0.0.1 refused 1 of 2 recipients (550)"]
        assert len(server.mails) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("said", "quoted"), [
    ("no_service", "no_service"), ("two\n  lines\x1b[1m", "two lines [1m"),
    ("<pre>Cannot POST /in/s3cret-hook</pre>", ""), ("no s3cret hook", "no s3cret hook"),
    ("signed with 00ff00ff00", ""), ("at hooks.example nobody knows this", ""),
])
def test_what_a_service_says_is_one_line_without_the_address(said: str, quoted: str) -> None:
    found = Post("webhook", "https://hooks.example/in/s3cret%2Dhook",
                 {"Content-Type": "application/json", "X-Fabfleet-Signature": "sha256=00ff00ff00"},
                 b"{}")
    assert _quotable(said, found) == quoted


def test_a_notice_that_cannot_be_made_is_no_error_of_the_run() -> None:
    def broken() -> Iterator[Post]:
        raise IndexError("list index out of range")
        yield

    made = sender()
    assert _sent(made, broken()) == "not sent: IndexError"
    assert made.finish() == []


def test_nothing_to_send_starts_nothing() -> None:
    before = threading.active_count()
    assert sender().finish() == []
    assert threading.active_count() == before
