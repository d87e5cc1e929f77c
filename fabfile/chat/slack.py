"""Writing to Slack: tried a few times and given up, as nothing here may harm a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

TRIES = 3
PAUSE = 1.0
LONGEST_PAUSE = 30.0
TIMEOUT = 10
PASSING = ("ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable",
           "request_timeout", "team_added_to_org")
TROUBLE = (SlackClientError, OSError, HTTPException, ValueError)
Blocks = Sequence[dict[str, Any]]


class Unsaid(Exception):
    """Why Slack did not take a message, without any address or token. ``passing``: it may later."""

    def __init__(self, said: str, passing: bool = False) -> None:
        super().__init__(said)
        self.passing = passing


class _Unwell(Exception):
    """An address for answers answered with this HTTP status."""

    def __init__(self, status: int, again: str) -> None:
        super().__init__(f"HTTP status {status}")
        self.passing, self.again = status == 429 or status >= 500, again


class Slack:
    """``note`` gets what was given up; ``pause`` in seconds is before the second try."""

    def __init__(
        self, client: WebClient, note: Callable[[str], None], pause: float = PAUSE
    ) -> None:
        self.client, self.note, self.pause = client, note, pause

    def post(self, channel: str, text: str, thread: str = "") -> str:
        """The new message's own id. Raises :class:`Unsaid`."""
        answer = self._try("chat.postMessage", lambda: self.client.chat_postMessage(
            channel=channel, text=text, thread_ts=thread or None, unfurl_links=False,
            unfurl_media=False))
        return str(answer["ts"])

    def say(self, channel: str, text: str, thread: str = "") -> str:
        """As :meth:`post`; what is not taken is noted, and has no id."""
        try:
            return self.post(channel, text, thread)
        except Unsaid as error:
            self.note(str(error))
            return ""

    def change(self, channel: str, message: str, text: str, blocks: Blocks = ()) -> bool:
        """Another text for a message; its buttons go where none are given. Whether it was taken."""
        if not message:
            return False
        try:
            self._try("chat.update", lambda: self.client.chat_update(
                channel=channel, ts=message, text=text, blocks=list(blocks)))
        except Unsaid as error:
            self.note(str(error))
            return False
        return True

    def whisper(self, channel: str, user: str, text: str, thread: str = "") -> None:
        """For one person's eyes."""
        try:
            self._try("chat.postEphemeral", lambda: self.client.chat_postEphemeral(
                channel=channel, user=user, text=text, thread_ts=thread or None))
        except Unsaid as error:
            self.note(str(error))

    def respond(self, address: str, text: str) -> None:
        """The same by the address that came with a request, which works in every channel."""
        hook = WebhookClient(address, timeout=TIMEOUT)

        def send() -> None:
            answer = hook.send(text=text, response_type="ephemeral", replace_original=False)
            if answer.status_code != 200:  # which it tells nobody
                raise _Unwell(answer.status_code, answer.headers.get("Retry-After", ""))

        try:
            self._try("response_url", send)
        except Unsaid as error:
            self.note(str(error))

    def _try(self, what: str, send: Callable[[], Any]) -> Any:
        pause = self.pause
        for number in range(1, TRIES + 1):
            try:
                return send()
            except SlackApiError as error:
                why = str(error.response.get("error", "no reason"))
                if why not in PASSING and error.response.status_code < 500:
                    raise Unsaid(f"{what}: {why}") from None
                pause = _asked(error.response.headers.get("Retry-After", ""), pause)
            except _Unwell as error:
                why = str(error)
                if not error.passing:
                    raise Unsaid(f"{what}: {why}") from None
                pause = _asked(error.again, pause)
            except TROUBLE as error:
                why = type(error).__name__
            if number < TRIES:
                time.sleep(pause)
                pause *= 2
        raise Unsaid(f"{what}: {why}, after {TRIES} tries", passing=True)


def _asked(seconds: str, otherwise: float) -> float:
    """The pause that Slack asks for."""
    return min(float(seconds), LONGEST_PAUSE) if seconds.isdigit() else otherwise
