"""What ``ssh -G`` says, asked of the real client with configurations of our own."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import pytest

from fabfile.engine.ssh_config import SshConfigError, Target, resolve
from inventories.model import Host

HOME = os.path.expanduser("~")


def host(config: Path | str, name: str = "web1", **variables: Any) -> Host:
    given = {"ansible_ssh_common_args": f"-F '{config}'", **variables}
    return Host(name, ("web",), given, {}, "hosts.yml", {})


def write(folder: Path, text: str, name: str = "config") -> Path:
    (folder / name).write_text(text)
    return folder / name


def ask(folder: Path, text: str, **variables: Any) -> Target:
    return resolve(host(write(folder, text), **variables))


def test_a_name_is_enough(tmp_path: Path) -> None:
    found = ask(tmp_path, "")
    assert (found.name, found.hostname, found.port, found.user) == (
        "web1", "web1", 22, getpass.getuser()
    )
    assert (found.proxy, found.key_alias, found.connect_timeout) == ((), None, 10.0)
    assert found.host_key_name == "web1"


def test_the_inventory_s_own_words_come_first(tmp_path: Path) -> None:
    found = ask(tmp_path, "Host *\n  User other\n  Port 1\n  IdentityFile /of/config\n",
                ansible_host="10.0.0.7", ansible_port=2222, ansible_user="deploy",
                ansible_ssh_private_key_file="/of/inventory")
    assert (found.name, found.hostname, found.port, found.user) == (
        "web1", "10.0.0.7", 2222, "deploy"
    )
    assert found.identity_files == ("/of/inventory", "/of/config")
    assert found.host_key_name == "[10.0.0.7]:2222"


def test_an_included_file_counts(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", "Host web*\n  HostName %h.example.org\n  Port 2200\n", "a.conf")
    found = ask(tmp_path, f"Include {tmp_path}/more/*.conf\nHost *\n  User deploy\n  Port 1\n")
    assert (found.hostname, found.port, found.user) == ("web1.example.org", 2200, "deploy")


def test_tokens_in_paths(tmp_path: Path) -> None:
    found = ask(
        tmp_path,
        "Host *\n  IdentityFile ~/.ssh/%r@%h-%p\n  IdentityFile %d/%u/%%h\n"
        "  CertificateFile /certs/%r.pub\n  User deploy\n  Port 2222\n  IdentitiesOnly yes\n",
    )
    assert found.identity_files == (
        f"{HOME}/.ssh/deploy@web1-2222", f"{HOME}/{getpass.getuser()}/%h"
    )
    assert found.certificate_files == ("/certs/deploy.pub",)
    assert found.identities_only


@pytest.mark.parametrize(("said", "agent"), [
    ("", "/run/agent"),
    ("IdentityAgent none", None),
    ("IdentityAgent SSH_AUTH_SOCK", "/run/agent"),
    ("IdentityAgent /other/agent", "/other/agent"),
    ("IdentityAgent ~/agent", f"{HOME}/agent"),
    ("IdentityAgent /agents/%r-%h", "/agents/deploy-web1"),
    ("IdentityAgent $OTHER_AGENT", "/run/other"),
])
def test_which_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, agent: str | None
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("OTHER_AGENT", "/run/other")
    assert ask(tmp_path, f"Host *\n  User deploy\n  {said}\n").agent == agent


def test_without_any_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert ask(tmp_path, "").agent is None


def test_lists_of_known_hosts(tmp_path: Path) -> None:
    config = write(tmp_path, "Host *\n  UserKnownHostsFile ~/known %d/more\n"
                             "  GlobalKnownHostsFile /etc/known\n")
    found = resolve(host(config), ("inventories/prod/known_hosts",))
    assert found.known_hosts == (
        "inventories/prod/known_hosts", f"{HOME}/known", f"{HOME}/more", "/etc/known"
    )


def test_a_host_key_s_own_name(tmp_path: Path) -> None:
    found = ask(tmp_path, "Host web1\n  HostKeyAlias the-web\n  Port 2222\n")
    assert (found.key_alias, found.host_key_name) == ("the-web", "the-web")


def test_how_long_it_may_take(tmp_path: Path) -> None:
    assert ask(tmp_path, "ConnectTimeout 3\n").connect_timeout == 3.0


def test_a_jump(tmp_path: Path) -> None:
    config = write(tmp_path, "Host web1\n  ProxyJump admin@bastion:2022\n  Port 2200\n")
    assert resolve(host(config)).proxy == (
        "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-F", str(config),
        "-W", "web1:2200",
        "ssh://admin@bastion:2022",
    )


def test_a_chain_of_jumps(tmp_path: Path) -> None:
    config = write(tmp_path, "Host web1\n  ProxyJump one,two@b:22,ssh://three:2022\n")
    assert resolve(host(config)).proxy == (
        "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-F", str(config),
        "-J", "one,two@b:22", "-W", "web1:22",
        "ssh://three:2022",
    )


def test_the_chain_is_one_that_openssh_takes(tmp_path: Path) -> None:
    """The command that we would start, asked what it would do."""
    import subprocess

    config = write(tmp_path, "Host web1\n  ProxyJump one,two\nHost two\n  HostName 10.0.0.2\n"
                             "  User jumper\n")
    words = resolve(host(config)).proxy
    asked = subprocess.run([words[0], "-G", *words[1:]], capture_output=True, text=True, check=True)
    said = asked.stdout.splitlines()
    assert {"hostname 10.0.0.2", "user jumper", "proxyjump one", "batchmode yes"} <= set(said)


def test_a_jump_to_an_address_of_six_parts(tmp_path: Path) -> None:
    found = ask(tmp_path, "Host *\n  ProxyJump bastion\n", ansible_host="fd00::7")
    assert found.proxy[-2:] == ("[fd00::7]:22", "ssh://bastion")


def test_no_jump_where_it_is_none(tmp_path: Path) -> None:
    assert ask(tmp_path, "Host *\n  ProxyJump none\n").proxy == ()


def test_a_command_that_dials(tmp_path: Path) -> None:
    found = ask(tmp_path, "Host *\n  ProxyCommand nc -x 'a b' %h %p %r %n %%h\n  User deploy\n",
                ansible_host="10.0.0.7")
    assert found.proxy == ("sh", "-c", "exec nc -x 'a b' 10.0.0.7 22 deploy 10.0.0.7 %h")


def test_what_openssh_does_not_understand(tmp_path: Path) -> None:
    config = write(tmp_path, "NoSuchWord yes\n")
    with pytest.raises(SshConfigError, match="Bad configuration option: nosuchword"):
        resolve(host(config))
