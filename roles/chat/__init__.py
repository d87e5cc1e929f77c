"""Who may ask the bot of ``fab chat.serve``, and where. Settings only: the controller answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roles.app import SecretSettings
from roles.role import Role
from roles.settings import Settings


class ChatSettings(Settings):
    """The mapping ``chat`` in the inventory."""

    app_token: SecretSettings | None = None
    """The Slack app's own token (xapp-), with which it connects: env, file or command."""
    bot_token: SecretSettings | None = None
    """The token of its bot (xoxb-), with which it writes: env, file or command."""
    signing_secret: SecretSettings | None = None
    """What signs requests that come over HTTP: env, file or command. Over Socket Mode none do, and
    without it all of them are refused."""
    channels: list[str] = []
    """The ids of the channels where this environment may be spoken of; nowhere else."""
    status: list[str] = []
    """The ids of the people who may ask for status and pending migrations."""
    deploy: list[str] = []
    """The ids of the people who may also deploy and do maintenance."""
    confirm_by_another: bool = False
    """Whether somebody else than the one who asked has to confirm, who may deploy as well."""
    expires: Annotated[float, Field(gt=0)] = 300
    """Seconds for which a plan can be confirmed."""
    api_url: str = "https://slack.com/api/"
    """Where Slack's Web API is; GovSlack has another."""

    def may_look(self, user: str) -> bool:
        return user in self.status or user in self.deploy


class Chat(Role):
    """Has no moments: nothing happens on any host."""

    name = "chat"
    settings = ChatSettings


role = Chat()
