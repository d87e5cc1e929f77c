"""The program against a real nginx (fab test --soak: the package nginx)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from roles.balancer import BalancerSettings, sudo_rules
from roles.command import command
from roles.onhost import ship
from tests.balancers.servers import Backend, Balancer, Clients, program
from tests.balancers.test_haproxy import busy
from tests.loopback import Listening
from tests.roles.onhost.programs import Done, run

pytestmark = pytest.mark.soak
Web = dict[str, Backend]


def tell(balancer: Balancer, web: Web, action: str, server: str = "web1", **changes: Any) -> Done:
    line = f"{program('nginx')} -e {balancer.folder}/error.log -c {balancer.folder}/nginx.conf"
    arguments = {
        "action": action, "config": str(balancer.config), "backends": ["web"],
        "server": "127.0.0.1", "port": web[server].port, "min_up": 1, "deadline": 5,
        "up_deadline": 5, "then": "fail", "test": f"{line} -t", "reload": f"{line} -s reload",
        "pid": f"{balancer.folder}/nginx.pid",
    }
    return run("balancing.nginx", {**arguments, **changes})


def down(done: Done, web: Web) -> set[str]:
    assert done.exit == 0, done.err
    ports = {f"127.0.0.1:{each.port}": each.name for each in web.values()}
    return {ports[each["server"]] for each in done.answer["servers"] if not each["up"]}


def test_out_and_in_again_under_load_without_a_lost_request(nginx: Balancer, web: Web) -> None:
    before = nginx.config.read_text()
    with Clients(nginx) as clients:
        assert down(tell(nginx, web, "drain"), web) == {"web1"}
        changed = nginx.config.read_text()
        assert changed == before.replace("max_fails=0;  # web1", "max_fails=0 down;  # web1")
        web["web1"].asked.clear()
        assert nginx.served_by() == {"web2", "web3"}
        assert web["web1"].asked == []
        assert down(tell(nginx, web, "drain"), web) == {"web1"}  # again: nothing more
        assert nginx.config.read_text() == changed
        assert down(tell(nginx, web, "undrain"), web) == set()
        assert nginx.served_by() == {"web1", "web2", "web3"}
    assert clients.lost == []
    assert clients.answers > 20
    assert nginx.config.read_text() == before
    assert [each.name for each in nginx.folder.iterdir() if each.name.startswith(".")] == []


def test_a_long_request_is_waited_for(nginx: Balancer, web: Web) -> None:
    later = busy(nginx, web, 2)
    began = time.monotonic()
    assert down(tell(nginx, web, "drain"), web) == {"web1"}
    assert time.monotonic() - began > 1.5
    later.join(3)
    assert later.answer == "web1"


def test_what_lasts_longer_than_the_deadline(nginx: Balancer, web: Web) -> None:
    before = nginx.config.read_text()
    later = busy(nginx, web, 6)
    done = tell(nginx, web, "drain", deadline=0.5)
    assert done.exit == 1
    assert done.err.startswith("not drained after 0.5 s, so it is back in rotation: old worker "
                               "processes still serve: ")
    assert nginx.config.read_text() == before
    assert nginx.served_by() == {"web1", "web2", "web3"}
    second = busy(nginx, web, 6)
    gone_on = tell(nginx, web, "drain", deadline=0.5, then="go-on")
    assert down(gone_on, web) == {"web1"}
    assert gone_on.err.startswith("going on after 0.5 s: old worker processes still serve: ")
    for each in (later, second):
        each.join(8)
        assert each.answer == "web1"


def test_a_configuration_that_the_test_refuses_stays_as_it_was(
    nginx: Balancer, web: Web
) -> None:
    before = nginx.config.read_text()
    broken = nginx.folder / "nginx.conf"
    broken.write_text(broken.read_text() + "nonsense;\n")
    done = tell(nginx, web, "drain")
    assert done.exit == 1
    assert 'unknown directive "nonsense"' in done.err
    assert done.err.endswith(f"\n{nginx.config} is as it was\n")
    assert nginx.config.read_text() == before
    assert nginx.served_by() == {"web1", "web2", "web3"}


def test_a_reload_that_fails_or_does_nothing(nginx: Balancer, web: Web) -> None:
    before = nginx.config.read_text()
    done = tell(nginx, web, "drain", reload="echo no such unit; exit 5")
    assert (done.exit, done.err) == (
        1, f"echo no such unit; exit 5: exit status 5: no such unit\n{nginx.config} is as it was\n")
    assert nginx.config.read_text() == before


# What stands in for sudo: the words go over a socket to this process, which is root.
SUDO = """\
#!/usr/bin/python3 -I
import json, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({path!r})
text = "" if sys.stdin is None or sys.argv[2] != "/usr/bin/tee" else sys.stdin.read()
asked.sendall(json.dumps([sys.argv[1:], text]).encode() + b"\\n")
sys.exit(int(asked.makefile().readline()))
"""


class Sudo:
    """Runs exactly what ``allowed`` says, as the rules of sudoers would."""

    def __init__(self, folder: Path, allowed: list[str]) -> None:
        self.allowed, self.asked = allowed, list[str]()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "sudo.sock"))
        (folder / "sudo.sock").chmod(0o666)
        listener.listen()
        script = folder / "bin" / "sudo"
        script.parent.mkdir()
        script.write_text(SUDO.format(path=str(folder / "sudo.sock")))
        script.chmod(0o755)
        self.close = Listening(listener, self._serve).close

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            (option, *words), text = json.loads(connection.makefile().readline())
            self.asked.append(" ".join(words))
            good = option == "-n" and " ".join(words) in self.allowed
            done = subprocess.run(words, input=text, text=True, capture_output=True,
                                  check=False) if good else None
            connection.sendall(f"{done.returncode if done else 1}\n".encode())


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_as_an_ordinary_user_with_the_rules_of_hosts_setup(nginx: Balancer, web: Web) -> None:
    folder, config = nginx.folder, nginx.config
    line = f"{program('nginx')} -e {folder}/error.log -c {folder}/nginx.conf"
    settings = BalancerSettings.model_validate({
        "driver": "nginx", "backend": "web", "nginx": {
            "config": str(config), "test": f"sudo -n {line} -t",
            "reload": f"sudo -n {line} -s reload"},
    })
    rules = [rule.partition("NOPASSWD: ")[2] for rule in sudo_rules(settings, "x").splitlines()
             if "NOPASSWD" in rule]
    sudo = Sudo(folder, rules)
    folder.chmod(0o755)
    before = config.read_text()

    def tell_as_nobody(action: str) -> subprocess.CompletedProcess[bytes]:
        arguments = {
            "action": action, "config": str(config), "backends": ["web"], "server": "127.0.0.1",
            "port": web["web1"].port, "min_up": 1, "deadline": 5, "up_deadline": 5, "then": "fail",
            "test": settings.nginx.test, "reload": settings.nginx.reload,
            "pid": f"{folder}/nginx.pid",
        }
        python = ship.line(command("/usr/bin/python3", "-I")).line
        return subprocess.run(
            ["sh", "-c", python], input=ship.package("balancing.nginx", arguments, {}),
            capture_output=True, check=False, user="nobody", group="nogroup", extra_groups=[],
            cwd="/", env={"PATH": f"{folder}/bin:/usr/bin:/bin"},
        )

    out = tell_as_nobody("drain")
    assert out.returncode == 0, out.stderr
    assert sudo.asked == [rules[2], rules[3], rules[0], rules[1]]
    assert "max_fails=0 down;  # web1" in config.read_text()
    assert nginx.served_by() == {"web2", "web3"}
    sudo.allowed = rules[:2]
    refused = tell_as_nobody("undrain")
    assert refused.returncode == 1
    assert b"(`fab hosts.setup` writes the rule for it)" in refused.stderr
    sudo.allowed = rules
    assert tell_as_nobody("undrain").returncode == 0
    assert config.read_text() == before
    sudo.close()


def test_never_the_last_one(nginx: Balancer, web: Web) -> None:
    ports = {name: each.port for name, each in web.items()}
    done = tell(nginx, web, "drain", min_up=3)
    assert (done.exit, done.err) == (
        1, f"127.0.0.1:{ports['web1']} stays in rotation: upstream web: 2 other servers are up, "
           f"and balancer.min_up=3 wants 3: 127.0.0.1:{ports['web2']} up, "
           f"127.0.0.1:{ports['web3']} up\n")
    for name in ("web1", "web2"):
        assert tell(nginx, web, "drain", name, min_up=0).exit == 0
    last = tell(nginx, web, "drain", "web3", min_up=0)
    assert last.exit == 1
    assert "0 other servers are up, and balancer.min_up=1 wants 1" in last.err
    assert nginx.served_by() == {"web3"}


def test_what_is_not_there(nginx: Balancer, web: Web, tmp_path: Path) -> None:
    path = nginx.config
    addresses = ", ".join(f"127.0.0.1:{each.port}" for each in web.values())
    nowhere = tell(nginx, web, "drain", port=1)
    assert nowhere.err == (f"{path}: the server 127.0.0.1:1 stands nowhere in the upstream web, "
                           f"and has to once; there are: {addresses}\n")
    thrice = tell(nginx, web, "drain", port=0)
    assert thrice.err == (f"{path}: the server 127.0.0.1 stands 3 times in the upstream web, and "
                          f"has to once; there are: {addresses}\n")
    assert tell(nginx, web, "drain", backends=["wbe"]).err == (
        f"{path}: no upstream wbe with servers\n")
    assert tell(nginx, web, "drain", config=f"{path}.none").err == (
        f"{path}.none: No such file or directory\n")
    assert tell(nginx, web, "drain", pid="/nowhere").err == (
        "/nowhere: No such file or directory; nginx does not run, or balancer.nginx.pid is "
        "another\n")
    link = tmp_path / "enabled.conf"
    link.symlink_to(path)
    assert tell(nginx, web, "drain", config=str(link)).err == (
        f"{link}: is a link to {path}; name that one in balancer.nginx.config\n")


def test_a_flip_from_one_group_to_the_other_is_one_reload(nginx: Balancer, web: Web) -> None:
    assert down(tell(nginx, web, "drain", "web3"), web) == {"web3"}
    name = {each: f"127.0.0.1:{web[each].port}" for each in web}
    sides = [[name["web3"]], [name["web1"], name["web2"]]]
    with Clients(nginx) as clients:
        there = tell(nginx, web, "flip", port=0, enter=sides[0], leave=sides[1])
        assert down(there, web) == {"web1", "web2"}
        assert nginx.served_by() == {"web3"}
        back = tell(nginx, web, "flip", port=0, enter=sides[1], leave=sides[0])
        assert down(back, web) == {"web3"}
        assert nginx.served_by() == {"web1", "web2"}
    assert clients.lost == []
    assert clients.answers > 20
