"""``fab chat.serve``: connect, serve, and leave cleanly; what runs goes on."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fabfile.engine.journal import state_folder
from fabfile.engine.secrets import resolve
from fabfile.environment import Environment, open_environment
from fabfile.errors import InventoryError, LockHeld, Unavailable, UsageError
from roles.app import SecretSettings
from roles.chat import ChatSettings

if TYPE_CHECKING:
    from slack_bolt import App
    from slack_sdk import WebClient

    from fabfile.chat.runs import Runs

# Seconds; after five in vain slack_sdk takes a connection for broken, and makes another.
PING = 3
SECRETS = ("app_token", "bot_token", "signing_secret")


def serve(env: str, inventory: str) -> None:
    """Until SIGTERM, or Ctrl-C. Raises :class:`UsageError`, :class:`InventoryError`,
    :class:`Unavailable` and, where another one serves already, :class:`LockHeld`."""
    if importlib.util.find_spec("slack_bolt") is None:
        raise UsageError("slack_bolt is not installed on the controller; "
                         "in the checkout: .venv/bin/pip install -e '.[chat]'")
    names = [each.strip() for each in (env or os.environ.get("FABFLEET_ENV", "")).split(",")]
    environments = [open_environment(name, inventory or None) for name in dict.fromkeys(names)]
    settings = _agreed(environments)
    _serve(environments, inventory, settings)


def _agreed(environments: list[Environment]) -> ChatSettings:
    """The settings of the one Slack app. Raises :class:`InventoryError` with all problems."""
    problems = []
    first = environments[0].of(ChatSettings, "chat")
    for environment in environments:
        host = environment.hosts[0]
        own = environment.of(ChatSettings, "chat")
        problems += [f"{host.where('chat', key)}: missing; fab chat.serve needs it, see "
                     f"docs/chat.md"
                     for key in ("app_token", "bot_token") if getattr(own, key) is None]
        if not own.channels:
            problems.append(f"{host.where('chat', 'channels')}: names no channel, so nobody may "
                            f"ask anything")
        if not own.status and not own.deploy:
            problems.append(f"{host.where('chat', 'status')}: neither this nor deploy names "
                            f"anybody who may ask")
        problems += [f"{host.where('chat', key)}: differs from the one of "
                     f"{environments[0].name}; one bot has one Slack app"
                     for key in (*SECRETS, "api_url") if getattr(own, key) != getattr(first, key)]
    if problems:
        raise InventoryError("\n".join(problems))
    return first


def _looked_up(environment: Environment, settings: ChatSettings) -> dict[str, str]:
    """The values of the secrets. Raises :class:`UsageError` for all that cannot be had."""
    found, missing = {}, []
    for key in SECRETS:
        secret: SecretSettings | None = getattr(settings, key)
        try:
            found[key] = resolve(secret.reference()) if secret else ""
        except UsageError as error:
            missing.append(f"{environment.hosts[0].where('chat', key)}: {error}")
    if missing:
        raise UsageError("\n".join(missing))
    return found


def _serve(environments: list[Environment], inventory: str, settings: ChatSettings) -> None:
    from slack_sdk import WebClient

    from fabfile.chat import bot
    from fabfile.chat.audit import Audit
    from fabfile.chat.desk import Desk
    from fabfile.chat.runs import Runs
    from fabfile.chat.served import Served
    from fabfile.chat.slack import TIMEOUT, Slack

    values = _looked_up(environments[0], settings)
    client = WebClient(values["bot_token"], base_url=settings.api_url, timeout=TIMEOUT,
                       logger=bot.quiet_logger())
    home = _home(client)
    names = tuple(each.name for each in environments)
    references = [getattr(settings, key) for key in SECRETS]
    served = Served(names, inventory, _note,
                    frozenset(each.env for each in references if each and each.env),
                    tuple(values.values()))
    folder = state_folder() / "chat"
    with _alone(folder / home["bot"], ",".join(names)) as own:
        slack, audit = Slack(client, _note), Audit(folder)
        runs = Runs(own, slack, audit, hidden=served.hidden)
        app = bot.make(client, Desk(served, slack, audit, runs), home, values["signing_secret"])
        for record in runs.resume():
            _note(f"goes on telling of {record.words} ({record.id})")
        _until_stopped(app, values["app_token"], runs, f"serves {', '.join(names)}")


def _home(client: WebClient) -> dict[str, str]:
    """Whose bot this is. Raises :class:`Unavailable`."""
    from slack_sdk.errors import SlackApiError

    from fabfile.chat.allowed import USER
    from fabfile.chat.slack import TROUBLE

    try:
        told = client.auth_test()
    except SlackApiError as error:
        raise Unavailable(f"chat.bot_token: Slack refuses it: {error.response['error']}") from None
    except TROUBLE as error:
        raise Unavailable(f"{client.base_url}: no answer: {type(error).__name__}") from None
    bot = str(told.get("user_id", ""))
    if not USER.fullmatch(bot) or not told.get("team_id"):
        raise Unavailable(f"{client.base_url}: does not say whose bot this is")
    return {"bot": bot, "team": str(told["team_id"]),
            "enterprise": str(told.get("enterprise_id") or "")}


@contextmanager
def _alone(folder: Path, names: str) -> Iterator[Path]:
    """Slack spreads requests over all connections of an app, and a plan is known to one process
    only. Raises :class:`LockHeld`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockHeld(f"fab chat.serve runs already for this bot: {file.read().strip()}"
                           ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, for {names}\n")
        file.flush()
        yield folder


def _until_stopped(app: App, token: str, runs: Runs, what: str) -> None:
    """SIGTERM is the end that was meant; Ctrl-C is one, too, and told by the exit status."""
    from slack_bolt.adapter.socket_mode import SocketModeHandler
    from slack_sdk.errors import SlackApiError

    from fabfile.chat.slack import TROUBLE

    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    handler = SocketModeHandler(app, token, ping_interval=PING)
    try:
        try:
            handler.connect()  # type: ignore[no-untyped-call]
        except SlackApiError as error:
            raise Unavailable(f"chat.app_token: Slack refuses it: {error.response['error']}"
                              ) from None
        except TROUBLE as error:
            raise Unavailable(f"Slack: no connection: {type(error).__name__}") from None
        _note(what)
        stop.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        runs.stop()
        handler.close()  # type: ignore[no-untyped-call]
        _note("stopped; open plans cannot be confirmed any more")
        for record in runs.working:
            _note(f"goes on without me: {record.words} ({record.id}); look: "
                  f"fab status --env={record.environment}")


def _note(text: str) -> None:
    print(f"chat: {text}", flush=True)


