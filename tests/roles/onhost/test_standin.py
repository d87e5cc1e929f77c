"""The page in the place of a server that is stopped."""

from __future__ import annotations

import fcntl
import glob
import http.client
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.fleet import wait_for
from tests.roles.onhost.programs import Done, end, run, start


class StandIn:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]

    def arguments(self, action: str) -> dict[str, Any]:
        return {
            "action": action, "folder": str(self.folder), "address": f"127.0.0.1:{self.port}",
            "html": "<p>soon</p>", "json": '{"error": "maintenance"}', "retry": 60,
            "api": ["/api/"], "key": "shop-local", "run": "r1",
            "record": {"reason": "disks", "who": "eve@desk", "until": 0, "by_run": True}}

    def tell(self, action: str, **changes: Any) -> Done:
        return run("standin", {**self.arguments(action), **changes})

    def ask(self, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, Any, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, body

    def listens(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    made = StandIn(tmp_path / "state")
    yield made
    assert made.tell("stop").exit == 0


def test_it_answers_everything_with_the_page(standin: StandIn) -> None:
    told = standin.tell("start").answer
    assert (told["closed"], told["shown"]) == (True, True)
    status, headers, body = standin.ask("/anything", "POST")
    assert (status, body) == (503, "<p>soon</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Retry-After"] == "60"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Maintenance"] == "shop-local"
    assert standin.ask(method="HEAD")[2] == ""


def test_programs_get_json(standin: StandIn) -> None:
    standin.tell("start")
    for answer in (standin.ask("/api/x"), standin.ask(Accept="application/json")):
        assert answer[1]["Content-Type"] == "application/json"
        assert json.loads(answer[2]) == {"error": "maintenance"}


def test_started_and_stopped_twice(standin: StandIn) -> None:
    standin.tell("start")
    first = (standin.folder / "stand-in.pid").read_text()
    since = standin.tell("look").answer["record"]["since"]
    more = {"reason": "more", "who": "bob@desk", "until": 0, "by_run": True}
    told = standin.tell("start", record=more).answer["record"]
    assert told == {**more, "run": "r1", "pass": "", "since": since, "told": ""}
    assert (standin.folder / "stand-in.pid").read_text() == first
    assert standin.tell("stop").answer == {"closed": False, "shown": False, "record": None}
    assert not standin.listens()
    assert standin.tell("stop").answer == {"closed": False, "shown": False, "record": None}


def test_started_once_more_it_says_the_new_words(standin: StandIn) -> None:
    """Without a moment in which nobody answers."""
    standin.tell("start")
    assert standin.ask()[2] == "<p>soon</p>"
    standin.tell("start", html="<p>at six, é</p>", json='{"reason": "Ж"}', retry=600)
    status, headers, body = standin.ask()
    assert (status, headers["Retry-After"], body) == (503, "600", "<p>at six, é</p>")
    assert standin.ask("/api/x")[2] == '{"reason": "Ж"}'
    assert standin.tell("look").answer["shown"] is True


def test_what_a_run_left_closed_stays_its_own_whatever_a_person_tells(standin: StandIn) -> None:
    first = standin.tell("start").answer["record"]
    words = {"reason": "back at six", "who": "bob@desk", "until": 9, "by_run": False}
    assert standin.tell("start", record=words, run="r2").answer["record"] == {
        **first, "told": "back at six", "until": 9}


def test_whoever_looks_is_not_taken_for_it(standin: StandIn) -> None:
    """Nor is a process that has its old id by now: it would be told to end."""
    standin.folder.mkdir()
    with (standin.folder / "stand-in.pid").open("w+") as looked, \
            subprocess.Popen(["sleep", "60"]) as other:
        looked.write(str(other.pid))
        looked.flush()
        fcntl.flock(looked, fcntl.LOCK_SH)
        assert standin.tell("look").answer["closed"] is False
        assert standin.tell("stop").answer["closed"] is False
        starting = start("standin", standin.arguments("start"))
        wait_for("it waits for the lock", lambda: any(
            os.readlink(each) == looked.name
            for each in glob.glob(f"/proc/{starting.pid}/fd/*") if os.path.islink(each)))
        assert starting.poll() is None
        assert other.poll() is None
        fcntl.flock(looked, fcntl.LOCK_UN)
        assert end(starting).answer["shown"] is True
        other.kill()


def test_the_port_is_free_at_once_for_the_server(standin: StandIn) -> None:
    standin.tell("start")
    standin.ask()
    standin.tell("stop")
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", standin.port))


def test_an_address_that_is_not_ours(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    done = standin.tell("start", address="192.0.2.1:80")
    assert (done.exit, done.err) == (1, "192.0.2.1:80: Cannot assign requested address\n")
