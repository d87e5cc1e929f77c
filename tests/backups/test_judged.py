"""What speaks against a backup, without any database."""

from __future__ import annotations

import errno
import gzip
import os
import sqlite3
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

# By name, as mypy cannot read what is written for Python 3.8.
backup, mysql_dump, postgresql_dump, sqlite_dump, stored = (
    import_module(f"roles.onhost.migrating.{name}")
    for name in ("backup", "mysql_dump", "postgresql_dump", "sqlite_dump", "stored")
)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A kind of database that takes 100 MB, on a disk with 1 GB."""
    made = SimpleNamespace(
        database=lambda _: "shop", refusal=lambda _: "", size=lambda _: 100_000_000,
    )
    monkeypatch.setattr(backup, "VENDORS", {"made": made})
    monkeypatch.setattr(stored, "free", lambda _: 1_000_000_000)
    return made


def judged(folder: Path, *vendors: str) -> Any:
    return backup.judged(str(folder), {name: SimpleNamespace(vendor=name) for name in vendors})


def test_nothing_speaks_against_it(vendor: SimpleNamespace, tmp_path: Path) -> None:
    assert judged(tmp_path / "not" / "there", "made") == ([], 100_000_000)
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(("free", "is_enough"), [(167_108_864, True), (167_108_863, False)])
def test_the_first_one_may_take_as_much_as_the_database(
    vendor: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int,
    is_enough: bool,
) -> None:
    monkeypatch.setattr(stored, "free", lambda _: free)
    problems, _ = judged(tmp_path, "made")
    assert problems == [] if is_enough else [
        f"the disk of {tmp_path} is too full for a backup: up to 167.1 MB are needed "
        "(67.1 MB spare), 167.1 MB are free"
    ]


@pytest.mark.parametrize(("last", "expected"), [
    (10_000, 15_000), (90_000_000, 100_000_000), (200_000_000, 200_000_000),
])
def test_the_next_one_may_take_half_as_much_again(
    vendor: SimpleNamespace, tmp_path: Path, last: int, expected: int
) -> None:
    (tmp_path / "x.dump").touch()
    record = {"backup": "x", "alias": "made", "database": "shop", "started": 1, "bytes": last,
              "file": str(tmp_path / "x.dump")}
    stored.write(str(tmp_path / "x.dump.json"), record)
    assert judged(tmp_path, "made") == ([], expected)


def test_several_problems_are_said_at_once(vendor: SimpleNamespace, tmp_path: Path) -> None:
    vendor.refusal = lambda _: "pg_dump is not on this host"
    assert judged(tmp_path, "made", "oracle")[0] == [
        "pg_dump is not on this host",
        "oracle: databases of the kind oracle cannot be backed up; set backup.command, or name "
        "the others in backup.databases",
    ]


def test_a_disk_that_becomes_full(
    vendor: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dump(_: object, path: str) -> None:
        Path(path).write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    vendor.marker, vendor.dump, vendor.SUFFIX = lambda _: {}, dump, ".dump"
    found = {"made": SimpleNamespace(vendor="made", settings_dict={})}
    monkeypatch.setattr(backup.project, "databases", lambda: found)
    with pytest.raises(SystemExit) as end:
        backup.taken({"folder": str(tmp_path), "databases": [], "release": "r", "key": "k"})
    assert str(end.value) == f"{tmp_path}: No space left on device"
    assert [each.name for each in tmp_path.iterdir()] == ["lock"]


def test_a_copy_of_sqlite_that_cannot_be_written(tmp_path: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as real:
        live = SimpleNamespace(ensure_connection=lambda: None, connection=real)
        with pytest.raises(SystemExit) as end:
            sqlite_dump.dump(live, str(tmp_path / "no" / "x"))
    assert str(end.value) == f"{tmp_path}/no/x: unable to open database file"


def connection(monkeypatch: pytest.MonkeyPatch, server: int, *tools: int) -> Any:
    monkeypatch.setattr(postgresql_dump, "major", lambda _: server)
    monkeypatch.setattr(
        postgresql_dump, "versions", lambda name: {each: f"/{each}/{name}" for each in tools}
    )


@pytest.mark.parametrize(("tools", "words"), [
    ((15,), ""),
    ((13, 17), ""),
    ((), "pg_dump is not on this host; install it there: apt install postgresql-client-15 (where "
         "the host's own release has that version: apt install postgresql-client)"),
    ((11, 14), "pg_dump is of version 14 and the server of 15, which it cannot dump; install it "
               "there: apt install postgresql-client-15"),
])
def test_the_version_of_pg_dump(
    monkeypatch: pytest.MonkeyPatch, tools: tuple[int, ...], words: str
) -> None:
    connection(monkeypatch, 15, *tools)
    assert postgresql_dump.refusal(None) == words


def test_the_oldest_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, 15, 13, 18, 16)
    assert postgresql_dump.program(None, "pg_dump") == "/16/pg_dump"


@pytest.mark.parametrize(("name", "words"), [
    ("shop", "dbname='shop'"), ("a=b ' \\", "dbname='a=b \\' \\\\'"),
])
def test_a_name_is_never_a_connection_string(name: str, words: str) -> None:
    assert postgresql_dump.words_for(name) == words


def info(**changes: Any) -> SimpleNamespace:
    """A connection of Django's, as psycopg tells of it."""
    made = {"host": "db2", "port": 5433, "user": "shop", "password": "secret"}
    told = {"sslmode": "require", "host": "db1,db2", "hostaddr": "10.0.0.1,10.0.0.2",
            "service": "shop", "keepalives": "1", "options": "-c x=1"}
    found = SimpleNamespace(**{**made, **changes}, get_parameters=lambda: told)
    return SimpleNamespace(connection=SimpleNamespace(info=found), ensure_connection=lambda: None,
                           settings_dict={"OPTIONS": {"assume_role": "the owner"}})


def test_pg_dump_reaches_what_django_has_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "other")
    found = postgresql_dump.environment(info())
    assert {name: value for name, value in found.items() if name.startswith("PG")} == {
        "PGHOST": "db2", "PGPORT": "5433", "PGUSER": "shop", "PGPASSWORD": "secret",
        "PGSSLMODE": "require", "PGOPTIONS": "-c x=1 -c role=the\\ owner",
    }
    assert "PGPASSWORD" not in postgresql_dump.environment(info(password=""))


def mysql(**known: Any) -> SimpleNamespace:
    return SimpleNamespace(get_connection_params=lambda: known)


def test_the_file_that_mysqldump_reads() -> None:
    told = mysql(user="shop", password='a"\\#\n', host="db1", port=3307, charset="utf8mb4",
                 read_default_file="/etc/shop.cnf", ssl={"ca": "/ca.pem", "check": True},
                 ssl_mode="REQUIRED")
    with mysql_dump.options(told) as path:
        assert Path(path).read_text().splitlines() == [
            "!include /etc/shop.cnf", "[client]", 'user="shop"', r'password="a\"\\#\n"',
            'host="db1"', 'port="3307"', 'loose-ssl-mode="REQUIRED"', 'ssl-ca="/ca.pem"',
        ]
        assert Path(path).stat().st_mode & 0o777 == 0o600
    assert not Path(path).exists()


# --- read back -----------------------------------------------------------------------------------


def refuses(module: ModuleType, path: Path) -> str:
    with pytest.raises(SystemExit) as end:
        module.read_back(None, str(path))
    text = str(end.value)
    assert text.startswith(f"{path} cannot be read back: ")
    return text.partition("back: ")[2]


def test_a_copy_of_sqlite_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "100%?#.sqlite3"
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
                     "FROM n LIMIT 9999) SELECT i, hex(randomblob(20)) AS x FROM n")
    sqlite_dump.read_back(None, str(path))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert refuses(sqlite_dump, path)


def test_sql_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "x.sql.gz"
    path.write_bytes(gzip.compress(b"INSERT;\n-- Dump completed on 2026-01-01\n"))
    mysql_dump.read_back(None, str(path))
    path.write_bytes(path.read_bytes()[:-9])
    assert "end-of-stream" in refuses(mysql_dump, path)
    path.write_bytes(gzip.compress(b"INSERT;\n"))
    assert refuses(mysql_dump, path) == (
        "it has no line '-- Dump completed', so it is not complete")
