"""The whole story: the bot as a process, the real engine, two servers on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chat.conftest import CHANNEL, DEPLOYER, eventually
from tests.chat.fake_slack import FakeSlack
from tests.chat.payloads import click, mention

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in found]


class Story:
    def __init__(self, folder: Path, slack: FakeSlack) -> None:
        self.folder, self.slack = folder, slack
        self.ports = free_ports(2)
        self.site = folder / "site"
        shutil.copytree(CHECKOUT / "tests" / "sites" / "shop", self.site)
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "one")
        self.commit = self.git("rev-parse", "HEAD")
        self.inventory()
        self.environment = {
            **os.environ, "FABFLEET_INVENTORY": str(folder / "inventories"),
            "FABFLEET_STATE": str(folder / "state"), "FABFLEET_CACHE": str(folder / "cache"),
            "CHAT_APP_TOKEN": "xapp-test", "CHAT_BOT_TOKEN": "xoxb-test",
        }
        self.envelopes = 0
        self.start()

    def git(self, *words: str) -> str:
        settings = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "gc.auto=0")
        done = subprocess.run(["git", "-C", str(self.site), *settings, *words],
                              capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def inventory(self) -> None:
        here = self.folder / "inventories" / "local"
        shutil.copytree(CHECKOUT / "inventories" / "local", here)
        hosts = yaml.safe_load((here / "hosts.yml").read_text())
        for host, port in zip(hosts["web"]["hosts"].values(), self.ports, strict=True):
            host["port"] = port
        (here / "hosts.yml").write_text(yaml.safe_dump(hosts))
        settings = yaml.safe_load((here / "group_vars" / "all.yml").read_text())
        settings["state"] = str(self.folder / "servers")
        # A dry run makes nothing, and SQLite's file needs its folder.
        (self.folder / "servers").mkdir()
        settings["release"] = {"repository": str(self.site), "ref": "main"}
        settings["chat"] = {
            "app_token": {"env": "CHAT_APP_TOKEN"}, "bot_token": {"env": "CHAT_BOT_TOKEN"},
            "api_url": self.slack.url, "channels": [CHANNEL], "deploy": [DEPLOYER],
        }
        (here / "group_vars" / "all.yml").write_text(yaml.safe_dump(settings))

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "fabfile.program", *words, "--env=local"]

    def start(self) -> None:
        links = len(self.slack.socket.links)
        with (self.folder / "printed").open("ab") as out:
            self.bot = subprocess.Popen(self.words("chat.serve"), env=self.environment, stdout=out,
                                        stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        eventually(lambda: len(self.slack.socket.links) > links,
                   (self.folder / "printed").read_text)

    def deliver(self, kind: str, payload: dict[str, Any]) -> None:
        self.envelopes += 1
        first = {"retry_attempt": 0, "retry_reason": ""} if kind == "events_api" else {}
        self.slack.socket.send({"envelope_id": f"e{self.envelopes}", "type": kind, **first,
                                "accepts_response_payload": False, "payload": payload})

    def ask(self, text: str) -> None:
        self.deliver("events_api", mention(DEPLOYER, CHANNEL, text))

    def press(self, number: int) -> None:
        """Confirm the plan of this number, counted from 1, as soon as it is there."""
        offer = self.slack.wait(lambda: self.offers()[number - 1:])[0]
        value = offer["blocks"][1]["elements"][0]["value"]
        self.deliver("interactive", click(DEPLOYER, CHANNEL, offer["ts"], "fab_confirm", value,
                                          self.slack.url))

    def offers(self) -> list[dict[str, Any]]:
        return [said for said in self.slack.said("chat.update")
                if "fab_confirm" in str(said.get("blocks"))]

    def audit(self) -> list[dict[str, Any]]:
        text = (self.folder / "state" / "chat" / "audit.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def releases(self) -> set[str]:
        found = set()
        for port in self.ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as page:
                found.add(json.load(page)["release"])
        return found

    def fab(self, *words: str) -> str:
        done = subprocess.run(self.words(*words), env=self.environment, capture_output=True,
                              text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
        return done.stdout + done.stderr

    def down(self) -> None:
        if self.bot.poll() is None:
            self.bot.kill()
        self.bot.wait()
        self.fab("stop")


@pytest.fixture
def story(tmp_path: Path, slack: FakeSlack) -> Iterator[Story]:
    made = Story(tmp_path, slack)
    yield made
    made.down()


def test_deploys_by_the_bot(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chat.fake_slack.PATIENCE", 90)
    monkeypatch.setattr("tests.chat.conftest.PATIENCE", 90)
    slack = story.slack
    # A first deploy, from the mention to two servers that answer.
    story.ask("deploy local main")
    story.press(1)
    slack.text("is done: done")
    (release,) = story.releases()
    assert story.commit[:7] in release
    offered = next(line for line in story.audit() if line["verdict"] == "offered")
    assert f"--ref={story.commit}" in offered["task"]
    assert any(word.startswith("--approved-plan=") for word in offered["task"])

    # The fleet is frozen: the same lock as everybody's.
    (story.site / "new.txt").write_text("new\n")
    story.git("add", "-A")
    story.git("commit", "-q", "-m", "two")
    story.fab("lock", "--reason=tests")
    story.ask("deploy local")
    story.press(2)
    assert "local is frozen by" in slack.text("ended with exit status 75")["text"]
    story.fab("unlock")
    assert story.releases() == {release}

    # The bot is killed in the midst of a deploy, which goes on; the next one tells its end.
    story.ask("maintenance local")
    story.press(3)
    # The lock says whose run it is, as long as it is held.
    eventually(lambda: f"{DEPLOYER} (chat) via " in locks(story), story.audit)
    slack.wait(lambda: [said for _, said in slack.calls if "maintenance local` runs" in
                        said.get("text", "") and "```" in said["text"]])
    story.bot.send_signal(signal.SIGKILL)
    story.bot.wait()
    assert [line["verdict"] for line in story.audit()].count("ended") == 2
    story.start()
    eventually(lambda: [line for line in story.audit() if line["verdict"] == "ended"][2:],
               story.audit)
    assert [line["exit"] for line in story.audit() if line["verdict"] == "ended"] == [0, 75, 0]
    (after,) = story.releases()
    assert after != release
    assert story.git("rev-parse", "--short=7", "HEAD") in after

    # Told to end, it does so, and nothing that it said holds what it must not.
    story.bot.send_signal(signal.SIGTERM)
    assert story.bot.wait(60) == 0
    said = json.dumps([said for method, said in slack.calls if method.startswith("chat.")])
    assert "xoxb-test" not in said
    assert "only-for-local-staging" not in said


def locks(story: Story) -> str:
    """The locks of both hosts; the migration host's is the fleet's."""
    return "".join(path.read_text(errors="replace")
                   for path in (story.folder / "servers").glob("*/.fabfleet/lock*")
                   if path.is_file())
