"""Sends notices from a thread of its own: a run never waits for one, and never fails by one."""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from http.client import HTTPException
from queue import SimpleQueue

from fabfile.display.notices import Mail, Post
from roles.notifications import EmailSettings

TRIES = 2
PAUSE = 0.5
Message = Post | Mail


class Untold(Exception):
    """Why a service did not take a message, in words without any address."""


class _Nowhere(urllib.request.HTTPRedirectHandler):
    """Nobody is sent elsewhere: a notice that became a request for a page was not taken."""

    def redirect_request(self, *_: object) -> None:
        return None


class Sender:
    """``timeout`` in seconds for one try."""

    def __init__(self, timeout: float, email: EmailSettings, password: Callable[[], str]) -> None:
        self.timeout, self.email, self.password = timeout, email, password
        self.notes: list[str] = []
        self._opener = urllib.request.build_opener(_Nowhere)
        self._queue: SimpleQueue[Message | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def send(self, messages: Iterable[Message]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        for each in messages:
            self._queue.put(each)

    def finish(self) -> list[str]:
        """Wait for what is on its way, no longer than one message may take; what was not taken, in
        words."""
        self._queue.put(None)
        if self._thread:
            self._thread.join(TRIES * self.timeout + PAUSE)
        if self._thread and self._thread.is_alive():
            self.notes.append("not all were taken in time; the run waits no longer")
        return list(self.notes)

    def _work(self) -> None:
        while message := self._queue.get():
            for left in reversed(range(TRIES)):
                try:
                    self._deliver(message)
                    break
                except Untold as error:
                    if left:
                        time.sleep(PAUSE)
                    else:
                        self.notes.append(f"{message.service}: {error}")

    def _deliver(self, message: Message) -> None:
        if isinstance(message, Mail):
            self._mail(message)
        else:
            self._post(message)

    def _post(self, post: Post) -> None:
        if not post.address.startswith(("https://", "http://")):
            raise Untold("its address does not begin with https://")
        try:
            request = urllib.request.Request(post.address, post.body, post.headers, method="POST")  # noqa: S310 - checked above
            with self._opener.open(request, timeout=self.timeout) as answer:
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                status, said = error.code, error.read(200).decode("utf-8", "replace").strip()
            if status not in post.fine:
                raise Untold(f"HTTP status {status}{': ' if said else ''}{said}") from None
        except urllib.error.URLError as error:
            raise Untold(f"no answer: {_reason(error.reason)}") from None
        except (OSError, ValueError, HTTPException) as error:
            raise Untold(f"no answer: {_reason(error)}") from None
        if status not in post.fine:
            raise Untold(f"HTTP status {status}")

    def _mail(self, mail: Mail) -> None:
        own = self.email
        context = ssl.create_default_context()
        try:
            if own.encryption == "tls":
                link: smtplib.SMTP = smtplib.SMTP_SSL(own.server, own.port, timeout=self.timeout,
                                                      context=context)
            else:
                link = smtplib.SMTP(own.server, own.port, timeout=self.timeout)
            with link:
                if own.encryption == "starttls":
                    link.starttls(context=context)
                if own.user:
                    link.login(own.user, self.password())
                link.send_message(mail.message)
        except smtplib.SMTPAuthenticationError as error:
            raise Untold(f"{own.server} refused the login of {own.user} ({error.smtp_code})"
                         ) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Untold(f"{own.server}: {_reason(error)}") from None


def _reason(error: object) -> str:
    """Never more than the kind and the system's words: an address may be a secret."""
    if isinstance(error, TimeoutError):
        return "not within the time"
    said = getattr(error, "strerror", None)
    return str(said or type(error).__name__)
