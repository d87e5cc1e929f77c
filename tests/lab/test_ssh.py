"""Connections as OpenSSH reads them, to real sshds: configuration, hops, agents, host keys."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fabfile.engine.fleet import FleetTransport
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.transport import Call, Sync
from fabfile.environment import open_environment
from tests.lab.fleet import CHECKOUT, Fleet, wait_for

PORT = 2222
WHO = Call('echo "$(id -un) $SSH_CONNECTION"')


@pytest.fixture
def fleet(three: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    three.write_inventory()
    yield three
    three.write_inventory()
    for each in (three.inventory / three.env).glob("host_vars/*"):
        each.unlink()
    (three.inventory / three.env / "known_hosts").unlink(missing_ok=True)


@pytest.fixture
def config(fleet: Fleet, tmp_path: Path) -> Callable[[str], None]:
    """Makes a text the only ssh configuration there is; it may say {key}, {known} and addresses."""
    path = tmp_path / "ssh_config"

    def write(text: str) -> None:
        known = {"key": fleet.lab.private_key, "known": fleet.lab.known_hosts, "here": tmp_path,
                 **fleet.address}
        path.write_text(text.format(**known))
        fleet.write_inventory(ansible_ssh_common_args=f"-F {path}", ansible_user=None,
                              ansible_ssh_private_key_file=None)

    return write


ALL_OF_THEM = """
Host *
    User deploy
    IdentityFile {key}
    UserKnownHostsFile {known}
    GlobalKnownHostsFile none
"""


def called(fleet: Fleet, host: str, name: str) -> None:
    """The host's address in the inventory is ``name``, which only ssh's configuration knows."""
    path = fleet.inventory / fleet.env / "host_vars" / f"{host}.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"ansible_host": name}))


@contextmanager
def connected(fleet: Fleet) -> Iterator[Callable[[str, Call], Outcome]]:
    """The engine's own way to run something on a host of the inventory."""
    environment = open_environment(fleet.env, str(fleet.inventory))
    transport = FleetTransport(environment.known_hosts, environment.name)
    try:
        yield lambda host, call: transport.run(environment.inventory.hosts[host], call)
    finally:
        transport.close()


def ask(fleet: Fleet, host: str) -> Outcome:
    """Log in once; on success the answer is ``user peer port own-address own-port``."""
    with connected(fleet) as run:
        return run(host, WHO)


def logins(fleet: Fleet, host: str) -> list[str]:
    """``user address`` of every login that the host's sshd wrote down, the oldest first."""
    lines = fleet.on(host, "journalctl -q -u ssh -o cat --no-pager").splitlines()
    words = [line.split() for line in lines if line.startswith("Accepted publickey for")]
    return [f"{each[3]} {each[5]}" for each in words]


@contextmanager
def new_logins(fleet: Fleet, expected: int) -> Iterator[dict[str, list[str]]]:
    """Filled with the logins on each web host in between, once ``expected`` have been written."""
    before = {host: len(logins(fleet, host)) for host in fleet.web}
    found: dict[str, list[str]] = {}
    yield found

    def look() -> bool:
        found.update({host: logins(fleet, host)[before[host]:] for host in fleet.web})
        return sum(map(len, found.values())) >= expected

    wait_for(f"{expected} logins in the journals", look)


def new_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name,
                    "-f", str(path)], stdin=subprocess.DEVNULL, check=True)
    return path


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """An ssh-agent of our own, which this process's environment names; adds a key."""
    sock = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        wait_for("the agent listens", sock.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))

        def add(key: Path) -> None:
            subprocess.run(["ssh-add", "-q", str(key)], check=True, stdin=subprocess.DEVNULL)

        yield add
    finally:
        process.terminate()
        process.wait(10)


# --- configuration --------------------------------------------------------------------------------


@pytest.fixture
def second_port(fleet: Fleet) -> Iterator[int]:
    """web2's sshd listens on another port too."""
    file = "/etc/ssh/sshd_config.d/second-port.conf"
    listening = f"ss -ltn | grep -q ':{PORT} '"
    fleet.on("web2", f"printf 'Port 22\\nPort {PORT}\\n' > {file} && systemctl reload ssh")
    wait_for("sshd listens twice", lambda: fleet.on("web2", f"{listening} && echo yes", False))
    yield PORT
    fleet.on("web2", f"rm {file} && systemctl reload ssh")
    wait_for("sshd listens", lambda: fleet.on("web2", "ss -ltn | grep ':22 '", False))


def known_line(fleet: Fleet, host: str, name: str) -> str:
    words = fleet.on(host, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()
    return f"{name} {words[0]} {words[1]}\n"


def test_an_included_file_names_host_port_user_and_key(
    fleet: Fleet, config: Callable[[str], None], second_port: int, tmp_path: Path
) -> None:
    address = fleet.address["web2"]
    (tmp_path / "known").write_text(known_line(fleet, "web2", f"[{address}]:{second_port}"))
    (tmp_path / "more.conf").write_text(
        f"Host shop-two\n  HostName {address}\n  Port {second_port}\n  User deploy\n"
        f"  IdentityFile {fleet.lab.private_key}\n  UserKnownHostsFile {tmp_path}/known\n")
    config("Include {here}/more.conf\nHost *\n  GlobalKnownHostsFile none\n")
    called(fleet, "web2", "shop-two")
    user, _, _, own, port = ask(fleet, "web2").stdout.split()
    assert (user, own, port) == ("deploy", address, str(second_port))


def test_the_inventorys_port_and_user_win(fleet: Fleet, second_port: int, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(known_line(fleet, "web2", f"[{fleet.address['web2']}]:{second_port}"))
    fleet.write_inventory(
        ansible_port=second_port, ansible_user="root",
        ansible_ssh_common_args=f"-F none -o UserKnownHostsFile={known} -o Port=1 -o User=nobody",
    )
    user, *_, port = ask(fleet, "web2").stdout.split()
    assert (user, port) == ("root", str(second_port))


def test_two_hops_are_dialled_in_the_order_in_which_they_stand(
    fleet: Fleet, config: Callable[[str], None]
) -> None:
    """Fabric alone dials them backwards."""
    config("Host one\n  HostName {web1}\nHost two\n  HostName {web2}\n"
           "Host three\n  HostName {web3}\n  ProxyJump one,two\n" + ALL_OF_THEM)
    called(fleet, "web3", "three")
    with new_logins(fleet, 3) as found:
        user, peer, _, own, _ = ask(fleet, "web3").stdout.split()
    assert (user, peer, own) == ("deploy", fleet.address["web2"], fleet.address["web3"])
    assert found == {
        "web1": [f"deploy {fleet.net}.1"],
        "web2": [f"deploy {fleet.address['web1']}"],
        "web3": [f"deploy {fleet.address['web2']}"],
    }


def test_a_hop_whose_key_is_not_known_is_refused(
    fleet: Fleet, config: Callable[[str], None], tmp_path: Path
) -> None:
    address = fleet.address["web2"]
    (tmp_path / "known").write_text(known_line(fleet, "web3", fleet.address["web3"]))
    config("Host two\n  HostName {web2}\nHost three\n  HostName {web3}\n  ProxyJump two\n"
           + ALL_OF_THEM.replace("{known}", "{here}/known"))
    called(fleet, "web3", "three")
    outcome = ask(fleet, "web3")
    assert outcome.kind is Kind.UNREACHABLE
    assert outcome.reason == (
        f"deploy@{fleet.address['web3']} port 22: No ED25519 host key is known for {address} and "
        "you have requested strict checking.\r\nHost key verification failed."
    )
    done = fleet.fab("hosts.check", "--hosts=web3", check=69)
    assert "Traceback" not in done.stderr


def test_rsync_goes_where_commands_go(
    fleet: Fleet, config: Callable[[str], None], tmp_path: Path
) -> None:
    """Same machine, same user, same hops, no login of its own."""
    config("Host three\n  HostName {web3}\n  ProxyJump {web2}\n" + ALL_OF_THEM)
    called(fleet, "web1", "three")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("here\n")
    environment = open_environment(fleet.env, str(fleet.inventory))
    transport = FleetTransport(environment.known_hosts, environment.name)
    host = environment.inventory.hosts["web1"]
    target = "/home/deploy/brought"
    with new_logins(fleet, 2) as found:
        try:
            assert transport.run(host, WHO)
            assert transport.sync(host, Sync(str(tmp_path / "tree"), target))
            assert transport.run(host, WHO)
        finally:
            transport.close()
    assert fleet.on("web3", f"stat -c '%U' {target}/file && cat {target}/file") == "deploy\nhere\n"
    assert found == {"web1": [], "web2": [f"deploy {fleet.net}.1"],
                     "web3": [f"deploy {fleet.address['web2']}"]}
    fleet.on("web3", f"rm -r {target}")


def test_a_deploy_logs_in_once_per_host_whatever_the_login_shell(fleet: Fleet) -> None:
    fleet.reset()
    fleet.on("web3", "usermod --shell /bin/dash deploy")
    try:
        with new_logins(fleet, 3) as found:
            fleet.fab("deploy", "--ref=v1", check=0)
    finally:
        fleet.on("web3", "usermod --shell /bin/bash deploy")
    assert found == {host: [f"deploy {fleet.net}.1"] for host in fleet.web}
    assert len(set(fleet.serving().values())) == 1


# --- who we are -----------------------------------------------------------------------------------


def options(fleet: Fleet, *more: str) -> str:
    return " ".join(["-F none -o GlobalKnownHostsFile=none",
                     f"-o UserKnownHostsFile={fleet.lab.known_hosts}", *more])


def test_identities_only_with_an_agent_full_of_other_keys(
    fleet: Fleet, agent: Callable[[Path], None], tmp_path: Path
) -> None:
    for number in range(8):
        agent(new_key(tmp_path / f"wrong{number}"))
    fleet.write_inventory(ansible_ssh_common_args=options(fleet, "-o IdentitiesOnly=yes"))
    assert ask(fleet, "web1").stdout.startswith("deploy ")
    fleet.write_inventory(ansible_ssh_common_args=options(fleet))
    outcome = ask(fleet, "web1")
    tried = ", ".join(f"agent key wrong{number}" for number in range(6))
    assert (outcome.kind, outcome.reason) == (
        Kind.REFUSED,
        f"deploy@{fleet.address['web1']} port 22: authentication refused; tried: {tried} (the host "
        "allowed no more tries; with IdentitiesOnly=yes only the configured keys are offered). "
        "Check ansible_user, the key, and authorized_keys on the host",
    )


def test_a_key_that_only_the_agent_has(
    fleet: Fleet, agent: Callable[[Path], None], tmp_path: Path
) -> None:
    agent(fleet.lab.private_key)
    fleet.write_inventory(ansible_ssh_common_args=options(fleet),
                          ansible_ssh_private_key_file=None)
    assert ask(fleet, "web1").stdout.startswith("deploy ")
    # The public half beside it says which of the agent's keys is meant.
    (tmp_path / "mine.pub").write_text(fleet.lab.private_key.with_suffix(".pub").read_text())
    fleet.write_inventory(ansible_ssh_common_args=options(fleet, "-o IdentitiesOnly=yes"),
                          ansible_ssh_private_key_file=str(tmp_path / "mine"))
    assert ask(fleet, "web1").stdout.startswith("deploy ")


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_key_with_a_passphrase_and_no_agent(fleet: Fleet, tmp_path: Path, kind: str) -> None:
    key = new_key(tmp_path / "locked", kind, "a passphrase")
    fleet.write_inventory(ansible_ssh_private_key_file=str(key))
    outcome = ask(fleet, "web1")
    assert (outcome.kind, outcome.reason) == (
        Kind.REFUSED,
        f"deploy@{fleet.address['web1']} port 22: authentication refused; tried: no key "
        f"({key} has a passphrase: ssh-add it). Check ansible_user, the key, and authorized_keys "
        "on the host",
    )


# --- who the host is ------------------------------------------------------------------------------


def test_host_key_alias(fleet: Fleet, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(known_line(fleet, "web1", "the-first"))
    args = f"-F none -o GlobalKnownHostsFile=none -o UserKnownHostsFile={known}"
    fleet.write_inventory(ansible_ssh_common_args=args)
    outcome = ask(fleet, "web1")
    assert outcome.kind is Kind.REFUSED
    assert outcome.reason.startswith(f"host key of {fleet.address['web1']} is not known: ")
    fleet.write_inventory(ansible_ssh_common_args=f"{args} -o HostKeyAlias=the-first")
    assert ask(fleet, "web1")
    # Another host under the same alias is another key.
    outcome = ask(fleet, "web2")
    assert outcome.reason.startswith("host key of the-first HAS CHANGED: it shows ssh-ed25519 ")


@pytest.fixture
def three_keys(fleet: Fleet) -> Iterator[dict[str, str]]:
    """web2 has host keys of three kinds: kind -> the public key's words."""
    folder = "/etc/ssh"
    fleet.on("web2", f"for kind in ecdsa rsa; do ssh-keygen -q -t $kind -N '' "
                     f"-f {folder}/ssh_host_${{kind}}_key; done; systemctl reload ssh")
    wait_for("sshd listens", lambda: fleet.on("web2", "ss -ltn | grep ':22 '", False))
    kinds = ("ed25519", "ecdsa", "rsa")
    yield {kind: " ".join(fleet.on("web2", f"cat {folder}/ssh_host_{kind}_key.pub").split()[:2])
           for kind in kinds}
    fleet.on("web2", f"rm {folder}/ssh_host_ecdsa_key* {folder}/ssh_host_rsa_key*; "
                     "systemctl reload ssh")
    wait_for("sshd listens", lambda: fleet.on("web2", "ss -ltn | grep ':22 '", False))


@pytest.mark.parametrize("known_kinds", [("ecdsa",), ("rsa",), ("rsa", "ed25519", "ecdsa")])
def test_hashed_known_hosts_and_several_kinds_of_keys(
    fleet: Fleet, three_keys: dict[str, str], known_kinds: tuple[str, ...], tmp_path: Path
) -> None:
    """The kind that is known is asked for, whatever the host would rather show."""
    known = tmp_path / "known"
    known.write_text("".join(
        f"{fleet.address['web2']} {three_keys[kind]}\n" for kind in known_kinds))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert fleet.address["web2"] not in known.read_text()
    fleet.write_inventory(ansible_ssh_common_args="-F none -o GlobalKnownHostsFile=none "
                                                  f"-o UserKnownHostsFile={known}")
    assert ask(fleet, "web2")


def test_a_revoked_key_is_refused_although_it_is_known(fleet: Fleet, tmp_path: Path) -> None:
    known, address = tmp_path / "known", fleet.address["web1"]
    line = known_line(fleet, "web1", address)
    known.write_text(f"{line}@revoked {known_line(fleet, 'web1', '*')}")
    fleet.write_inventory(ansible_ssh_common_args="-F none -o GlobalKnownHostsFile=none "
                                                  f"-o UserKnownHostsFile={known}")
    outcome = ask(fleet, "web1")
    print_of = fleet.on("web1", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert (outcome.kind, outcome.reason) == (
        Kind.REFUSED, f"host key of {address}: ssh-ed25519 {print_of} is marked as revoked")


def test_the_known_hosts_beside_the_inventory(fleet: Fleet) -> None:
    args = "-F none -o UserKnownHostsFile=none -o GlobalKnownHostsFile=none"
    fleet.write_inventory(ansible_ssh_common_args=args)
    assert ask(fleet, "web1").kind is Kind.REFUSED
    team = fleet.inventory / fleet.env / "known_hosts"
    team.write_text(known_line(fleet, "web1", fleet.address["web1"]))
    assert ask(fleet, "web1")


# --- no ssh at all --------------------------------------------------------------------------------


def test_local_connections_need_no_ssh(tmp_path: Path) -> None:
    """A whole deploy to this machine; the ssh in its PATH would tell on it."""
    told = tmp_path / "told"
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ssh", "ssh-keygen", "ssh-add"):
        (tools / name).write_text(f"#!/bin/sh\necho {name} >> {told}\nexit 1\n")
        (tools / name).chmod(0o755)
    folder = tmp_path / "inventories" / "here"
    folder.mkdir(parents=True)
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("hello\n")
    inventory: dict[str, Any] = {"web": {"hosts": {"web1": None}, "vars": {
        "ansible_connection": "local",
        "app": {"name": "hello", "root": str(tmp_path / "srv")},
        "release": {"folder": str(site)},
        "migrations": {"command": []}, "static": {"command": []},
    }}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    program = ("import sys\nfrom fabfile.program import main\n"
               "try:\n    main()\nfinally:\n"
               "    print('paramiko' in sys.modules, file=sys.stderr)\n")
    done = subprocess.run(
        [sys.executable, "-c", program, "deploy", "--env=here"], cwd=CHECKOUT, text=True,
        capture_output=True, check=False,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT),
             "FABFLEET_INVENTORY": str(folder.parent), "FABFLEET_STATE": str(tmp_path / "state"),
             "FABFLEET_CACHE": str(tmp_path / "cache")},
    )
    assert (done.returncode, done.stderr) == (0, "False\n"), done.stdout
    assert (tmp_path / "srv" / "current" / "index.html").read_text() == "hello\n"
    assert not told.exists()
