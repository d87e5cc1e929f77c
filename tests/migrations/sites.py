"""A small Django project on disk, a database of its own, and the runner started in it as a file."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roles.onhost import ship
from tests.migrations import matrix

SENTINEL = "@@FABFLEET "
NUMBERS = itertools.count(1)
PATIENCE = 60.0

MANAGE = """import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
"""
SETTINGS = """import json, os
SECRET_KEY, USE_TZ, DEFAULT_AUTO_FIELD = "x", True, "django.db.models.BigAutoField"
DATABASES = json.loads(os.environ["DATABASES"])
INSTALLED_APPS = json.loads(os.environ.get("APPS", '["shop"]'))
if any(each["ENGINE"].endswith("mysql") for each in DATABASES.values()):
    import pymysql
    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()
"""
HEAD = """import os, time
from django.db import connection, migrations, models, transaction

def add(apps, editor):
    apps.get_model("shop", "Item").objects.using(editor.connection.alias).create(name="added")

def wait(apps, editor):
    open("begun", "w").close()
    for _ in range(3000):
        if os.path.exists("go"):
            return
        time.sleep(0.02)

"""
FIRST = """migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=50))])"""
ADD = "migrations.RunPython(add, migrations.RunPython.noop)"
WAIT = "migrations.RunPython(wait, migrations.RunPython.noop)"
COLUMN = 'migrations.AddField("item", "note", models.CharField(max_length=9, null=True))'
SECOND_COLUMN = 'migrations.AddField("item", "memo", models.CharField(max_length=9, null=True))'


@dataclass(frozen=True)
class Ended:
    """One run of the runner: its log is both of its outputs, as a job keeps it."""

    exit: int
    log: str
    seconds: float

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line[len(SENTINEL):]) for line in self.log.splitlines()
                if line.startswith(SENTINEL)]

    @property
    def result(self) -> dict[str, Any]:
        """The log's last line, always."""
        last = self.log.splitlines()[-1]
        assert last.startswith(SENTINEL), self.log
        found: dict[str, Any] = json.loads(last[len(SENTINEL):])
        assert found["event"] == "result"
        assert found["exit"] == self.exit, self.log
        assert bool(found["failure"]) == bool(self.exit), self.log
        return found

    @property
    def applied(self) -> list[str]:
        return [name for _, name in self.result["applied"]]

    def examined(self) -> dict[str, str]:
        return {each["migration"]: each["verdict"] for each in self.events
                if each["event"] == "examined"}


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)

    def end(self) -> Ended:
        self.process.wait(PATIENCE)
        seconds = time.monotonic() - self.began
        return Ended(self.process.returncode, self.log.read_text(), seconds)

    def says(self, words: str) -> None:
        until(lambda: words in self.log.read_text(), self.log.read_text)


def until(true: Callable[[], object], why: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)


@dataclass
class Site:
    python: Path
    folder: Path
    databases: dict[str, dict[str, Any]]
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.put("manage.py", MANAGE)
        self.put("config/__init__.py", "")
        self.put("config/settings.py", SETTINGS)

    @property
    def vendor(self) -> str:
        return str(self.databases["default"]["ENGINE"]).rpartition(".")[2].replace("3", "")

    def put(self, path: str, text: str) -> Path:
        where = self.folder / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
        return where

    def migration(self, name: str, *operations: str, after: str = "", more: str = "",
                  head: str = "", app: str = "shop") -> None:
        """``after``: "0001" of the same app, or "app.0001"; ``more``: lines of the class."""
        (self.folder / app / "migrations").mkdir(parents=True, exist_ok=True)
        for package in (app, f"{app}/migrations"):
            (self.folder / package / "__init__.py").touch()
        needs = ", ".join(
            f"({a!r}, {n!r})" for a, _, n in
            ((each if "." in each else f"{app}.{each}").partition(".") for each in after.split()))
        self.put(f"{app}/migrations/{name}.py", HEAD + head + (
            f"class Migration(migrations.Migration):\n    {more or 'pass'}\n"
            f"    dependencies = [{needs}]\n    operations = [{', '.join(operations)}]\n"))

    def digests(self) -> list[list[str]]:
        return [[f"{path.parts[-3]}.{path.stem}", hashlib.sha256(path.read_bytes()).hexdigest()]
                for path in sorted(self.folder.glob("*/migrations/[0-9]*.py"))]

    def order(self, **changes: Any) -> dict[str, Any]:
        names = self.digests()
        return {
            "env": {}, "command": ["migrate", "--noinput"], "external": False,
            "holder": f"fabfleet-{os.getpid()}", "expected": dict.fromkeys(self.databases, names),
            "only": {a: [name for name, _ in names] for a in self.databases}, "back": {},
            "accepted": [], "wait": 20, "lock_timeout": 1, "retries": 5, "retry_python": False,
            **changes,
        }  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "DATABASES": json.dumps(self.databases),
                "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore", **self.env}

    def start(self, order: Mapping[str, Any] | None = None, gone: Sequence[Any] = ()) -> Running:
        number = next(NUMBERS)
        program = self.folder.parent / f"program{number}.py"
        program.write_bytes(ship.standalone("migrating.apply", order or self.order()))
        log = self.folder.parent / f"log{number}"
        words = [f"--gone={json.dumps(gone)}"] if gone else []
        with log.open("ab") as out:
            process = subprocess.Popen(
                [self.python, program, *words], cwd=self.folder, env=self.environment(),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        return Running(process, log)

    def run(self, *, gone: Sequence[Any] = (), **changes: Any) -> Ended:
        return self.start(self.order(**changes), gone).end()

    def killed(self, **changes: Any) -> None:
        """A run that is killed once a migration of it waits."""
        running = self.start(self.order(**changes))
        until(self.file("begun").exists, running.log.read_text)
        running.process.kill()
        running.end()

    def file(self, name: str) -> Path:
        return self.folder / name

    def sql(self, text: str, alias: str = "default") -> list[str]:
        """The rows' first columns."""
        settings = self.databases[alias]
        if settings["ENGINE"].endswith("sqlite3"):
            with sqlite3.connect(settings["NAME"]) as database:
                rows = database.execute(text).fetchall()
            database.close()
            return [str(row[0]) for row in rows]
        done = subprocess.run([*client(settings), *flag(settings), text], capture_output=True,
                              text=True, check=False)
        assert not done.returncode, done.stderr
        return done.stdout.splitlines()

    def names(self, alias: str = "default") -> list[str]:
        """What is recorded of our own apps."""
        return self.sql("SELECT name FROM django_migrations ORDER BY id", alias)

    def items(self) -> int:
        return int(self.sql("SELECT count(*) FROM shop_item")[0])

    def nothing_left(self) -> None:
        """No lock, and no session of ours."""
        if self.vendor == "postgresql":
            until(lambda: self.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
                "pid <> pg_backend_pid()") == ["0"])
            assert self.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database"
                            " = (SELECT oid FROM pg_database WHERE datname = current_database())"
                            ) == ["0"]  # fmt: skip
        if self.vendor == "mysql":
            name = self.databases["default"]["NAME"]
            until(lambda: self.sql(
                "SELECT count(*) FROM information_schema.processlist WHERE db = database() "
                "AND id <> connection_id()") == ["0"])
            for kind in ("fabfleet", "fabfleet-work"):
                assert self.sql(f"SELECT IS_FREE_LOCK('{kind}:{name}')") == ["1"]


def client(settings: Mapping[str, Any]) -> list[str]:
    if settings["ENGINE"].endswith("postgresql"):
        port = ["-p", str(settings["PORT"])] if settings.get("PORT") else []
        return ["psql", "-XAtq", "-h", settings["HOST"], "-U", settings["USER"], *port,
                settings["NAME"]]
    return ["mariadb", "--no-defaults", "-N", "-B", "-n", "-u", settings["USER"], "-S",
            settings["HOST"], settings["NAME"]]


def flag(settings: Mapping[str, Any]) -> list[str]:
    return ["-c"] if settings["ENGINE"].endswith("postgresql") else ["-e"]


class Session:
    """Somebody else's session, kept open."""

    def __init__(self, settings: Mapping[str, Any], name: str = "somebody") -> None:
        self.process = subprocess.Popen(
            client(settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            stderr=subprocess.STDOUT, env={**os.environ, "PGAPPNAME": name})

    def ask(self, text: str) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{text};\nSELECT 'the end';\n")
        self.process.stdin.flush()
        found: list[str] = []
        while (line := self.process.stdout.readline().rstrip("\n")) != "the end":
            assert line or self.process.poll() is None
            found.append(line)
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


def settings_of(vendor: str, home: Path, name: str) -> dict[str, Any]:
    """An empty database."""
    if vendor == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(home / f"{name}.sqlite3")}
    found = dict(matrix.database(vendor, home, name))
    root = {**found, "NAME": {"postgresql": "postgres", "mysql": ""}[vendor]}
    line = [word for word in client(root) if word]
    subprocess.run([*line, *flag(root), f"CREATE DATABASE {name}"], check=True,
                   capture_output=True)
    return found


__all__ = ["ADD", "COLUMN", "FIRST", "SECOND_COLUMN", "WAIT", "Ended", "Running", "Session",
           "Site", "settings_of", "until"]
