"""Sends notices from a thread of its own: a run never waits for one, and never fails by one."""

from __future__ import annotations

import json
import re
import smtplib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.client import HTTPException, InvalidURL
from queue import SimpleQueue
from urllib.parse import unquote

from fabfile.display.notices import Mail, Post
from fabfile.errors import UsageError
from roles.notifications import EmailSettings

TRIES = 2
PAUSE = 0.5
# What names something that was made stands in less.
LONGEST_ANSWER = 1_000_000
# Services whose addresses let anybody write there, and how short a part of a secret is one still.
SECRET_ADDRESSES, LEAST_SECRET = ("slack", "webhook"), 6
# One that is made when it is due, with the id of what an earlier one has made, or of nothing.
Later = Callable[[str], Post | None]
Message = Post | Mail | Later


class Untold(Exception):
    """Why a service did not take a message, in words without any address. ``unknown``: it may have
    taken it all the same."""

    def __init__(self, said: str, unknown: bool = False) -> None:
        super().__init__(said)
        self.unknown = unknown


class _Nowhere(urllib.request.HTTPRedirectHandler):
    """Nobody is sent elsewhere: a notice that became a request for a page was not taken."""

    def redirect_request(self, *_: object) -> None:
        return None


class Sender:
    """``timeout`` in seconds for one try; ``made`` is the id of what was made last."""

    def __init__(
        self, timeout: float, email: EmailSettings, password: Callable[[], str], made: str = ""
    ) -> None:
        self.timeout, self.email, self.password, self.made = timeout, email, password, made
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
            try:
                due = message if isinstance(message, Post | Mail) else message(self.made)
                if due:
                    self._try(due)
            except UsageError as error:  # it names the secret's place, never the secret
                self.notes.append(str(error))
            except Exception as error:  # noqa: BLE001 - it must not keep the others back
                self.notes.append(f"not sent: {_reason(error)}")

    def _try(self, message: Post | Mail) -> None:
        makes = isinstance(message, Post) and message.makes
        for left in reversed(range(TRIES)):
            try:
                self._deliver(message)
                return
            except Untold as error:
                # It must not be made twice.
                unclear = makes and error.unknown
                if not left or unclear:
                    told = "; it may have been made all the same" if unclear else ""
                    self.notes.append(f"{message.service}: {error}{told}")
                    return
                time.sleep(PAUSE)

    def _deliver(self, message: Post | Mail) -> None:
        if isinstance(message, Mail):
            self._mail(message)
        else:
            self._post(message)

    def _post(self, post: Post) -> None:
        if not post.address.startswith(("https://", "http://")):
            raise Untold("its address does not begin with https://")
        body = b""
        try:
            request = urllib.request.Request(post.address, post.body, post.headers,  # noqa: S310 - checked above
                                             method=post.method)
            with self._opener.open(request, timeout=self.timeout) as answer:
                status = int(answer.status)
                if post.makes:
                    body = answer.read(LONGEST_ANSWER)
        except urllib.error.HTTPError as error:
            status, said = error.code, ""
            with error, suppress(OSError, HTTPException):  # its reasons may never arrive
                said = error.read(200).decode("utf-8", "replace").strip()
            if status not in post.fine:
                said = _quotable(said, post)
                raise Untold(f"HTTP status {status}{': ' if said else ''}{said}") from None
        except urllib.error.URLError as error:
            raise Untold(f"no answer: {_reason(error.reason)}") from None
        except (OSError, ValueError, HTTPException) as error:
            sent = not isinstance(error, ValueError | InvalidURL)
            raise Untold(f"no answer: {_reason(error)}", unknown=sent) from None
        if status not in post.fine:
            raise Untold(f"HTTP status {status}")
        if post.makes:
            self.made = _id_in(body)
        if post.then:
            post.then(self.made)

    def _mail(self, mail: Mail) -> None:
        own = self.email
        password = self.password() if own.user else ""
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
                    link.login(own.user, password)
                refused = link.send_message(mail.message)
            if refused:  # the others have it, so it is not tried again
                codes = ", ".join(sorted({str(code) for code, _ in refused.values()}))
                self.notes.append(f"{mail.service}: {own.server} refused {len(refused)} of "
                                  f"{len(own.to)} recipients ({codes})")
        except smtplib.SMTPAuthenticationError as error:
            raise Untold(f"{own.server} refused the login of {own.user} ({error.smtp_code})"
                         ) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Untold(f"{own.server}: {_reason(error)}") from None


def make(post: Post, timeout: float) -> str:
    """The id of what it makes. Waits no longer than a run does at its end. Raises :class:`Untold`.
    """
    sender = Sender(timeout, EmailSettings(), lambda: "")
    sender.send([post])
    notes = sender.finish()
    if notes:
        raise Untold(notes[0])
    return sender.made


def _id_in(answer: bytes) -> str:
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        told = None
    found = told.get("id") if isinstance(told, dict) else None
    if not isinstance(found, str) or not re.fullmatch(r"[\w-]{1,100}", found):
        raise Untold("its answer has no id", unknown=True)
    return found


def _quotable(said: str, post: Post) -> str:
    """What a service says of a message, in one line; nothing where it holds a part of a secret."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())
    places = [value for name, value in post.headers.items() if name != "Content-Type"]
    places += [post.address] if post.service in SECRET_ADDRESSES else []
    parts = re.split(r"[/?&=#:@ ]+", " ".join(places))
    return "" if any(part in line or unquote(part) in line
                     for part in parts if len(part) >= LEAST_SECRET) else line


def _reason(error: object) -> str:
    """Never more than the kind and the system's words: an address may be a secret."""
    if isinstance(error, TimeoutError):
        return "not within the time"
    said = getattr(error, "strerror", None)
    return str(said or type(error).__name__)
