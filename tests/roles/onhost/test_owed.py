from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.roles.onhost.programs import run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".fabfleet").mkdir()
    return tmp_path


def owed(root: Path, release: str, skipped: list[str], done: list[str]) -> dict[str, Any]:
    arguments = {"root": str(root), "release": release, "ref": f"of-{release}", "skipped": skipped,
                 "done": done}
    answer = run("owed", arguments).answer
    assert json.loads((root / ".fabfleet" / "owed.json").read_text()) == answer
    return dict(answer)


def test_who_was_skipped_stays_on_the_list_until_it_has_caught_up(root: Path) -> None:
    before = time.time()
    found = owed(root, "r2", ["web2", "web3"], ["web1"])
    assert {host: each["release"] for host, each in found.items()} == {"web2": "r2", "web3": "r2"}
    since = found["web3"]["since"]
    assert before <= since <= time.time()
    later = owed(root, "r3", ["web3"], ["web1", "web2"])
    assert later == {"web3": {"release": "r3", "ref": "of-r3", "since": since}}
    assert owed(root, "r3", [], ["web1", "web2", "web3"]) == {}
