"""Backups and drills on real databases."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backups.site import SECOND, Site
from tests.migrations.sites import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("backups")]


def taken(site: Site, **changes: Any) -> dict[str, Any]:
    """The record of a backup of one database."""
    (record,) = site.backup(**changes).answer["backups"]
    return dict(record)


def cut(record: dict[str, Any], bytes_left: float = 0.7) -> Path:
    """Truncate a dump."""
    path = Path(record["file"])
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * bytes_left))
    return path


def test_a_backup_and_its_record(site: Site) -> None:
    before = time.time()
    record = taken(site, release="r7", key="run7")
    path = Path(record["file"])
    assert path.parent == site.folder
    assert (record["alias"], record["vendor"]) == ("default", site.vendor)
    assert (record["release"], record["key"]) == ("r7", "run7")
    assert record["database"] == site.databases["default"]["NAME"]
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["bytes"] == path.stat().st_size > 10_000
    assert before - 1 <= record["started"] <= time.time()
    assert ("lsn" in record) == (site.vendor == "postgresql")
    assert json.loads(Path(f"{path}.json").read_text()) == record
    assert site.listing()["backups"] == [{**record, "there": True}]
    assert site.files() == [path.name]
    assert site.folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in site.folder.iterdir()} == {0o600}


def test_a_drill_restores_counts_and_leaves_nothing(site: Site) -> None:
    record = taken(site)
    (found,) = site.drill().answer["drills"]
    assert found["rows"] == {"django_migrations": [1, 1], "shop_item": [500, 500]}
    assert (found["pending"], found["ahead"]) == ([], [])
    assert found["file"] == record["file"]
    assert site.scratches() == []
    assert [(each["ok"], each["file"], each["pending"], each["tables"])
            for each in site.listing()["drills"]] == [(True, record["file"], [], 2)]
    assert not (site.folder / "drill.json").exists()


def test_a_drill_tells_a_backup_of_another_release(site: Site) -> None:
    taken(site)
    site.migration("0002_note", SECOND)
    (found,) = site.drill(tables=["shop_item", "no_such"]).answer["drills"]
    assert (found["pending"], found["ahead"]) == (["shop.0002_note"], [])
    assert found["rows"] == {"shop_item": [500, 500]}
    site.manage("migrate", "-v0")
    second = int(time.time())
    until(lambda: int(time.time()) > second)  # backups are told apart by it
    taken(site)
    (site.place / "shop" / "migrations" / "0002_note.py").unlink()
    (found,) = site.drill().answer["drills"]
    assert (found["pending"], found["ahead"]) == ([], ["shop.0002_note"])
    site.migration("0002_note", SECOND)
    site.manage("migrate", "-v0", "shop", "0001")


def test_a_dump_that_was_truncated_later(site: Site) -> None:
    record = taken(site)
    path = cut(record)
    done = site.drill()
    assert done.exit == 1
    assert f"{path} is not what was written: it has {path.stat().st_size} bytes" in done.err
    assert site.scratches() == []
    (line,) = site.listing()["drills"]
    assert line["ok"] is False
    assert "not what was written" in line["error"]


def test_a_dump_with_one_other_byte(site: Site) -> None:
    record = taken(site)
    with Path(record["file"]).open("r+b") as file:
        file.seek(-9, 2)
        byte = file.read(1)
        file.seek(-9, 2)
        file.write(bytes([byte[0] ^ 1]))
    done = site.drill()
    assert done.exit == 1
    assert done.err == f"{record['file']} is not what was written: its SHA-256 is another one\n"


@pytest.mark.parametrize("left", [0.7, 0.99])
def test_a_truncated_dump_without_a_record(site: Site, left: float) -> None:
    """Nothing says what it should be, so only reading and restoring all of it tells."""
    other = site.folder / "other.dump"
    shutil.copy(taken(site)["file"], other)
    cut({"file": other}, left)
    done = site.drill(file="other.dump")
    assert done.exit == 1
    assert f"{other} cannot be read back" in done.err
    assert site.scratches() == []


def test_a_dump_of_somebody_else_s_making(site: Site) -> None:
    other = site.place / "other.dump"
    shutil.copy(taken(site)["file"], other)
    (found,) = site.drill(file=str(other)).answer["drills"]
    assert found["rows"]["shop_item"] == [500, 500]
    missing = site.drill(file="nothing.dump")
    assert missing.err == f"{site.folder}/nothing.dump: there is no such file on this host\n"


def test_only_so_many_are_kept(site: Site) -> None:
    names = [taken(site, keep=2)["name"] for _ in range(3)]
    assert site.files() == names[1:]
    assert [each["name"] for each in site.listing()["backups"]] == names[1:]


def test_what_a_dead_dump_left_is_removed_by_the_next(site: Site) -> None:
    site.folder.mkdir()
    (site.folder / "20260101T000000Z-default.dump.partial").write_text("half")
    record = taken(site)
    assert site.files() == [record["name"]]


def test_only_one_at_a_time(site: Site) -> None:
    taken(site)
    for name, what, run in (("lock", "backup", site.backup), ("drill.lock", "drill", site.drill)):
        with (site.folder / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write("4711")
            lock.flush()
            done = run()
            assert done.exit == 1
            assert done.err == f"another {what} runs on this host already: process 4711\n"


def test_a_scratch_whose_drill_was_killed_is_dropped_by_the_next(site: Site) -> None:
    taken(site)
    if site.vendor == "sqlite":
        name = str(site.folder / "sqlite_drill_0000")
        Path(name).write_text("x")
    else:
        name = f"{site.databases['default']['NAME']}_drill_0000"
        quote = '"' if site.vendor == "postgresql" else "`"
        site.sql(f"CREATE DATABASE {quote}{name}{quote}")
    assert len(site.scratches()) == 1
    (site.folder / "drill.json").write_text(json.dumps({"alias": "default", "scratch": name}))
    assert site.drill().exit == 0
    assert site.scratches() == []


def test_looking_changes_nothing(site: Site) -> None:
    found = site.backup(check=True).answer
    assert found["problems"] == []
    assert found["expected"] > 10_000
    assert not site.folder.exists()


def test_the_database_that_is_not_there(site: Site) -> None:
    done = site.backup(databases=["default", "othre"])
    assert done.exit == 1
    assert done.err == "backup.databases: the project has no othre; it has default\n"
    assert site.drill().err == f"{site.folder}: there is no backup; fab backup makes one\n"


# --- the tools of the servers ----------------------------------------------------------------

VERSION = 'case $1 in --version) exec $REAL "$@";; esac; '
# The program, and what makes it lose the end of its dump without a word.
DUMPERS = {
    "postgresql": ("pg_dump", '$REAL "$@" || exit; while [ $# -gt 1 ]; do '
                              '[ "$1" = -f ] && truncate -s -9 "$2"; shift; done'),
    "mysql": ("mariadb-dump", '$REAL "$@" | head -n -1'),
}
RESTORERS = {"postgresql": "pg_restore", "mysql": "mariadb"}


def of_a_server(site: Site) -> None:
    if site.vendor == "sqlite":
        pytest.skip("SQLite has no tools of its own")


def test_a_dump_that_is_cut_off_is_no_backup(site: Site) -> None:
    """The tool says that all went well; only reading it back tells."""
    of_a_server(site)
    program, loses_the_end = DUMPERS[site.vendor]
    site.wrap(program, VERSION + loses_the_end)
    done = site.backup()
    assert done.exit == 1
    assert "cannot be read back" in done.err
    assert site.files() == []
    assert site.listing()["backups"] == []


def test_a_tool_that_fails(site: Site) -> None:
    of_a_server(site)
    program, _ = DUMPERS[site.vendor]
    site.wrap(program, VERSION + "echo half; echo no more space >&2; exit 3")
    done = site.backup()
    assert done.exit == 1
    assert "dump: no more space\n" in done.err
    assert site.files() == []


def test_passwords_stand_in_no_argument(site: Site) -> None:
    of_a_server(site)
    log = site.place / "words"
    for program in (DUMPERS[site.vendor][0], RESTORERS[site.vendor]):
        site.wrap(program, f'echo "$0 $*" >>{log}; exec $REAL "$@"')
    taken(site)
    assert site.drill().exit == 0
    words = log.read_text()
    assert "_drill_" in words
    assert "it's" not in words
    assert not list(Path("/tmp").glob("fabfleet-*.cnf"))
    log.unlink()


@pytest.mark.parametrize("how", ["time is up", "a signal"])
def test_however_a_drill_ends_its_scratch_goes(site: Site, how: str) -> None:
    of_a_server(site)
    taken(site)
    begun = site.place / "begun"
    restoring = {"postgresql": '*" -d "*', "mysql": "*_drill_*"}[site.vendor]
    site.wrap(RESTORERS[site.vendor],
              f'case "$*" in {restoring}) touch {begun}; exec sleep 60;; esac; exec $REAL "$@"')
    if how == "time is up":
        done = site.drill(seconds=4)
        assert (done.exit, done.err) == (1, "did not end within 4 s (backup.timeout)\n")
    else:
        with site.start("migrating.drill", file=None, tables=[]) as process:
            while not begun.exists():
                time.sleep(0.02)
            site.environment.clear()
            assert len(site.scratches()) == 1
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (1, "was ended by signal 15\n")
    assert begun.exists()
    begun.unlink()
    assert site.scratches() == []
    assert [each["ok"] for each in site.listing()["drills"]] == [False]


def test_a_user_who_may_make_no_database(site: Site) -> None:
    if site.vendor != "postgresql":
        pytest.skip("on PostgreSQL only")
    taken(site)
    databases = {"default": {**site.databases["default"], "USER": "poor"}}
    done = site.drill(env={"DATABASES": json.dumps(databases)})
    assert done.exit == 1
    assert "the drill needs a database of its own" in done.err
    assert "let this user make one (ALTER ROLE ... CREATEDB), or have backup.env" in done.err


# --- a command of the user's own -----------------------------------------------------------------


@pytest.mark.parametrize("command", [
    "echo making; echo snap-1; echo", ["printf", "making\nsnap-1\n\n"],
])
def test_a_command_of_one_s_own(site: Site, command: object) -> None:
    record = taken(site, command=command, release="r7", key="run7")
    assert record["reference"] == "snap-1"
    assert (record["release"], record["key"]) == ("r7", "run7")
    assert [each["reference"] for each in site.listing()["backups"]] == ["snap-1"]
    done = site.drill()
    assert done.exit == 1
    assert "the newest backup was made by backup.command (snap-1)" in done.err


@pytest.mark.parametrize(("command", "words"), [
    ("echo snap; exit 7", "exit status 7"),
    ("true", "it printed nothing; its last line has to be a reference to what it made"),
    (["no-such-program"], "no-such-program: No such file or directory"),
])
def test_a_command_that_makes_nothing(site: Site, command: object, words: str) -> None:
    done = site.backup(command=command)
    assert (done.exit, done.err) == (1, f"backup.command: {words}\n")
    assert site.listing()["backups"] == []
