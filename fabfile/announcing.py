"""A run tells whom the inventory names that it has started, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from fabfile.display.notices import Notice, messages
from fabfile.engine.journal import operator
from fabfile.engine.post import Message, Sender
from fabfile.engine.secrets import resolve
from fabfile.environment import Environment
from fabfile.errors import FabfleetError, Pending, Refused, UsageError
from fabfile.plan import Plan
from fabfile.session import Session
from fabfile.status_page import StatusPage
from fabfile.strategies.targets import Fleet
from roles.notifications import Kind, NotificationsSettings


class Announcer:
    """Nothing that goes wrong here becomes an error of the run."""

    def __init__(self, session: Session, incident: str = "") -> None:
        self.session = session
        self.settings = session.environment.of(NotificationsSettings, "notifications")
        self.first: Notice | None = None
        self.skipped: tuple[str, ...] = ()
        self.sender = _sender(self.settings, incident)
        self.page = StatusPage(session.environment, self.sender, incident)
        self.unsent: dict[str, None] = {}
        # Now, as nobody else waits yet: a command may take its time, and is not asked again. What
        # cannot be had is said when it is needed.
        _missing(self.settings)

    def begin(self, fleet: Fleet, task: str) -> None:
        """From here on the end is told, too."""
        if not self.settings.is_on:
            return
        app, release = self.session.environment.app, fleet.release
        self.skipped = fleet.skipped
        self.first = Notice(
            "started", task, app.name, fleet.environment, release.id, release.ref, release.commit,
            operator(), fleet.deploy.strategy, len(fleet.targets), time.time(),
            url=app.urls[0] if app.urls else "")
        self._tell(self.first)

    def about(self, plan: Plan, is_open: bool = False) -> None:
        """Just before the plan runs; ``is_open``: it is known that nothing is closed."""
        self._send(self.page.about(plan, is_open))

    def opened(self) -> None:
        """Somebody has opened by hand what a run may have left closed."""
        self._send(self.page.opened())

    def end(self, kind: Kind, detail: str = "", following: str = "") -> None:
        if self.first:
            self._send(self.page.ended(kind))
            closed = self.session.downtime.seconds or 0
            self._tell(replace(self.first, kind=kind, ended=time.time(), closed_for=closed,
                               detail=detail, next=following))

    def _tell(self, notice: Notice) -> None:
        for each in messages(self.settings, notice, resolve, time.time()):
            self._send(each)

    def _send(self, found: Iterable[Message]) -> None:
        problem = _sent(self.sender, found)
        if problem:
            self.unsent[problem] = None

    def end_with(self, kind: Kind, error: FabfleetError) -> None:
        if self.first:
            error.announced = True
        self.end(kind, *_told(error))

    def finish(self) -> None:
        notes = self.sender.finish()
        for note in [*self.unsent, *notes, *self.page.left_open()]:
            self.session.lines.note(f"notifications: {note}")


@contextmanager
def announcing(session: Session, incident: str = "") -> Iterator[Announcer]:
    """Around a whole run, its lock included, so that nobody else waits for a slow service.
    ``incident``: the id of the maintenance that was announced for it at Statuspage."""
    announcer = Announcer(session, incident)
    try:
        yield announcer
    except Pending as error:
        announcer.end_with("pending", error)
        raise
    except Refused as error:
        announcer.end_with("skipped", error)
        raise
    except FabfleetError as error:
        announcer.end_with("failed", error)
        raise
    except BaseException as error:
        vars(error)["announced"] = announcer.first is not None
        announcer.end("failed", type(error).__name__)
        raise
    else:
        if announcer.skipped:
            announcer.end("pending", f"{', '.join(announcer.skipped)}: did not answer, and has to "
                                     f"catch up")
        else:
            announcer.end("finished")
    finally:
        announcer.finish()


def tell_once(settings: NotificationsSettings, notice: Notice) -> list[str]:
    """One notice outside of any run; what was not taken, in words."""
    sender = _sender(settings)
    unsent = [_sent(sender, each) for each in messages(settings, notice, resolve, time.time())]
    return [*filter(None, unsent), *sender.finish()]


def _sender(settings: NotificationsSettings, incident: str = "") -> Sender:
    def password() -> str:
        secret = settings.email.password
        return resolve(secret.reference()) if secret else ""

    return Sender(settings.timeout, settings.email, password, incident)


def _sent(sender: Sender, found: Iterable[Message]) -> str:
    """Why it could not be sent, or nothing."""
    try:
        sender.send(found)
    except UsageError as error:  # it names the secret's place, never the secret
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no error of the run
        return f"not sent: {type(error).__name__}"
    return ""


def refuse_untold(environment: Environment) -> None:
    """Raises :class:`UsageError` for all secrets of services that cannot be had."""
    missing = _missing(environment.of(NotificationsSettings, "notifications"))
    if missing:
        raise UsageError("\n".join(f"notifications: {each}" for each in missing))


def _missing(settings: NotificationsSettings) -> list[str]:
    """Look all secrets up; in words those that cannot be had."""
    found = []
    for secret in settings.secrets:
        try:
            resolve(secret.reference())
        except UsageError as error:
            found.append(str(error))
    return found


def _told(error: FabfleetError) -> tuple[str, str]:
    """(the first line, the command that goes on): the rest is for the terminal, and the way past a
    maintenance page, which is a secret, stands there as well."""
    lines = str(error).splitlines()
    following = [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]
    return (lines[0] if lines else ""), (following[-1] if following else "")
