from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from slack_bolt import App, BoltResponse
from slack_sdk import WebClient

from fabfile.chat import bot
from fabfile.chat.audit import Audit
from fabfile.chat.desk import Desk
from fabfile.chat.runs import Runs
from fabfile.chat.served import Served
from fabfile.chat.slack import Slack
from fabfile.plan import Plan, Stage, Turn, to_json
from roles.command import Run, command
from roles.role import Step
from tests.chat.fake_slack import TEAM, FakeSlack
from tests.chat.payloads import click, mention, over_socket, slash

LOOKER, DEPLOYER, OTHER, STRANGER = "U0LOOK", "U0DEPLOY", "U0OTHER", "U0NOBODY"
CHANNEL, STAGING_ONLY, ELSEWHERE = "C0DEPLOYS", "C0STAGING", "C0ELSEWHERE"
SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
HASH = "ab" * 32
PATIENCE = 30

# Instead of `fab`: writes down how it was called, and does what the files beside it say.
STAND_IN = '''
import json, os, pathlib, sys, time
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
with open(here / "calls", "a") as calls:
    asked_by = os.environ.get("FABFLEET_ASKED_BY")
    calls.write(json.dumps([words, asked_by, sorted(os.environ)]) + "\\n")
kind = "dry" if "--dry-run" in words else "run" if "--yes" in words else words[0]
told = json.loads((here / "told").read_text()).get(kind, {})
for line in told.get("lines", []):
    print(line, flush=True)
while (here / ("wait-" + kind)).exists():
    time.sleep(0.02)
print(told.get("last", ""), file=sys.stderr)
sys.exit(told.get("exit", 0))
'''


def example_plan() -> dict[str, Any]:
    step = Step("release.switch", "web1", (Run(command("true")),))
    stage = Stage("roll", "rolling", (Turn("web1", (step,)),))
    plan = Plan("release", "prod", "R1", "rolling", (stage,))
    return {"plans": [to_json(plan)]}


@dataclass
class World:
    """A bot for staging and prod, a Slack on this machine, and a stand-in for ``fab``."""

    folder: Path
    slack: FakeSlack
    now: float = field(default_factory=time.time)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stand_in = self.folder / "stand_in.py"
        self.stand_in.write_text(STAND_IN)
        self.tell("dry", lines=[json.dumps(example_plan())])
        self.tell("migrations", lines=[json.dumps({"hash": HASH})])
        self.site = self.folder / "site"
        self.site.mkdir()
        (self.site / "index.html").write_text("hello\n")
        self.git("init", "-q", "-b", "main")
        self.commit = self.new_commit()
        self.git("tag", "v1")
        self.inventory("staging", channels=[CHANNEL, STAGING_ONLY],
                       deploy=[DEPLOYER, OTHER, LOOKER])
        self.inventory("prod", channels=[CHANNEL], status=[LOOKER], deploy=[DEPLOYER, OTHER])
        self.state = self.folder / "state" / "chat"
        self.app = self.make()

    def make(self, secret: str = "", pause: float = 0.01) -> App:
        client = WebClient("xoxb-test", base_url=self.slack.url)
        slack = Slack(client, self.notes.append, pause)
        served = Served(("staging", "prod"), str(self.folder / "inventories"), self.notes.append,
                        frozenset({"CHAT_BOT_TOKEN"}), ("xoxb-test",))
        self.audit = Audit(self.state)
        self.runs = Runs(self.state / "bot", slack, self.audit,
                         [sys.executable, "-I", str(self.stand_in)], served.hidden, 0.05)
        self.desk = Desk(served, slack, self.audit, self.runs, lambda: self.now)
        return bot.make(client, self.desk, {"bot": "U0BOT", "team": TEAM, "enterprise": ""}, secret)

    # --- what there is

    def inventory(self, name: str, **chat: Any) -> None:
        folder = self.folder / "inventories" / name
        (folder / "group_vars").mkdir(parents=True, exist_ok=True)
        (folder / "hosts.yml").write_text("web: {hosts: {web1: {ansible_connection: local}}}\n")
        (folder / "group_vars" / "all.yml").write_text(yaml.safe_dump({
            "app": {"name": "shop", "root": str(self.folder / "srv")},
            "release": {"repository": str(self.site), "ref": "main"},
            "chat": chat,
        }))

    def git(self, *words: str) -> str:
        settings = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "gc.auto=0")
        done = subprocess.run(["git", "-C", str(self.site), *settings, *words],
                              capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def new_commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "one more")
        return self.git("rev-parse", "HEAD")

    def tell(self, kind: str, **told: Any) -> None:
        """What the stand-in does: ``lines``, ``last`` on standard error, ``exit``."""
        path = self.folder / "told"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, kind: told}))

    def hold(self, kind: str) -> Path:
        """The stand-in waits until this file is gone."""
        path = self.folder / f"wait-{kind}"
        path.touch()
        return path

    # --- what is asked

    def ask(self, user: str, text: str, channel: str = CHANNEL) -> BoltResponse:
        return self.app.dispatch(over_socket(slash(user, channel, text, self.slack.url)))

    def mention(self, user: str, text: str, channel: str = CHANNEL) -> BoltResponse:
        return self.app.dispatch(over_socket(mention(user, channel, text)))

    def press(
        self, button: dict[str, Any], user: str = DEPLOYER, channel: str = CHANNEL, **other: str
    ) -> BoltResponse:
        said = {**button, **other}
        return self.app.dispatch(over_socket(click(
            user, channel, said["message"], said["action_id"], said["value"], self.slack.url)))

    def offered(self, user: str = DEPLOYER, text: str = "deploy prod v1") -> dict[str, Any]:
        """Asked, and what came: the buttons ``confirm`` and ``cancel``."""
        before = len(self.offers())
        self.ask(user, text)
        said = self.slack.wait(lambda: self.offers()[before:])[0]
        elements = said["blocks"][1]["elements"]
        buttons = {each["action_id"][4:]: {**each, "message": said["ts"]} for each in elements}
        return {**buttons, "text": said["text"]}

    def offers(self) -> list[dict[str, Any]]:
        return [said for said in self.slack.said("chat.update")
                if "fab_confirm" in str(said.get("blocks"))]

    # --- what came of it

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.path.read_text().splitlines()]

    def verdicts(self) -> list[str]:
        return [line["verdict"] for line in self.lines()]

    def wait_for(self, verdict: str, count: int = 1) -> dict[str, Any]:
        """The audit's line of this verdict, the newest."""
        eventually(lambda: self.verdicts().count(verdict) >= count, self.verdicts)
        return next(line for line in reversed(self.lines()) if line["verdict"] == verdict)

    def calls(self) -> list[tuple[list[str], str, list[str]]]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def started(self) -> list[list[str]]:
        return [words for words, _, _ in self.calls() if "--yes" in words]

    def private(self, part: str) -> dict[str, Any]:
        """What one person alone was told."""
        return dict(self.slack.wait(lambda: [
            said for method, said in self.slack.calls
            if method in ("respond", "chat.postEphemeral") and part in said["text"]])[0])


def eventually(holds: Callable[[], object], shown: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.02)


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("FABFLEET_", "SLACK_", "GIT_")):
            monkeypatch.delenv(name)
    made = FakeSlack()
    yield made
    made.close()


@pytest.fixture
def world(
    tmp_path: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FABFLEET_CACHE", str(tmp_path / "cache"))
    made = World(tmp_path, slack)
    yield made
    for path in tmp_path.glob("wait-*"):
        path.unlink()
    # In this order: a request that is still worked on may have a run to tell of in the end.
    eventually(lambda: not busy(), busy)
    eventually(lambda: not made.runs.working, lambda: made.runs.working)
    made.app.listener_runner.listener_executor.shutdown()


def busy() -> list[str]:
    """Requests that are still worked on, with processes that have to be waited for."""
    return [each.name for each in threading.enumerate() if "_guarded" in each.name]
