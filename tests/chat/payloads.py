"""Deliveries as Slack makes them."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any
from urllib.parse import urlencode

from slack_bolt import BoltRequest
from slack_bolt.adapter.socket_mode.internals import build_headers
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.request import SocketModeRequest

from tests.chat.fake_slack import BOT, TEAM

NUMBERS = itertools.count(1)


def slash(user: str, channel: str, text: str, url: str, team: str = TEAM) -> dict[str, Any]:
    return {"token": "x", "team_id": team, "team_domain": "home", "channel_id": channel,
            "channel_name": "deploys", "user_id": user, "user_name": "somebody", "command": "/fab",
            "text": text, "api_app_id": "A1", "response_url": f"{url}respond",
            "trigger_id": f"{next(NUMBERS)}.2.x"}


def mention(user: str, channel: str, text: str, ts: str = "77.1") -> dict[str, Any]:
    return {"token": "x", "team_id": TEAM, "api_app_id": "A1", "type": "event_callback",
            "event_id": f"Ev{next(NUMBERS)}", "event_time": int(time.time()),
            "authorizations": [{"team_id": TEAM, "user_id": BOT, "is_bot": True,
                                "enterprise_id": None, "is_enterprise_install": False}],
            "event": {"type": "app_mention", "user": user, "text": f"<@{BOT}> {text}", "ts": ts,
                      "channel": channel, "team": TEAM, "event_ts": ts}}


def click(
    user: str, channel: str, message: str, action: str, value: str, url: str
) -> dict[str, Any]:
    return {"type": "block_actions", "token": "x", "api_app_id": "A1",
            "team": {"id": TEAM, "domain": "home"}, "enterprise": None,
            "is_enterprise_install": False,
            "user": {"id": user, "username": "somebody", "team_id": TEAM},
            "channel": {"id": channel, "name": "deploys"},
            "container": {"type": "message", "message_ts": message, "channel_id": channel},
            "message": {"type": "message", "ts": message, "text": "…", "user": BOT},
            "trigger_id": f"{next(NUMBERS)}.2.x", "response_url": f"{url}respond",
            "actions": [{"type": "button", "action_id": action, "block_id": "b", "value": value,
                         "action_ts": "78.1"}]}


def over_socket(body: dict[str, Any], **headers: str) -> BoltRequest:
    """The headers are slack_bolt's own of an envelope; an event's tells which try it is."""
    attempt = 0 if body.get("type") == "event_callback" else None
    made = build_headers(SocketModeRequest("events_api", "e1", body, retry_attempt=attempt))
    return BoltRequest(mode="socket_mode", body=body, headers={**(made or {}), **headers})


def over_http(
    body: dict[str, Any], secret: str, at: float | None = None, **headers: str
) -> BoltRequest:
    """Signed with this secret at that moment."""
    if body.get("type") == "event_callback":
        text, kind = json.dumps(body), "application/json"
    else:
        said = {"payload": json.dumps(body)} if "actions" in body else body
        text, kind = urlencode(said), "application/x-www-form-urlencoded"
    stamp = str(int(time.time() if at is None else at))
    signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=text)
    assert signature is not None
    return BoltRequest(body=text, headers={
        "content-type": kind, "x-slack-request-timestamp": stamp, "x-slack-signature": signature,
        **headers})
