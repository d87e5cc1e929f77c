"""slack_bolt's app around the desk: what Slack delivers, checked, and handed over."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from slack_bolt import Ack, App, BoltContext, BoltRequest, BoltResponse
from slack_bolt.middleware import Middleware
from slack_bolt.middleware.request_verification import RequestVerification
from slack_sdk import WebClient

from fabfile.chat.allowed import CHANNEL, USER
from fabfile.chat.audit import Audit
from fabfile.chat.desk import Click, Desk, Request
from fabfile.chat.offers import Purpose
from fabfile.chat.seen import OLDEST, Seen

Next = Callable[[], BoltResponse]
MENTION = re.compile(r"\s*<@[UW][A-Z0-9]+(\|[^>]*)?>")


class Signed(RequestVerification):
    """slack_bolt's own check of signature and age, recorded. Without a secret there are no requests
    over HTTP: an empty key would be anybody's."""

    def __init__(self, secret: str, audit: Audit, logger: logging.Logger) -> None:
        super().__init__(secret, logger)
        self.secret, self.audit = secret, audit

    def process(self, *, req: BoltRequest, resp: BoltResponse, next: Next) -> BoltResponse:  # noqa: A002 - slack_bolt's name
        if req.mode == "socket_mode":
            return next()
        answer: BoltResponse | None = (
            super().process(req=req, resp=resp, next=next) if self.secret
            else BoltResponse(status=401, body={"error": "invalid request"}))
        if answer is not None and answer.status == 401:
            self.audit.write("forged", user="", channel="", environment="", words="",
                             why="the signature is wrong, missing or old")
        return answer  # type: ignore[return-value] # nothing is what `next` returns


class Once(Middleware):
    """Each delivery counts once, while it is new, and from people of the bot's own workspace."""

    def __init__(self, audit: Audit, clock: Callable[[], float], home: Mapping[str, str]) -> None:
        self.audit, self.clock, self.home = audit, clock, home
        self.seen = Seen()

    def process(self, *, req: BoltRequest, resp: BoltResponse, next: Next) -> BoltResponse:  # noqa: A002 - slack_bolt's name
        verdict = self._verdict(req)
        if verdict is None:
            return next()
        kind, why = verdict
        self.audit.write("replayed" if kind == "replayed" else "refused",
                         user=str(req.context.user_id or ""), words="", environment="",
                         channel=str(req.context.channel_id or ""), why=why)
        # Taken, so that Slack does not deliver it again.
        return BoltResponse(status=200, body="")

    def _verdict(self, req: BoltRequest) -> tuple[str, str] | None:
        body, context = req.body, req.context
        name = body.get("event_id") or body.get("trigger_id")
        if not isinstance(name, str) or not name:
            return "refused", "a delivery without an id"
        # Over Socket Mode the first delivery has the number 0.
        (retry, *_) = req.headers.get("x-slack-retry-num") or ["0"]
        if retry != "0" or not self.seen.is_new(name, self.clock()):
            return "replayed", (f"Slack's try {retry} once more" if retry != "0" else
                                "delivered before")
        when = body.get("event_time")
        if when is not None and not _is_recent(when, self.clock()):
            return "replayed", "an old event"
        if not USER.fullmatch(context.user_id or "") or not CHANNEL.fullmatch(
                context.channel_id or ""):
            return "refused", "nobody, or nowhere"
        if not self._is_at_home(body, context):
            return "refused", "from another workspace"
        return None

    def _is_at_home(self, body: Mapping[str, Any], context: BoltContext) -> bool:
        # In a channel shared with others, a click's `team` is ours, whoever clicked.
        user = body.get("user")
        team = user.get("team_id") if isinstance(user, dict) else None
        if (team or context.actor_team_id) == self.home["team"]:
            return True
        organization = self.home.get("enterprise")
        return bool(organization) and context.actor_enterprise_id == organization


def _is_recent(when: object, now: float) -> bool:
    return isinstance(when, int | float) and abs(now - when) <= OLDEST


def quiet_logger(name: str = "fabfleet.chat") -> logging.Logger:
    """Warnings and errors only: what is finer quotes requests."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.WARNING)
    return logger


def make(client: WebClient, desk: Desk, home: Mapping[str, str], secret: str = "") -> App:
    """slack_bolt's app. ``home``: the bot's ``team`` and, in Enterprise Grid, ``enterprise``."""
    logger = quiet_logger()
    app = App(
        client=client, name="fabfleet", logger=logger, signing_secret=secret,
        request_verification_enabled=False,  # its successor records what it refuses
        before_authorize=Signed(secret, desk.audit, logger),
    )
    app.use(Once(desk.audit, desk.clock, home))
    slack = desk.slack

    @app.command(re.compile(r"/.+"))
    def asked(ack: Ack, command: Mapping[str, Any], context: BoltContext) -> None:
        ack()
        address = str(command.get("response_url", ""))
        desk.take(Request(context.user_id or "", context.channel_id or "",
                          str(command.get("text", "")), "",
                          lambda text: slack.respond(address, text)))

    @app.event("app_mention")
    def mentioned(event: Mapping[str, Any], context: BoltContext) -> None:
        user, channel = context.user_id or "", context.channel_id or ""
        thread = str(event.get("thread_ts") or event.get("ts", ""))
        text = MENTION.sub("", str(event.get("text", "")), count=1)
        desk.take(Request(user, channel, text, thread,
                          lambda told: slack.whisper(channel, user, told, thread)))

    def clicked(purpose: Purpose) -> Callable[..., None]:
        def click(ack: Ack, body: Mapping[str, Any], action: Mapping[str, Any],
                  context: BoltContext) -> None:
            ack()
            address = str(body.get("response_url", ""))
            desk.take(Click(context.user_id or "", context.channel_id or "",
                            str(body.get("message", {}).get("ts", "")), purpose,
                            str(action.get("value", "")),
                            lambda text: slack.respond(address, text)))
        return click

    app.action("fab_confirm")(clicked("confirm"))
    app.action("fab_cancel")(clicked("cancel"))
    return app
