"""What HAProxy could answer, told by a double: everything that is not expected is a failure."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roles.command import command
from roles.onhost import ship
from tests.loopback import Listening
from tests.roles.onhost.programs import Done, run

STAT = "# pxname,svname,qcur,scur,status,type,bck,check_status,\n"
STATE = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n"


class Double:
    """A runtime socket. ``odd`` are answers to commands by their first word or words."""

    def __init__(self, path: Path) -> None:
        self.admin = {"web1": 0, "web2": 0}
        self.sessions, self.deaf = 0, False
        self.odd: dict[str, str | Callable[[], str]] = {}
        self.heard: list[str] = []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self.close = Listening(listener, self._serve).close

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            asked = connection.makefile().readline().strip()
            self.heard.append(asked)
            connection.sendall(self._answer(asked).encode())

    def _answer(self, asked: str) -> str:
        for words, answer in self.odd.items():
            if asked.startswith(words):
                return answer if isinstance(answer, str) else answer()
        if asked == "show stat":
            return STAT + "".join(
                f"web,{name},0,{self.sessions},{'DRAIN' if admin else 'UP'},2,0,L7OK,\n"
                for name, admin in self.admin.items()) + "\n"
        if asked == "show servers state web":
            return STATE + "".join(f"3 web 1 {name} 127.0.0.1 2 {admin}\n"
                                   for name, admin in self.admin.items()) + "\n"
        _, _, server, _, state = asked.split()
        if not self.deaf:
            self.admin[server.partition("/")[2]] = 8 if state == "drain" else 0
        return "\n"


@pytest.fixture
def double(short: Path) -> Iterator[Double]:
    made = Double(short / "admin.sock")
    yield made
    made.close()


def tell(short: Path, action: str, **changes: Any) -> Done:
    return run("balancing.haproxy", {
        "action": action, "socket": f"{short}/admin.sock", "backends": ["web"], "server": "web1",
        "min_up": 1, "deadline": 1, "up_deadline": 0.3, "then": "fail", **changes,
    })


def test_the_double_is_one(double: Double, short: Path) -> None:
    assert tell(short, "drain").exit == 0
    assert tell(short, "undrain").exit == 0
    orders = [each for each in double.heard if each.startswith("set")]
    assert orders == ["set server web/web1 state drain", "set server web/web1 state ready"]


@pytest.mark.parametrize("said", ["Permission denied\n", "No such server.\n", "[ALERT] odd\n\n"])
def test_any_answer_to_an_order_is_an_error(double: Double, short: Path, said: str) -> None:
    double.odd["set server"] = said
    done = tell(short, "drain")
    assert (done.exit, done.err) == (
        1, f"{short}/admin.sock: asked 'set server web/web1 state drain', answered "
           f"{said.strip()!r}\n")


@pytest.mark.parametrize("asked", ["show stat", "show servers state web"])
@pytest.mark.parametrize("said", ["", "Unknown command.\n", "Permission denied\n"])
def test_a_table_that_is_none(double: Double, short: Path, asked: str, said: str) -> None:
    double.odd[asked] = said
    done = tell(short, "look")
    assert (done.exit, done.err) == (
        1, f"{short}/admin.sock: asked {asked!r}, answered {said.strip()!r}\n")


def test_what_was_asked_is_read_back(double: Double, short: Path) -> None:
    double.deaf = True
    done = tell(short, "drain")
    assert (done.exit, done.err) == (
        1, f"{short}/admin.sock: web/web1 was asked to be drained, but `show servers state` says "
           "it is not (UP)\n")
    double.admin["web1"] = 8
    done = tell(short, "undrain")
    assert done.err == (f"{short}/admin.sock: web/web1 was asked to be ready, but `show servers "
                        "state` says it is drained (DRAIN)\n")


def test_a_reload_meanwhile_forgets_the_drain(double: Double, short: Path) -> None:
    double.sessions = 1

    def forget_when_drained() -> None:
        deadline = time.monotonic() + 15
        while double.admin["web1"] != 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        double.admin["web1"], double.sessions = 0, 0

    threading.Thread(target=forget_when_drained, daemon=True).start()
    done = tell(short, "drain", deadline=5)
    assert done.exit == 1
    assert "was asked to be drained, but" in done.err


def test_several_processes_are_all_told(double: Double, short: Path) -> None:
    second = Double(short / "second.sock")
    try:
        done = tell(short, "drain", socket=f"{short}/*.sock")
        assert done.exit == 0
        assert (double.admin["web1"], second.admin["web1"]) == (8, 8)
        assert [each["balancer"].rpartition("/")[2] for each in done.answer["servers"]] == [
            "admin.sock", "admin.sock", "second.sock", "second.sock"]
        second.admin["web2"] = 8
        tell(short, "undrain", socket=f"{short}/*.sock")
        assert "web2 DRAIN" in tell(short, "drain", socket=f"{short}/*.sock").err
    finally:
        second.close()


def test_nobody_listens(double: Double, short: Path) -> None:
    double.close()
    done = tell(short, "drain")
    assert (done.exit, done.err) == (
        1, f"{short}/admin.sock: nobody listens: HAProxy is down\n")
    nowhere = tell(short, "drain", socket="/nowhere/admin.sock")
    assert nowhere.err == ("/nowhere/admin.sock: no such socket: HAProxy does not run here, or "
                           "balancer.haproxy.socket is another\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_user_who_may_not(double: Double, short: Path) -> None:
    short.chmod(0o755)
    (short / "admin.sock").chmod(0o660)
    told = {"action": "look", "socket": f"{short}/admin.sock", "backends": ["web"],
            "server": "web1"}
    done = subprocess.run(
        ["sh", "-c", ship.line(command("/usr/bin/python3", "-I")).line], check=False, cwd="/",
        input=ship.package("balancing.haproxy", told, {}), capture_output=True, user="nobody",
        group="nogroup", extra_groups=[],
    )
    assert (done.returncode, done.stderr.decode()) == (
        1, f"{short}/admin.sock: not allowed for this user; `fab hosts.setup` puts it into the "
           "socket's group, from the next login on\n")
