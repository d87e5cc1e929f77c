"""Who may ask what, and where."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fabfile.chat.words import Words
from roles.chat import ChatSettings

USER = re.compile(r"[UW][A-Z0-9]{1,30}")
CHANNEL = re.compile(r"[CDG][A-Z0-9]{1,30}")
# What is said to everybody who may not: whoever may not see an environment does not learn of it.
NOWHERE = "you may not ask me here"


def is_known(served: Mapping[str, ChatSettings], user: str, channel: str) -> bool:
    """Whether this person may ask anything in this channel."""
    return any(channel in each.channels and each.may_look(user) for each in served.values())


def refusal(
    served: Mapping[str, ChatSettings], words: Words, user: str, channel: str
) -> tuple[str, str]:
    """(what is said, what is recorded); nothing twice where it is allowed."""
    if not is_known(served, user, channel):
        return NOWHERE, "nobody who may ask in this channel"
    if words.verb == "help":
        return "", ""
    settings = served.get(words.environment)
    if settings is None:
        why = "no such environment"
    elif channel not in settings.channels:
        why = "not in this channel"
    elif not settings.may_look(user):
        why = "not allowed for this environment"
    elif words.changes and user not in settings.deploy:
        why = "may look, and not change anything"
    else:
        return "", ""
    return f"you may not ask for {words.verb} of {words.environment} here", why


def refused_confirmation(
    settings: ChatSettings | None, asker: str, user: str, channel: str
) -> str:
    """Why this person may not confirm now, though the button is real; or nothing."""
    if settings is None or channel not in settings.channels or user not in settings.deploy:
        return "you may not confirm this"
    if settings.confirm_by_another and user == asker:
        return "somebody else has to confirm it"
    return ""


def refused_cancelling(settings: ChatSettings | None, asker: str, user: str) -> str:
    may = user == asker or (settings is not None and user in settings.deploy)
    return "" if may else "you may not cancel this"
