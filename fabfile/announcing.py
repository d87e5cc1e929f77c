"""A run tells whom the inventory names that it has started, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Literal

from fabfile.display.notices import (
    Notice,
    Post,
    Status,
    messages,
    statuspage_scheduled,
    statuspage_update,
)
from fabfile.engine.journal import forget_incident, keep_incident, left_incident, operator
from fabfile.engine.post import Later, Message, Sender
from fabfile.engine.secrets import resolve
from fabfile.environment import Environment
from fabfile.errors import FabfleetError, Pending, Refused, UsageError
from fabfile.estimates import CLOSING, estimate
from fabfile.plan import Plan
from fabfile.session import Session
from fabfile.strategies.targets import Fleet
from roles.notifications import Kind, NotificationsSettings

# Seconds for which a maintenance is announced: at least, and where no earlier one is known.
LEAST, UNKNOWN = 60, 1800
# Whoever reads these on a status page knows nothing of releases and hosts.
TO_COME = "The site is about to be closed for maintenance."
BEGUN = "The maintenance has begun; the site is closed until it is done."
GOES_ON = "The maintenance goes on; the site is closed until it is done."
LONGER = "The maintenance takes longer than planned; we are working on it."
UNDONE = "The maintenance has ended early; nothing was changed, and the site is open."
NOT_BEGUN = "The maintenance did not take place; nothing was changed."
OVER = "The maintenance is over; the site is open."


class Announcer:
    """Nothing that goes wrong here becomes an error of the run. ``incident`` is the maintenance
    that was announced for this run, if any; ``became`` says what its plan became: done, undone (the
    site is open as it was), or neither, as far as is known."""

    def __init__(self, session: Session, incident: str = "") -> None:
        self.session, self.incident = session, incident
        self.settings = session.environment.of(NotificationsSettings, "notifications")
        self.first: Notice | None = None
        self.stages: frozenset[str] = frozenset()
        self.became: Literal["", "done", "undone"] = ""
        self.skipped: tuple[str, ...] = ()
        self.sender = Sender(self.settings.timeout, self.settings.email, self._password, incident)
        self.unsent: dict[str, None] = {}

    def _password(self) -> str:
        secret = self.settings.email.password
        return resolve(secret.reference()) if secret else ""

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
        """Just before the plan runs: where it closes the site, or opens what an earlier run has
        left closed, the status page is told. ``is_open``: it is known that nothing is closed."""
        if not self.settings.statuspage.page:
            return
        self.stages = frozenset(stage.name for stage in plan.stages) & {*CLOSING, "open"}
        left = "" if self.incident else self._left()
        if left and is_open and not self.stages:
            self.stages = frozenset({"open"})
        known = self.sender.made = self.incident or left
        if self.stages & {*CLOSING}:
            if known:
                self._keep(known)
            self._send(self._made(time.time()))
            self._send(self._updated("in_progress", GOES_ON if left else BEGUN))

    def opened(self) -> None:
        """Somebody has opened by hand what a run may have left closed."""
        if self.settings.statuspage.page:
            self.sender.made = self._left()
            if self.sender.made:
                self._send(self._updated("completed", OVER))

    def end(self, kind: Kind, detail: str = "", following: str = "") -> None:
        if self.first:
            self._send(self._ended(kind))
            closed = self.session.downtime.seconds or 0
            self._tell(replace(self.first, kind=kind, ended=time.time(), closed_for=closed,
                               detail=detail, next=following))

    def _tell(self, notice: Notice) -> None:
        self._send(messages(self.settings, notice, resolve, time.time()))

    def _send(self, found: Iterable[Message]) -> None:
        try:
            self.sender.send(found)
        except UsageError as error:  # it names the secret's place, never the secret
            self.unsent[str(error)] = None

    def end_with(self, kind: Kind, error: FabfleetError) -> None:
        if self.first:
            error.announced = True
        self.end(kind, *_told(error))

    def finish(self) -> None:
        notes = self.sender.finish()
        left = self._left() if self.stages else ""
        if left:
            notes.append(f"statuspage: incident {left} is not completed; the next run that opens "
                         f"the site does that, or fab maintenance.off")
        for note in [*self.unsent, *notes]:
            self.session.lines.note(f"notifications: {note}")

    # --- the status page -----------------------------------------------------------------------

    def _made(self, start: float) -> Iterator[Later]:
        """A maintenance from now on, where none is known already."""
        settings, token = self.settings, self._token()

        def due(made: str) -> Post | None:
            if made:
                return None
            end = start + self._seconds()
            post = statuspage_scheduled(settings, token, settings.statuspage.title, start, end,
                                        TO_COME)
            return replace(post, then=self._keep)

        yield due

    def _updated(self, status: Status, body: str) -> Iterator[Later]:
        settings, token = self.settings, self._token()

        def due(made: str) -> Post | None:
            if not made:
                return None
            post = statuspage_update(settings, token, made, status, body)
            return replace(post, then=self._forget) if status == "completed" else post

        yield due

    def _ended(self, kind: Kind) -> Iterator[Later]:
        """What was announced for a run is completed, whether it closed the site or not. What a
        person closed, a run leaves closed. One that failed knows what it has stopped itself, not
        what an earlier one has."""
        by_hand = "close" in self.stages and "open" not in self.stages
        if self.stages and (by_hand or not self.became):
            yield from self._updated("in_progress", LONGER)
        elif self.stages and self.became == "done":
            yield from self._updated("completed", OVER)
        elif self.stages:
            if self.stages & {*CLOSING}:
                yield from self._updated("completed", UNDONE)
        elif self.incident and self.settings.statuspage.page:
            nothing = kind in ("failed", "skipped")
            yield from self._updated("completed", NOT_BEGUN if nothing else OVER)

    def _token(self) -> str:
        secret = self.settings.statuspage.token
        return resolve(secret.reference()) if secret else ""

    def _seconds(self) -> float:
        try:
            known = estimate(self.session.environment).whole
        except (OSError, ValueError, KeyError, TypeError):  # a journal that cannot be read
            known = 0
        return max(known, LEAST) if known else UNKNOWN

    def _left(self) -> str:
        try:
            return left_incident(self.session.environment.key)
        except (OSError, ValueError):
            return ""

    def _keep(self, incident: str) -> None:
        try:
            keep_incident(self.session.environment.key, incident)
        except OSError as error:
            self.unsent[f"statuspage: incident {incident} cannot be kept: {error.strerror}"] = None

    def _forget(self, incident: str) -> None:
        with suppress(OSError, ValueError):
            forget_incident(self.session.environment.key, incident)


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


def tell_once(environment: Environment, notice: Notice) -> list[str]:
    """One notice outside of any run; what was not taken, in words."""
    settings = environment.of(NotificationsSettings, "notifications")

    def password() -> str:
        secret = settings.email.password
        return resolve(secret.reference()) if secret else ""

    sender = Sender(settings.timeout, settings.email, password)
    try:
        sender.send(messages(settings, notice, resolve, time.time()))
    except UsageError as error:
        return [str(error)]
    return sender.finish()


def _told(error: FabfleetError) -> tuple[str, str]:
    """(the first line, the command that goes on): the rest is for the terminal, and the way past a
    maintenance page, which is a secret, stands there as well."""
    lines = str(error).splitlines()
    following = [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]
    return (lines[0] if lines else ""), (following[-1] if following else "")
