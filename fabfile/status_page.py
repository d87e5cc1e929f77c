"""A maintenance on a status page: announced when it is scheduled or just before it begins, and
completed when the site is open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from fabfile.display.notices import Post, Status, statuspage_scheduled, statuspage_update
from fabfile.engine.journal import forget_incident, keep_incident, left_incident
from fabfile.engine.post import Later, Sender, Untold, make
from fabfile.engine.secrets import resolve
from fabfile.environment import Environment
from fabfile.errors import UsageError
from fabfile.estimates import CLOSING, estimate
from fabfile.plan import Plan
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


class StatusPage:
    """What one run has to say there. ``incident`` is the maintenance that was announced for it, if
    any; ``became`` says what its plan became: done, undone (the site is open as it was), or
    neither, as far as is known. Methods yield what is to be sent, and raise :class:`UsageError`
    where the token cannot be found."""

    def __init__(self, environment: Environment, sender: Sender, incident: str) -> None:
        self.environment, self.sender, self.incident = environment, sender, incident
        self.settings = environment.of(NotificationsSettings, "notifications")
        self.stages: frozenset[str] = frozenset()
        self.became: Literal["", "done", "undone"] = ""
        self.notes: list[str] = []

    def about(self, plan: Plan, is_open: bool) -> Iterator[Later]:
        """Just before the plan runs: where it closes the site, or opens what an earlier run has
        left closed, that is told. ``is_open``: it is known that nothing is closed."""
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
            yield from self._made(time.time())
            yield from self._updated("in_progress", GOES_ON if left else BEGUN)

    def opened(self) -> Iterator[Later]:
        """Somebody has opened by hand what a run may have left closed."""
        if self.settings.statuspage.page:
            self.sender.made = self._left()
            if self.sender.made:
                yield from self._updated("completed", OVER)

    def ended(self, kind: Kind) -> Iterator[Later]:
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

    def left_open(self) -> list[str]:
        """What somebody has to know at the end, in words."""
        left = self._left() if self.stages else ""
        if left:
            self.notes.append(f"statuspage: incident {left} is not completed; the next run that "
                              f"opens the site does that, or fab maintenance.off")
        return self.notes

    def _made(self, start: float) -> Iterator[Later]:
        """A maintenance from now on, where none is known already."""
        settings, token = self.settings, _token(self.settings)

        def due(made: str) -> Post | None:
            if made:
                return None
            end = start + _seconds(self.environment)
            post = statuspage_scheduled(settings, token, settings.statuspage.title, start, end,
                                        TO_COME)
            return replace(post, then=self._keep)

        yield due

    def _updated(self, status: Status, body: str) -> Iterator[Later]:
        settings, token = self.settings, _token(self.settings)

        def due(made: str) -> Post | None:
            if not made:
                return None
            post = statuspage_update(settings, token, made, status, body)
            return replace(post, then=self._forget) if status == "completed" else post

        yield due

    def _left(self) -> str:
        try:
            return left_incident(self.environment.key)
        except (OSError, ValueError):
            return ""

    def _keep(self, incident: str) -> None:
        try:
            keep_incident(self.environment.key, incident)
        except OSError as error:
            self.notes.append(f"statuspage: incident {incident} cannot be kept: {error.strerror}")

    def _forget(self, incident: str) -> None:
        with suppress(OSError, ValueError):
            forget_incident(self.environment.key, incident)


def announce(environment: Environment, at: float) -> tuple[str, list[str]]:
    """A maintenance that is to come, long before any run knows of it: (the incident's id, or ""
    where none was made; what went wrong, in words)."""
    end = at + _seconds(environment)

    def post(settings: NotificationsSettings, token: str) -> Post:
        return statuspage_scheduled(settings, token, settings.statuspage.title, at, end, TO_COME)

    return _sent(environment.of(NotificationsSettings, "notifications"), post)


def take_back(settings: NotificationsSettings, incident: str) -> list[str]:
    """It does not take place; what went wrong, in words."""
    if not incident:
        return []
    return _sent(settings, lambda settings, token: statuspage_update(
        settings, token, incident, "completed", NOT_BEGUN))[1]


def _sent(
    settings: NotificationsSettings, post: Callable[[NotificationsSettings, str], Post]
) -> tuple[str, list[str]]:
    if not settings.statuspage.page:
        return "", []
    try:
        return make(post(settings, _token(settings)), settings.timeout), []
    except (Untold, UsageError) as error:
        return "", [str(error)]


def _token(settings: NotificationsSettings) -> str:
    secret = settings.statuspage.token
    return resolve(secret.reference()) if secret else ""


def _seconds(environment: Environment) -> float:
    """For how long it is announced."""
    known = estimate(environment).whole
    return max(known, LEAST) if known else UNKNOWN
