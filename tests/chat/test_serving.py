"""``fab chat.serve`` itself: over Socket Mode to a Slack on this machine, and its ends."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fabfile.chat.runs import Record
from fabfile.chat.serving import serve
from fabfile.errors import FabfleetError, InventoryError, Unavailable, UsageError
from tests.chat.conftest import CHANNEL, DEPLOYER, LOOKER, World, eventually
from tests.chat.fake_slack import BOT, TEAM
from tests.chat.payloads import slash

PATIENCE = 60


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("CHAT_APP_TOKEN", "xapp-test")
    monkeypatch.setenv("CHAT_BOT_TOKEN", "xoxb-test")
    configure(world)
    return world


def configure(world: World, name: str = "prod", **other: Any) -> None:
    known: dict[str, Any] = {
        "app_token": {"env": "CHAT_APP_TOKEN"}, "bot_token": {"env": "CHAT_BOT_TOKEN"},
        "api_url": world.slack.url, "channels": [CHANNEL], "status": [LOOKER],
        "deploy": [DEPLOYER],
    }
    world.inventory(name, **{key: value for key, value in {**known, **other}.items() if value})


class Serving:
    """The command as a process, and what it has printed."""

    def __init__(self, world: World, env: str = "prod") -> None:
        self.path = world.folder / "printed"
        self.out = self.path.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fabfile.program", "chat.serve", f"--env={env}",
             f"--inventory={world.folder}/inventories"],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def printed(self) -> str:
        return self.path.read_text()

    def ready(self, times: int = 1) -> None:
        eventually(lambda: self.printed.count("chat: serves") >= times or self.process.poll(),
                   lambda: self.printed)
        assert self.process.poll() is None, self.printed

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(world: World, env: str = "prod") -> Iterator[Serving]:
    found = Serving(world, env)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.wait()
        found.out.close()


def envelope(name: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"envelope_id": name, "type": "slash_commands", "accepts_response_payload": True,
            "payload": payload}


def answers(world: World) -> list[dict[str, Any]]:
    return [said for said in world.slack.said("chat.update") if "nothing deployed yet"
            in said["text"]]


def test_over_socket_mode_until_it_is_told_to_end(configured: World) -> None:
    world = configured
    body = slash(LOOKER, CHANNEL, "status prod", world.slack.url)
    with serving(world, "prod") as bot:
        bot.ready()
        world.slack.socket.send(envelope("e1", body))
        world.slack.wait(lambda: answers(world))
        world.slack.socket.send(envelope("e2", body))
        world.slack.socket.wait(lambda: len(world.slack.socket.heard) == 2)
        assert [each["envelope_id"] for each in world.slack.socket.heard] == ["e1", "e2"]
        assert world.verdicts() == ["allowed", "replayed"]
        world.slack.socket.send({"type": "disconnect", "reason": "refresh_requested"})
        world.slack.socket.wait(lambda: len(world.slack.socket.links) == 2)
        again = slash(LOOKER, CHANNEL, "status prod", world.slack.url)
        world.slack.socket.send(envelope("e3", again))
        world.slack.wait(lambda: len(answers(world)) == 2)
        assert bot.end(signal.SIGTERM) == 0
        assert "chat: stopped" in bot.printed
        assert "Traceback" not in bot.printed
    assert "xapp-test" not in bot.printed


@pytest.mark.soak  # until slack_sdk notices
def test_it_connects_again_when_the_connection_breaks(configured: World) -> None:
    socket = configured.slack.socket
    with serving(configured) as bot:
        bot.ready()
        socket.wait(lambda: socket.links)
        socket.cut()
        eventually(lambda: socket.links, lambda: bot.printed)
        body = slash(LOOKER, CHANNEL, "status prod", configured.slack.url)
        socket.send(envelope("e1", body))
        configured.slack.wait(lambda: answers(configured))
        assert bot.end(signal.SIGTERM) == 0
        assert "xapp-test" not in bot.printed


def test_ctrl_c_ends_it_with_its_own_status(configured: World) -> None:
    with serving(configured) as bot:
        bot.ready()
        assert bot.end(signal.SIGINT) == 130
        assert bot.printed.endswith("interrupted\n")
        assert "Traceback" not in bot.printed


def test_what_runs_goes_on_when_it_ends(configured: World) -> None:
    folder = configured.state / BOT
    folder.mkdir(parents=True)
    record = Record("0" * 16, DEPLOYER, DEPLOYER, CHANNEL, "5.1", "prod", "deploy prod v1")
    (folder / f"{record.id}.json").write_text(json.dumps(asdict(record)))
    with (folder / f"{record.id}.status").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as its keeper does
        with serving(configured) as bot:
            bot.ready()
            configured.slack.text(f"`deploy prod v1` runs ({record.id})")
            assert bot.end(signal.SIGTERM) == 0
    assert f"chat: goes on telling of deploy prod v1 ({record.id})" in bot.printed
    assert bot.printed.endswith(f"chat: goes on without me: deploy prod v1 ({record.id}); look: "
                                f"fab status --env=prod\n")
    assert (folder / f"{record.id}.json").exists()


def test_a_second_one_for_the_same_bot_is_refused(configured: World) -> None:
    with serving(configured) as bot:
        bot.ready()
        with serving(configured) as other:
            assert other.process.wait(PATIENCE) == 75
        expected = (f"fab chat.serve runs already for this bot: process {bot.process.pid}, for "
                    f"prod\n")
        assert expected in other.printed
        assert bot.end(signal.SIGTERM) == 0


# --- what keeps it from serving


def refused(world: World, env: str = "prod") -> FabfleetError:
    with pytest.raises(FabfleetError) as error:
        serve(env, str(world.folder / "inventories"))
    return error.value


def test_without_slack_bolt(configured: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *more: None if name == "slack_bolt" else real(name, *more))
    error = refused(configured)
    assert isinstance(error, UsageError)
    assert str(error) == ("slack_bolt is not installed on the controller; in the checkout: "
                          ".venv/bin/pip install -e '.[chat]'")


@pytest.mark.parametrize(("other", "told"), [
    ({"app_token": None}, "chat.app_token: missing; fab chat.serve needs it, see docs/chat.md"),
    ({"bot_token": None}, "chat.bot_token: missing; fab chat.serve needs it, see docs/chat.md"),
    ({"channels": []}, "chat.channels: names no channel, so nobody may ask anything"),
    ({"status": [], "deploy": []}, "chat.status: neither this nor deploy names anybody who may "
                                   "ask"),
])
def test_what_the_inventory_lacks(configured: World, other: dict[str, Any], told: str) -> None:
    configure(configured, **other)
    error = refused(configured)
    assert isinstance(error, InventoryError)
    assert str(error).endswith(f"/prod/group_vars/all.yml: {told}")


def test_one_bot_has_one_app(configured: World) -> None:
    configure(configured, "staging", bot_token={"env": "ANOTHER"})
    assert str(refused(configured, "staging,prod")).endswith(
        "chat.bot_token: differs from the one of staging; one bot has one Slack app")


def test_an_environment_that_is_not_there(configured: World) -> None:
    assert "--env=nowhere: no such environment" in str(refused(configured, "prod,nowhere"))


def test_a_secret_that_cannot_be_had(
    configured: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHAT_APP_TOKEN")
    error = refused(configured)
    assert isinstance(error, UsageError)
    assert "chat.app_token: secret env:CHAT_APP_TOKEN: this environment variable" in str(error)


@pytest.mark.parametrize(("method", "told"), [
    ("auth.test", "chat.bot_token: Slack refuses it: invalid_auth"),
    ("apps.connections.open", "chat.app_token: Slack refuses it: invalid_auth"),
])
def test_a_token_that_slack_refuses(configured: World, method: str, told: str) -> None:
    configured.slack.failing[method] = "invalid_auth"
    error = refused(configured)
    assert isinstance(error, Unavailable)
    assert str(error) == told


def test_slack_out_of_reach(configured: World) -> None:
    configured.slack.silent = True
    error = refused(configured)
    assert isinstance(error, Unavailable)
    assert str(error).startswith(f"{configured.slack.url}: no answer: ")
    assert TEAM not in str(error)


def test_a_token_where_its_place_belongs_is_not_printed(configured: World) -> None:
    configure(configured, bot_token="xoxb-s3cret")
    assert str(refused(configured)).endswith(
        "chat.bot_token: expected a mapping, got something else")


def test_no_heavy_module_is_loaded_before_it_is_needed() -> None:
    asked = "import sys, fabfile.program; print([m for m in sys.modules if 'slack' in m])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).resolve().parents[2])
    assert done.stdout == "[]\n"
