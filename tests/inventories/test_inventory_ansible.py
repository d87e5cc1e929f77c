"""What only Ansible's own commands can read, and what we say where they are missing or fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inventories.ansible import decrypted
from inventories.errors import InventoryError
from inventories.load import load
from inventories.model import Inventory
from tests.inventories.cases import Write
from tests.inventories.oracle import listings

SCRIPT = """\
#!/bin/sh
echo '{"web": {"hosts": ["w2", "w1"], "vars": {"v": 1}}, "_meta": {"hostvars": {"w1": {"h": 2}}}}'
"""
VAULT_PASSWORD = "correct horse"


@pytest.fixture
def vault(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "password").write_text(VAULT_PASSWORD)
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(project / "password"))


@pytest.fixture
def without_ansible(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(project / "bin" / "python"))
    decrypted.cache_clear()


def loaded() -> Inventory:
    return load("prod", Path("inventories"))


def encrypted(text: str) -> str:
    command = Path(sys.executable).parent / "ansible-vault"
    return subprocess.run(
        [command, "encrypt"], input=text, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def test_an_ini_file(write: Write, project: Path) -> None:
    write(
        {
            "hosts": "solo\n[web]\nw2 ansible_port=2222\nw1\n[web:vars]\nv=1\n[site:children]\nweb",
            "group_vars/web.yml": "u: '{{ v }}'\ns: !unsafe '{{ v }}'",
        }
    )
    inventory = loaded()
    assert list(inventory.hosts) == ["solo", "w2", "w1"]
    assert inventory.hosts["w1"].groups == ("site", "web")
    assert inventory.hosts["w1"].setting("u") == 1
    assert inventory.hosts["w1"].setting("s") == "{{ v }}"
    assert inventory.hosts["w2"].connection.port == 2222
    assert inventory.hosts["w1"].where("u") == "inventories/prod: u"
    assert inventory.hosts["w1"].render("{{ inventory_dir | basename }}") == "prod"
    [oracle] = listings([project / "inventories/prod"], project)
    assert json.loads(json.dumps(inventory.listing())) == oracle


def test_a_script_among_yaml(write: Write) -> None:
    folder = write({"hosts.yml": "db: {hosts: {d1: }}", "cloud.py": SCRIPT})
    (folder / "cloud.py").chmod(0o755)
    inventory = loaded()
    assert list(inventory.hosts) == ["w2", "w1", "d1"]
    assert inventory.hosts["w1"].variables == {"h": 2, "v": 1}


def test_a_plugin(write: Write) -> None:
    write(
        {
            "10-hosts.yml": "web: {hosts: {w1: {region: eu}, w2: {region: us}}}",
            "20-plugin.yml": (
                "plugin: ansible.builtin.constructed\ngroups: {european: region == 'eu'}"
            ),
        }
    )
    assert [host.name for host in loaded().group("european")] == ["w1"]


@pytest.mark.usefixtures("vault")
def test_a_vaulted_file(write: Write) -> None:
    write({"hosts.yml": "web: {hosts: {w1: }}", "group_vars/web.yml": encrypted("key: s3cret")})
    assert loaded().hosts["w1"].setting("key") == "s3cret"


@pytest.mark.usefixtures("vault")
def test_a_vaulted_value_is_decrypted_when_it_is_rendered(write: Write) -> None:
    write({"hosts.yml": "web: {hosts: {w1: }}"})
    secret = encrypted("s3cret").replace("\n", "\n  ")
    write({"group_vars/web.yml": f"key: !vault |\n  {secret}\nurl: 'x:{{{{ key }}}}@y'"})
    host = loaded().hosts["w1"]
    assert str(host.variables["key"]).startswith("$ANSIBLE_VAULT;")
    assert host.setting("key") == "s3cret"
    assert host.setting("url") == "x:s3cret@y"
    assert "s3cret" not in json.dumps(loaded().listing())


def test_an_executable_yaml_file_is_still_yaml(write: Write) -> None:
    (write({"hosts.yml": "web: {hosts: {w1: }}"}) / "hosts.yml").chmod(0o755)
    assert list(loaded().hosts) == ["w1"]


TAKES = "reading it takes ansible-inventory, which is not installed; pip install ansible-core"
NEEDS = {
    "hosts": ("[web]\nw1", "is an INI file"),
    "bare": ("w1", "is an INI file"),
    "web.ini": ("[web]", "is no YAML"),
    "aws_ec2.yml": ("plugin: amazon.aws.aws_ec2", "configures the plugin amazon.aws.aws_ec2"),
    "run": (SCRIPT, "is an executable script"),
    "vault.yml": ("$ANSIBLE_VAULT;1.1;AES256\n6162", "is vaulted"),
    "group_vars/all.yml": ("$ANSIBLE_VAULT;1.1;AES256\n6162", "is vaulted"),
}


@pytest.mark.usefixtures("without_ansible")
@pytest.mark.parametrize("file", NEEDS)
def test_no_ansible(write: Write, file: str) -> None:
    text, reason = NEEDS[file]
    (write({"hosts.yml": "web: {hosts: {w1: }}", file: text}) / file).chmod(
        0o755 if text == SCRIPT else 0o644
    )
    with pytest.raises(InventoryError) as error:
        loaded()
    assert str(error.value) == f"inventories/prod/{file}: {reason}: {TAKES}"


@pytest.mark.usefixtures("without_ansible")
def test_no_ansible_for_a_vaulted_value(write: Write) -> None:
    write({"hosts.yml": "web: {hosts: {w1: {db: {key: !vault abc}}}}"})
    host = loaded().hosts["w1"]
    with pytest.raises(InventoryError) as error:
        host.setting("db")
    assert str(error.value) == (
        "inventories/prod/hosts.yml: web.hosts.w1.db.key: reading it takes ansible-vault,"
        " which is not installed; pip install ansible-core (host w1)"
    )


def test_ansible_inventory_fails(write: Write) -> None:
    folder = write({"hosts.yml": "web: {hosts: {w1: }}", "run": "#!/bin/sh\nexit 3\n"})
    (folder / "run").chmod(0o755)
    with pytest.raises(InventoryError) as error:
        loaded()
    message = str(error.value)
    assert message.startswith(
        "inventories/prod/run: is an executable script: ansible-inventory failed:\n"
    )
    assert "Completely failed to parse inventory source" in message


def test_ansible_vault_fails(write: Write) -> None:
    write({"hosts.yml": "web: {hosts: {w1: {key: !vault xyz}}}"})
    with pytest.raises(InventoryError) as error:
        loaded().hosts["w1"].setting("key")
    assert str(error.value).startswith(
        "inventories/prod/hosts.yml: web.hosts.w1.key: ansible-vault failed:\n"
    )
