from __future__ import annotations

from pathlib import Path

import pytest

from inventories.errors import InventoryError
from inventories.model import Connection
from tests.inventories.cases import Load


def connection(prod: Load, variables: str) -> Connection:
    return prod(f"web: {{hosts: {{web1: {{{variables}}}}}}}").hosts["web1"].connection


def test_a_name_is_enough(prod: Load) -> None:
    assert connection(prod, "") == Connection("ssh", "web1", None, None, None, (), None)


def test_everything_said(prod: Load) -> None:
    assert connection(
        prod,
        "ansible_connection: ssh, ansible_host: '10.0.0.{{ n }}', n: 7, ansible_port: 2222,"
        " ansible_user: deploy, ansible_ssh_private_key_file: keys/id, "
        " ansible_ssh_extra_args: '-o \"ProxyCommand=nc %h 22\"', ansible_ssh_common_args: -4 -C,"
        " ansible_python_interpreter: /usr/bin/python3",
    ) == Connection(
        kind="ssh",
        address="10.0.0.7",
        port=2222,
        user="deploy",
        key_file="keys/id",
        ssh_args=("-4", "-C", "-o", "ProxyCommand=nc %h 22"),
        python="/usr/bin/python3",
    )


@pytest.mark.parametrize("name", ["ssh", "paramiko", "paramiko_ssh", "smart"])
def test_these_are_ssh(prod: Load, name: str) -> None:
    assert connection(prod, f"ansible_connection: {name}").kind == "ssh"


def test_local(prod: Load) -> None:
    assert connection(prod, "ansible_connection: local").kind == "local"


@pytest.mark.parametrize("port", ["1", "65535", "'22'", "'{{ 20 + 2 }}'"])
def test_ports(prod: Load, port: str) -> None:
    assert connection(prod, f"ansible_port: {port}").port in (1, 22, 65535)


def test_a_home_folder_is_expanded(prod: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    key_file = connection(prod, "ansible_ssh_private_key_file: ~/.ssh/id").key_file
    assert key_file == str(Path("/home/someone/.ssh/id"))


@pytest.mark.parametrize("name", ["auto", "auto_silent", "auto_legacy"])
def test_discovery_is_no_path(prod: Load, name: str) -> None:
    assert connection(prod, f"ansible_python_interpreter: {name}").python is None


WRONG = {
    "ansible_port: abc": "expected a port from 1 to 65535, got 'abc'",
    "ansible_port: 0": "expected a port from 1 to 65535, got 0",
    "ansible_port: 65536": "expected a port from 1 to 65535, got 65536",
    "ansible_port: true": "expected a port from 1 to 65535, got True",
    "ansible_port: 22.0": "expected a port from 1 to 65535, got 22.0",
    "ansible_port: ''": "expected a port from 1 to 65535, got ''",
    "ansible_port: [22]": "expected a port from 1 to 65535, got a list",
    "ansible_connection: docker": "expected ssh or local, got 'docker'",
    "ansible_host: 5": "expected text, got 5",
    "ansible_user: {a: b}": "expected text, got a mapping",
    "ansible_user: 2024-01-01": "expected text, got '2024-01-01'",
    "ansible_ssh_common_args: '-o \"'": "no closing quotation",
    "ansible_host: '{{ nowhere }}'": "'nowhere' is undefined (host web1)",
}


@pytest.mark.parametrize(("variable", "problem"), WRONG.items())
def test_what_cannot_be(prod: Load, variable: str, problem: str) -> None:
    name = variable.split(":")[0]
    with pytest.raises(InventoryError) as error:
        connection(prod, variable)
    assert str(error.value) == f"inventories/prod/hosts.yml: web.hosts.web1.{name}: {problem}"


def test_a_listing_works_where_a_connection_cannot(prod: Load) -> None:
    inventory = prod("web: {hosts: {web1: {ansible_connection: winrm}}}")
    assert inventory.listing()["web"] == {"hosts": ["web1"]}
