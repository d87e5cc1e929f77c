from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from inventories.load import load
from inventories.model import Inventory
from tests.inventories.cases import Load, Write


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder to stand in, without the user's own Ansible configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / ".ansible"))
    (tmp_path / "ansible.cfg").touch()
    monkeypatch.setenv("ANSIBLE_CONFIG", str(tmp_path / "ansible.cfg"))
    return tmp_path


@pytest.fixture
def write(project: Path) -> Write:
    """``write({"hosts.yml": text})`` makes the files of ``inventories/prod``."""

    def write(files: dict[str, str], environment: str = "prod") -> Path:
        folder = Path("inventories", environment)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(dedent(text), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def prod(write: Write) -> Load:
    """``prod("web: ...", **{"group_vars/web.yml": text})`` loads an inventory of these files."""

    def prod(hosts: str = "", **files: str) -> Inventory:
        write({"hosts.yml": hosts, **files})
        return load("prod", Path("inventories"))

    return prod
