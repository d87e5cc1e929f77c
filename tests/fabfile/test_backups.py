"""What a person reads of backups, and what becomes of a host that cannot answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fabfile.backups import described, drill_line, drilled, listed
from fabfile.engine import backups
from fabfile.engine.outcome import Kind, Outcome
from fabfile.errors import FabfleetError, Failed, Unavailable
from fabfile.preparation import arguments
from roles.role import Target
from tests.fabfile.engine.doubles import Memory
from tests.fabfile.fleets import NEW, one_target, open_fleet

RECORD: Mapping[str, Any] = {
    "alias": "default", "vendor": "postgresql", "database": "shop", "backup": "b", "key": "k",
    "name": "b-default.dump", "file": "/b/b-default.dump", "bytes": 12_340_000, "seconds": 3.21,
    "sha256": "ab12", "release": NEW, "started": 1770000000.5, "there": True,
}
SNAPSHOT: Mapping[str, Any] = {"alias": "", "backup": "s", "key": "s", "name": "s-command",
                               "reference": "snap-1", "seconds": 60, "started": 1770000000,
                               "there": True}


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return one_target(open_fleet(tmp_path))


def test_what_was_made(target: Target) -> None:
    assert described(target, RECORD) == [
        "default (postgresql): web1:/b/b-default.dump", "  12.3 MB in 3.2 s, sha256 ab12",
    ]
    assert described(target, {**RECORD, "bytes": 28_672})[1] == "  28.7 kB in 3.2 s, sha256 ab12"
    assert described(target, SNAPSHOT) == ["backup.command: snap-1 (60.0 s)"]


def test_what_there_is() -> None:
    line = f"2026-02-02 02:40:00 UTC  b-default.dump  12.3 MB in 3.2 s  release {NEW}"
    assert listed(RECORD) == line
    assert listed({**RECORD, "there": False}) == f"{line}  GONE"
    assert listed(SNAPSHOT) == "2026-02-02 02:40:00 UTC  backup.command: snap-1"


def test_the_last_drill() -> None:
    good = {"at": 1770000000, "seconds": 70, "ok": True}
    assert drill_line(good) == "last drill: 2026-02-02 02:40:00 UTC, 70.0 s: went well"
    assert drill_line({**good, "ok": False, "error": "cut off\nand more"}) == (
        "last drill: 2026-02-02 02:40:00 UTC, 70.0 s: FAILED: cut off"
    )


def test_what_a_drill_found(target: Target) -> None:
    found = {**RECORD, "restore_seconds": 3.0, "seconds": 4.2,
             "pending": ["shop.0002", "shop.0003"], "ahead": ["shop.0004"],
             "rows": {"item": [5, 7], "new_one": [None, 1]}}
    assert drilled(target, found) == [
        "default (postgresql): /b/b-default.dump was restored in 3.0 s (4.2 s with all checks)",
        f"  migrations that {NEW} would still run there: shop.0002, shop.0003",
        f"  migrations there that {NEW} has not: shop.0004",
        "  rows          backup     live now",
        "  item               5            7",
        "  new_one     no table            1",
    ]
    assert "would still run there: none" in drilled(target, {**found, "pending": []})[1]


def answering(**outcome: Any) -> Memory:
    transport = Memory()
    transport.answer("web1", "python", Outcome("web1", **outcome))
    return transport


def test_the_backup_of_one_run(target: Target) -> None:
    answer = {"folder": "/b", "backups": [RECORD, SNAPSHOT], "drills": []}
    transport = answering(kind=Kind.OK, exit=0, stdout=f"hello\n@@FABFLEET {json.dumps(answer)}\n")
    assert backups.of_key(transport, target, "k") == [RECORD]
    assert backups.listing(transport, target) == answer


def test_what_speaks_against_a_backup(target: Target) -> None:
    answer = {"folder": "/b", "problems": ["no pg_dump", "disk full"], "expected": 1}
    transport = answering(kind=Kind.OK, exit=0, stdout=f"@@FABFLEET {json.dumps(answer)}\n")
    assert backups.problems(transport, target) == ["web1: no pg_dump", "web1: disk full"]


@pytest.mark.parametrize(("outcome", "error", "words"), [
    ({"kind": Kind.FAILED, "exit": 1, "stderr": "cut off\n"}, Failed,
     "web1: the drill failed: cut off"),
    ({"kind": Kind.FAILED, "exit": 3, "stderr": "OperationalError: no server\nTraceback x\ny"},
     Unavailable, "web1: the drill failed: OperationalError: no server"),
    ({"kind": Kind.LOST, "message": "gone"}, Unavailable, "web1: the drill failed: gone"),
    # An answer without an exit status is none.
    ({"kind": Kind.LOST, "stdout": '@@FABFLEET {"drills": []}\n', "message": "gone"}, Unavailable,
     "web1: the drill failed: gone"),
])
def test_a_drill_without_an_answer(
    target: Target, outcome: dict[str, Any], error: type[FabfleetError], words: str
) -> None:
    with pytest.raises(error) as raised:
        backups.drill(answering(**outcome), target, None)
    assert str(raised.value) == words


def test_setup_makes_only_a_folder_that_the_service_cannot_make(tmp_path: Path) -> None:
    own = {"web1": {"ansible_user": "deploy"}, "web2": {"ansible_user": "deploy"}}

    def private(**settings: str) -> list[object]:
        environment = open_fleet(tmp_path, ["web1", "web2"], own=own, backup=settings)
        return [arguments(environment, host)["private"] for host in environment.hosts]

    assert private() == [[], []]
    assert private(folder="/var/backups/shop") == [["/var/backups/shop"], []]
