"""A maintenance that is to come, on the status page: announced when it is scheduled, long before
any run knows of it."""

from __future__ import annotations

from collections.abc import Callable

from fabfile.announcing import NOT_BEGUN, TO_COME, UNKNOWN
from fabfile.display.notices import Post, statuspage_scheduled, statuspage_update
from fabfile.engine.post import Untold, make
from fabfile.engine.secrets import resolve
from fabfile.environment import Environment
from fabfile.errors import UsageError
from fabfile.estimates import estimate
from roles.notifications import NotificationsSettings


def announce(environment: Environment, at: float) -> tuple[str, list[str]]:
    """(the incident's id, or "" where none was made; what went wrong, in words)."""
    end = at + (estimate(environment).whole or UNKNOWN)

    def post(settings: NotificationsSettings, token: str) -> Post:
        return statuspage_scheduled(settings, token, settings.statuspage.title, at, end, TO_COME)

    return _sent(environment, post)


def take_back(environment: Environment, incident: str) -> list[str]:
    """It does not take place; what went wrong, in words."""
    if not incident:
        return []
    return _sent(environment, lambda settings, token: statuspage_update(
        settings, token, incident, "completed", NOT_BEGUN))[1]


def _sent(
    environment: Environment, post: Callable[[NotificationsSettings, str], Post]
) -> tuple[str, list[str]]:
    settings = environment.of(NotificationsSettings, "notifications")
    secret = settings.statuspage.token
    if not settings.statuspage.page or secret is None:
        return "", []
    try:
        return make(post(settings, resolve(secret.reference())), settings.timeout), []
    except (Untold, UsageError) as error:
        return "", [str(error)]
