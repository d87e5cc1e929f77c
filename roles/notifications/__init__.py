"""Whom a run tells that it has started, and how it ended. Settings only: the controller tells."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from roles.app import SecretSettings
from roles.role import Role
from roles.settings import Settings

Kind = Literal["started", "finished", "failed", "pending", "skipped"]
ALL: list[Kind] = ["started", "finished", "failed", "pending", "skipped"]


class SlackSettings(Settings):
    """A channel of Slack, or of a service that takes its incoming webhooks."""

    url: SecretSettings | None = None
    """The webhook's address, which is a secret: env, file or command."""
    when: list[Kind] = ALL
    """Which moments are told."""


class WebhookSettings(Settings):
    """An address of your own, which gets the whole notice in JSON."""

    url: SecretSettings | None = None
    """The address: env, file or command."""
    key: SecretSettings | None = None
    """What signs it: the header X-Fabfleet-Signature is sha256= and the HMAC-SHA256 of the header
    X-Fabfleet-Timestamp, a dot and the body, in hexadecimal digits."""
    when: list[Kind] = ALL
    """Which moments are told."""


class EmailSettings(Settings):
    """Mail over SMTP."""

    server: str = ""
    """The SMTP server."""
    port: Annotated[int, Field(gt=0)] = 587
    """Its port."""
    encryption: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is encrypted."""
    user: str = ""
    """Who logs in there; empty: nobody does."""
    password: SecretSettings | None = None
    """That user's password: env, file or command."""
    sender: str = ""
    """The address in From."""
    to: list[str] = []
    """The addresses in To."""
    when: list[Kind] = ["finished", "failed", "pending", "skipped"]
    """Which moments are told."""

    @model_validator(mode="after")
    def _whole(self) -> EmailSettings:
        if self.server and not (self.sender and self.to):
            raise ValueError("expected sender and to, which a mail needs")
        return self


class SentrySettings(Settings):
    """Releases and deploys of Sentry. The application has to send RELEASE_ID as its release."""

    organization: str = ""
    """The organization's name in addresses."""
    projects: list[str] = []
    """The projects' names in addresses."""
    token: SecretSettings | None = None
    """A token with the scope org:ci or project:releases: env, file or command."""
    url: str = "https://sentry.io"
    """Where Sentry is."""

    @model_validator(mode="after")
    def _whole(self) -> SentrySettings:
        if self.organization and not (self.projects and self.token):
            raise ValueError("expected projects and token, which Sentry needs")
        return self


class StatuspageSettings(Settings):
    """A maintenance on a page of Statuspage, while a run has closed the site."""

    page: str = ""
    """The page's id."""
    token: SecretSettings | None = None
    """An API key of whoever may manage incidents there: env, file or command."""
    components: list[str] = []
    """The ids of the components that are under maintenance meanwhile."""
    title: str = "Maintenance"
    """What a maintenance is called there, in at most 255 letters."""
    deliver: bool = True
    """Whether the page's subscribers are told."""
    url: str = "https://api.statuspage.io"
    """Where Statuspage is."""

    @model_validator(mode="after")
    def _whole(self) -> StatuspageSettings:
        if bool(self.page) != bool(self.token):
            raise ValueError("expected page and token, which Statuspage needs")
        return self


class NotificationsSettings(Settings):
    """The mapping ``notifications`` in the inventory."""

    slack: SlackSettings = SlackSettings()
    """Slack."""
    webhook: WebhookSettings = WebhookSettings()
    """An address of your own."""
    email: EmailSettings = EmailSettings()
    """Mail."""
    sentry: SentrySettings = SentrySettings()
    """Sentry."""
    statuspage: StatuspageSettings = StatuspageSettings()
    """Statuspage."""
    timeout: Annotated[float, Field(gt=0)] = 5
    """Seconds that one try may take; there are two. A run waits for no notice but at its end, and
    then no longer than both."""


    @property
    def secrets(self) -> list[SecretSettings]:
        """All that have to be looked up to tell anybody."""
        named = (self.slack.url, self.webhook.url, self.webhook.key, self.email.password,
                 self.sentry.token, self.statuspage.token)
        return [each for each in named if each]

    @property
    def is_on(self) -> bool:
        return bool(self.slack.url or self.webhook.url or self.email.server or self.sentry.token
                    or self.statuspage.page)


class Notifications(Role):
    """Has no moments: nothing happens on any host."""

    name = "notifications"
    settings = NotificationsSettings


role = Notifications()
