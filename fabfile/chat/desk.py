"""What becomes of a request: refused, answered, or a plan that waits for its confirmation."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fabfile.chat import commit, texts
from fabfile.chat.allowed import (
    NOWHERE,
    is_known,
    refusal,
    refused_cancelling,
    refused_confirmation,
)
from fabfile.chat.audit import Audit
from fabfile.chat.offers import Forged, Offer, Offers, Purpose, new_id
from fabfile.chat.runs import Record, Runs
from fabfile.chat.served import Served
from fabfile.chat.slack import Blocks, Slack, Unsaid
from fabfile.chat.words import HELP, LONGEST, Unclear, Words, parse
from fabfile.display.plans import brief
from fabfile.engine import children
from fabfile.errors import FabfleetError, Failed
from fabfile.plan import from_json

# Of all that looks at hosts at the same time.
TOGETHER = 8
# Seconds for what only looks; a first look at a new commit downloads its wheels.
PATIENCE = 900
# Messages that a plan may take.
PARTS = 12
NOT_OURS = ("this button is not mine, or not any more: I was started anew since. Nothing was done; "
            "please ask again")


@dataclass(frozen=True)
class Request:
    """Somebody wrote. ``thread``: where the answer belongs; ``answer`` tells that person alone."""

    user: str
    channel: str
    text: str
    thread: str
    answer: Callable[[str], None]


@dataclass(frozen=True)
class Click:
    """Somebody pressed a button of ``message``, or says so."""

    user: str
    channel: str
    message: str
    purpose: Purpose
    value: str
    answer: Callable[[str], None]


class Desk:
    """``clock`` in seconds since the epoch."""

    def __init__(
        self, served: Served, slack: Slack, audit: Audit, runs: Runs,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.served, self.slack, self.audit, self.runs = served, slack, audit, runs
        self.clock = clock
        self.offers = Offers()
        self._places = threading.BoundedSemaphore(TOGETHER)

    def take(self, what: Request | Click) -> None:
        """At once; the work is a thread's own, as Slack waits three seconds for a word."""
        threading.Thread(target=self._guarded, args=(what,), daemon=True).start()

    def _guarded(self, what: Request | Click) -> None:
        try:
            if isinstance(what, Request):
                self._asked(what)
            else:
                self._clicked(what)
        except Exception as error:  # noqa: BLE001 - no request may end the bot
            if os.environ.get("FABFLEET_DEBUG"):
                traceback.print_exc()
            why = f"{type(error).__name__}: {error}"
            self.served.note(f"a request of {what.user} failed: {why}")
            with suppress(OSError):  # which may be what failed
                self.audit.write("failed", user=what.user, channel=what.channel, environment="",
                                 words="", why=why)
            what.answer("that went wrong here, and my log says how; look at fab status before you "
                        "ask again")

    # --- what is asked

    def _asked(self, request: Request) -> None:
        settings = self.served.settings()
        known = {"request": new_id(), "user": request.user, "channel": request.channel,
                 "words": request.text[:LONGEST], "environment": ""}
        if not is_known(settings, request.user, request.channel):
            self.audit.write("refused", **known, why="nobody who may ask in this channel")
            request.answer(NOWHERE)
            return
        try:
            words = parse(request.text)
        except Unclear as error:
            self.audit.write("refused", **known, why=f"not understood: {error}")
            request.answer(f"{error}. What I know:\n{HELP}")
            return
        known.update(words=str(words), environment=words.environment)
        said, why = refusal(settings, words, request.user, request.channel)
        if why:
            self.audit.write("refused", **known, why=why)
            request.answer(said)
            return
        self.audit.write("allowed", **known)
        if words.verb == "help":
            request.answer(HELP)
        elif not self._places.acquire(blocking=False):
            request.answer("too many ask at once; please ask again in a minute")
        else:
            try:
                self._answer(request, words, known)
            finally:
                self._places.release()

    def _answer(self, request: Request, words: Words, known: dict[str, Any]) -> None:
        asks = f"<@{request.user}> asks: {texts.code(str(words))}"
        try:
            message = self.slack.post(request.channel, f"{asks}; looking", request.thread)
        except Unsaid as error:
            request.answer(f"I cannot write in this channel ({error}); invite me first")
            self.audit.write("failed", **known, why=str(error))
            return
        try:
            if words.changes:
                self._offer(request, words, known, message, asks)
            else:
                task = (words.verb, *self.served.options(words.environment), *_ref(words.ref))
                found = self._fab(request.user, task)
                how = "" if found.status == 0 else texts.meaning(found.status)
                self._change(request, message, texts.joined(
                    asks, texts.tail(found.out + found.err, self.served.hidden, 40), how))
        except FabfleetError as error:
            self.audit.write("failed", **known, why=str(error))
            self._change(request, message, texts.joined(
                f"{asks}: nothing was changed", texts.tail(str(error), self.served.hidden, 40)))

    def _change(self, request: Request, message: str, text: str, blocks: Blocks = ()) -> None:
        """Nobody waits for an answer that Slack did not take."""
        if not self.slack.change(request.channel, message, text, blocks):
            request.answer(f"Slack did not take my answer to {texts.code(request.text[:LONGEST])}; "
                           f"please ask again")

    def _fab(self, user: str, task: Sequence[str]) -> children.Answer:
        return self._ask(user, [*self.runs.program, *task])

    def _ask(self, user: str, words: Sequence[str]) -> children.Answer:
        return children.ask(words, self.served.variables(f"{user} (chat)"), PATIENCE)

    def _told(self, user: str, task: Sequence[str]) -> Any:
        """What a task said in JSON. Raises :class:`Failed` with its own words."""
        found = self._fab(user, (*task, "--json"))
        if found.status != 0:
            raise Failed(f"{found.err.strip()}\n{texts.meaning(found.status)}")
        return json.loads(found.out)

    # --- what is offered

    def _offer(
        self, request: Request, words: Words, known: dict[str, Any], message: str, asks: str
    ) -> None:
        environment = self.served.open(words.environment)
        settings = self.served.settings()[words.environment]
        task = self._pinned(request.user, words)
        if environment.has_migrations:
            release = [word for word in task if word.startswith("--ref=")]
            found = self._told(request.user, ("migrations",
                                              *self.served.options(words.environment), *release))
            task = (*task, f"--approved-plan={found['hash']}")
        shown = self._told(request.user, (*task, "--dry-run"))
        digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
        plan = "\n".join(line for each in shown["plans"] for line in brief(from_json(each)))
        thread = request.thread or message
        parts = texts.blocks(plan, self.served.hidden)
        if len(parts) > 1:
            parts = [self._in_parts(request.channel, thread, parts)]
        offer = Offer(known["request"], request.user, request.channel, message,
                      thread, words.environment, str(words),
                      (*task, "--yes"), digest, self.clock() + settings.expires)
        self.offers.add(offer, self.clock())
        self.audit.write("offered", **known, plan=digest, task=list(offer.task))
        who = "Somebody else has to confirm it" if settings.confirm_by_another else "Go on?"
        text = texts.joined(asks, *parts, _pin(task),
                            f"{who} (until {texts.until(offer.expires)})")
        self._change(request, message, text, self._with_buttons(text, offer))

    def _in_parts(self, channel: str, thread: str, parts: Sequence[str]) -> str:
        """A plan that no single message can hold stands in the thread, whole, or is not offered.
        Says where it is."""
        if len(parts) > PARTS:
            raise Failed(f"the plan is too long for a chat ({len(parts)} messages); deploy from a "
                         f"terminal")
        for part in parts:
            try:
                self.slack.post(channel, part, thread)
            except Unsaid as error:
                raise Failed(f"Slack did not take the whole plan: {error}") from None
        return f"the plan is in the thread, in {len(parts)} messages"

    def _pinned(self, user: str, words: Words) -> tuple[str, ...]:
        """The task with the commit that the ref means now: what is shown is what runs."""
        found = self._ask(
            user, [*commit.PROGRAM, words.environment, self.served.inventory, words.ref])
        if found.status != 0:
            raise Failed(found.err.strip())
        return ("deploy", *self.served.options(words.environment),
                *_ref(found.out.strip() or words.ref),
                *(["--maintenance"] if words.verb == "maintenance" else []))

    def _with_buttons(self, text: str, offer: Offer) -> Blocks:
        def button(purpose: Purpose, label: str, style: str) -> dict[str, Any]:
            return {"type": "button", "action_id": f"fab_{purpose}", "style": style,
                    "text": {"type": "plain_text", "text": label},
                    "value": self.offers.button(purpose, offer)}

        return [
            {"type": "section", "text": {"type": "mrkdwn", "text": text}},
            {"type": "actions", "elements": [
                button("confirm", "Confirm", "primary"), button("cancel", "Cancel", "danger")]},
        ]

    # --- what is clicked

    def _clicked(self, click: Click) -> None:
        known: dict[str, Any] = {"user": click.user, "channel": click.channel,
                                 "words": click.purpose}
        try:
            offer = self.offers.of(click.purpose, click.value)
        except Forged:
            self.audit.write("forged", **known, environment="", why="the button's code is wrong")
            click.answer(NOT_OURS)
            return
        known |= {"request": offer.id, "environment": offer.environment, "words": offer.words}
        if (click.channel, click.message) != (offer.channel, offer.message):
            self.audit.write("forged", **known, why="the button of another message")
            click.answer(NOT_OURS)
            return
        settings = self.served.settings().get(offer.environment)
        if click.purpose == "confirm":
            why = refused_confirmation(settings, offer.user, click.user, click.channel)
        else:
            why = refused_cancelling(settings, offer.user, click.user)
        if why:
            self.audit.write("refused", **known, why=why)
            click.answer(why)
            return
        how = "confirmed" if click.purpose == "confirm" else "cancelled"
        before = self.offers.end(offer, "confirmed" if how == "confirmed" else "cancelled",
                                 click.user, self.clock())
        if before is not None:
            self._too_late(click, offer, known, *before)
        elif how == "confirmed":
            self._run(click, offer, known)
        else:
            self.audit.write("cancelled", **known)
            self._without_buttons(offer, f"cancelled by <@{click.user}>; nothing was changed")

    def _too_late(
        self, click: Click, offer: Offer, known: dict[str, Any], how: str, user: str
    ) -> None:
        if how == "expired":
            self.audit.write("expired", **known)
            click.answer("this plan has expired; please ask again")
            self._without_buttons(offer, "expired; nothing was changed")
        else:
            self.audit.write("replayed", **known, why=f"already {how} by {user}")
            click.answer(f"already {how} by <@{user}>")

    def _run(self, click: Click, offer: Offer, known: dict[str, Any]) -> None:
        who = offer.user if offer.user == click.user else f"{offer.user}, confirmed by {click.user}"
        self.audit.write("confirmed", **known, plan=offer.plan, task=list(offer.task))
        record = Record(offer.id, offer.user, click.user, offer.channel, offer.thread,
                        offer.environment, offer.words)
        self.runs.start(record, offer.task, self.served.variables(f"{who} (chat)"))
        self._without_buttons(offer, f"confirmed by <@{click.user}>")

    def _without_buttons(self, offer: Offer, end: str) -> None:
        asks = f"<@{offer.user}> asks: {texts.code(offer.words)}"
        self.slack.change(offer.channel, offer.message, f"{asks}: {end}")


def _ref(ref: str) -> tuple[str, ...]:
    return (f"--ref={ref}",) if ref else ()


def _pin(task: Sequence[str]) -> str:
    commit = next((word[6:] for word in task if word.startswith("--ref=")), "")
    return (f"commit {texts.code(commit[:12])}" if commit else
            "from a plain folder, which may change until it runs")
