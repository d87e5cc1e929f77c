"""A notice of a run, as each service wants to have it. Values only; nothing is sent here.

Sources of the forms: Slack's incoming webhooks (`text`, with `&`, `<` and `>` escaped), Sentry's
"create a new release for an organization" and "create a deploy", Statuspage's "create an incident"
and "update an incident".
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, Literal
from urllib.parse import quote

from roles.command import SecretRef
from roles.notifications import Kind, NotificationsSettings

JSON = "application/json"
# Slack cuts longer texts.
LONGEST = 3000
# Statuspage refuses longer ones.
LONGEST_TITLE = 255
Status = Literal["in_progress", "verifying", "completed"]


@dataclass(frozen=True)
class Notice:
    """What became of a run. Times in seconds since the epoch; ``next`` is the command that goes on.
    """

    kind: Kind
    task: str
    app: str
    environment: str
    release: str
    ref: str
    commit: str
    who: str
    mode: str
    hosts: int
    started: float
    ended: float = 0
    closed_for: float = 0
    detail: str = ""
    next: str = ""
    url: str = ""

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended - self.started)

    @property
    def headline(self) -> str:
        where = f"{self.app} on {self.environment}"
        what = f"{self.task} of {self.release}" + (f" ({self.ref})" if self.ref else "")
        hosts = f"{self.hosts} host{'' if self.hosts == 1 else 's'}"
        after = f"after {self.seconds:.1f} s"
        closed = f", closed for {self.closed_for:.1f} s" if self.closed_for else ""
        return {
            "started": f"{where}: {self.who} started the {what} on {hosts}, {self.mode}",
            "finished": f"{where}: {what} finished on {hosts} {after}{closed}",
            "failed": f"{where}: {what} FAILED {after}{closed}",
            "pending": f"{where}: {what} finished {after}{closed}, but something is left to do",
            "skipped": f"{where}: {what} was SKIPPED; nothing was changed",
        }[self.kind]

    @property
    def text(self) -> str:
        parts = [self.headline, self.detail, f"next: {self.next}" if self.next else "", self.url]
        return "\n".join(part for part in parts if part)


@dataclass(frozen=True)
class Post:
    """One HTTP request. Its address may be a secret, and so may its headers. ``fine`` are the
    statuses that mean that it was taken. ``makes``: it makes something, whose id is in the answer.
    ``then`` is called with the id of what was made last, when it was taken."""

    service: str
    address: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    fine: tuple[int, ...] = (200, 201, 202, 204)
    method: str = "POST"
    makes: bool = False
    then: Callable[[str], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Mail:
    """One mail."""

    service: str
    message: EmailMessage = field(repr=False)


Find = Callable[[SecretRef], str]
Parts = Iterator[Post | Mail]


def messages(
    settings: NotificationsSettings, notice: Notice, find: Find, now: float
) -> list[Parts]:
    """All that is to be sent, of each service apart: ``find`` looks a secret up, and may raise,
    which is no other service's matter."""
    return [_to_slack(settings, notice, find), _to_webhook(settings, notice, find, now),
            _to_email(settings, notice), _to_sentry(settings, notice, find)]


def _to_slack(settings: NotificationsSettings, notice: Notice, find: Find) -> Parts:
    if settings.slack.url and notice.kind in settings.slack.when:
        yield slack(find(settings.slack.url.reference()), notice)


def _to_webhook(
    settings: NotificationsSettings, notice: Notice, find: Find, now: float
) -> Parts:
    if settings.webhook.url and notice.kind in settings.webhook.when:
        own = settings.webhook
        assert own.url
        key = find(own.key.reference()) if own.key else ""
        yield webhook(find(own.url.reference()), key, notice, now)


def _to_email(settings: NotificationsSettings, notice: Notice) -> Parts:
    if settings.email.server and notice.kind in settings.email.when:
        yield mail(settings.email.sender, settings.email.to, notice)


def _to_sentry(settings: NotificationsSettings, notice: Notice, find: Find) -> Parts:
    if settings.sentry.token and notice.release:
        yield from sentry(settings, find(settings.sentry.token.reference()), notice)


def slack(address: str, notice: Notice) -> Post:
    text = notice.text
    for sign, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, escaped)
    body = json.dumps({"text": text[:LONGEST]}).encode()
    return Post("slack", address, {"Content-Type": JSON}, body)


def webhook(address: str, key: str, notice: Notice, now: float) -> Post:
    body = json.dumps({**asdict(notice), "text": notice.text}, sort_keys=True).encode()
    headers = {"Content-Type": JSON, "X-Fabfleet-Timestamp": str(int(now))}
    if key:
        signed = f"{int(now)}.".encode() + body
        digest = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
        headers["X-Fabfleet-Signature"] = f"sha256={digest}"
    return Post("webhook", address, headers, body)


def mail(sender: str, to: list[str], notice: Notice) -> Mail:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        sender, ", ".join(to), " ".join(notice.headline.split()))
    message.set_content(notice.text + "\n")
    return Mail("email", message)


def sentry(settings: NotificationsSettings, token: str, notice: Notice) -> Iterator[Post]:
    """The release before any process of it starts; the deploy when the last one serves."""
    own = settings.sentry
    base = (f"{own.url.rstrip('/')}/api/0/organizations/{quote(own.organization, safe='')}"
            f"/releases/")
    headers = {"Content-Type": JSON, "Authorization": f"Bearer {token}"}
    if notice.kind == "started":
        body = {"version": notice.release, "projects": own.projects}
        if notice.commit:
            body["ref"] = notice.commit
        yield Post("sentry", base, headers, json.dumps(body).encode(), (200, 201, 208))
    elif notice.kind in ("finished", "pending"):
        deployed = {"environment": notice.environment, "dateStarted": _iso(notice.started),
                    "dateFinished": _iso(notice.ended)}
        yield Post("sentry", f"{base}{quote(notice.release, safe='')}/deploys/", headers,
                   json.dumps(deployed).encode(), (200, 201, 208))


def statuspage_scheduled(
    settings: NotificationsSettings, token: str, name: str, start: float, end: float, body: str
) -> Post:
    """A maintenance to come, for all to see. Its components are only named: a state that is sent
    with them is theirs from now on, however far off the maintenance is. Nor does the clock change
    any: the run knows when it begins and ends."""
    own = settings.statuspage
    return _statuspage(settings, token, "POST", "", {
        "name": name[:LONGEST_TITLE], "status": "scheduled", "body": body,
        "scheduled_for": _iso(start), "scheduled_until": _iso(end),
        "scheduled_auto_in_progress": False, "scheduled_auto_completed": False,
        "auto_transition_to_maintenance_state": False,
        "auto_transition_to_operational_state": False,
        "component_ids": own.components,
    })


def statuspage_update(
    settings: NotificationsSettings, token: str, incident: str, status: Status, body: str
) -> Post:
    """How it goes on; its components are under maintenance until it is completed. One that
    somebody has deleted there needs no completing."""
    own, over = settings.statuspage, status == "completed"
    state = "operational" if over else "under_maintenance"
    post = _statuspage(settings, token, "PATCH", f"/{quote(incident, safe='')}", {
        "status": status, "body": body, "component_ids": own.components,
        "components": dict.fromkeys(own.components, state),
    })
    return replace(post, fine=(*post.fine, 404)) if over else post


def _statuspage(
    settings: NotificationsSettings, token: str, method: str, path: str, told: dict[str, Any]
) -> Post:
    own = settings.statuspage
    address = f"{own.url.rstrip('/')}/v1/pages/{quote(own.page, safe='')}/incidents{path}"
    headers = {"Content-Type": JSON, "Authorization": f"OAuth {token}"}
    body = json.dumps({"incident": {**told, "deliver_notifications": own.deliver}}).encode()
    return Post("statuspage", address, headers, body, (200, 201), method, makes=method == "POST")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace(
        "+00:00", "Z")
