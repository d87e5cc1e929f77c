"""A small Django project on a real database, and our programs run in it as a host runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fabfile.engine.asking import SENTINEL
from roles.command import command
from roles.onhost import ship
from tests.migrations import servers
from tests.migrations.matrix import python_with

PASSWORD = """it's "\\\\#; $x"""  # PyMySQL and the tools differ in what is no ASCII
SETTINGS = """
import json, os
DATABASES = json.loads(os.environ["DATABASES"])
INSTALLED_APPS = ["shop"]
SECRET_KEY = "x"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
if DATABASES["default"]["ENGINE"].endswith("mysql"):
    import pymysql
    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()
"""
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
FIRST = """
from django.db import migrations, models


def fill(apps, editor):
    item = apps.get_model("shop", "Item").objects.using(editor.connection.alias)
    item.bulk_create([item.model(name="größe %d" % i, blob=os.urandom(64)) for i in range(500)])


class Migration(migrations.Migration):
    operations = [
        migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True)),
                                        ("name", models.CharField(max_length=50)),
                                        ("blob", models.BinaryField())]),
        migrations.RunPython(fill),
    ]
"""
SECOND = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.AddField("item", "note", models.TextField(null=True))]
"""


@dataclass(frozen=True)
class Done:
    exit: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        assert self.exit == 0, self.err
        (line,) = [each for each in self.out.splitlines() if each.startswith(SENTINEL)]
        found: dict[str, Any] = json.loads(line.removeprefix(SENTINEL))
        return found


@dataclass
class Site:
    """``folder`` is where its backups go."""

    place: Path
    databases: Mapping[str, Mapping[str, object]]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.place / "backups"

    @property
    def vendor(self) -> str:
        engine = str(self.databases["default"]["ENGINE"]).rpartition(".")[2]
        return engine.replace("sqlite3", "sqlite")

    def build(self) -> Site:
        (self.place / "shop" / "migrations").mkdir(parents=True)
        (self.place / "shop" / "__init__.py").touch()
        (self.place / "shop" / "migrations" / "__init__.py").touch()
        (self.place / "settings.py").write_text(SETTINGS)
        (self.place / "manage.py").write_text(MANAGE)
        self.migration("0001_initial", "import os\n" + FIRST)
        for alias in self.databases:
            self.manage("migrate", "-v0", f"--database={alias}")
        return self

    def migration(self, name: str, text: str) -> None:
        (self.place / "shop" / "migrations" / f"{name}.py").write_text(text)

    @property
    def variables(self) -> dict[str, str]:
        ours = {"DATABASES": json.dumps(self.databases), "PYTHONDONTWRITEBYTECODE": "1"}
        return {**os.environ, **ours, **self.environment}

    def manage(self, *words: str) -> str:
        done = subprocess.run(
            [str(python_with("5.2")), "manage.py", *words], cwd=self.place, env=self.variables,
            capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, statement: str) -> list[list[Any]]:
        """Rows, through Django's own connection."""
        code = ("import json; from django.db import connection as c; k = c.cursor(); "
                f"k.execute({statement!r}); "
                "print(json.dumps(k.fetchall() if k.description else []))")
        return list(json.loads(self.manage("shell", "-v0", "-c", code).splitlines()[-1]))

    # --- our programs ----------------------------------------------------------------------

    def start(self, program: str, **arguments: Any) -> subprocess.Popen[str]:
        told = {"folder": str(self.folder), "env": {}, "seconds": 60, **arguments}
        line = ship.line(command(str(python_with("5.2")), "-W", "ignore")).line
        process = subprocess.Popen(
            ["sh", "-c", f"exec {line}"], cwd=self.place, env=self.variables, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(ship.package(program, told, {}).decode())
        process.stdin.flush()
        return process

    def run(self, program: str, **arguments: Any) -> Done:
        with self.start(program, **arguments) as process:
            out, err = process.communicate(timeout=90)
        return Done(process.returncode, out, err)

    def backup(self, **changes: Any) -> Done:
        told = {"keep": 5, "databases": [], "release": "r1", "key": "k", "command": None,
                "check": False, **changes}
        return self.run("migrating.backup", **told)

    def drill(self, **changes: Any) -> Done:
        return self.run("migrating.drill", **{"file": None, "tables": [], **changes})

    def listing(self) -> dict[str, Any]:
        return self.run("migrating.listing").answer

    # --- looking ---------------------------------------------------------------------------

    def scratches(self) -> list[str]:
        """What a drill has left: databases, or files."""
        if self.vendor == "sqlite":
            return [each.name for each in self.folder.iterdir() if "_drill_" in each.name]
        schemas = {"postgresql": "SELECT datname FROM pg_database",
                   "mysql": "SELECT schema_name FROM information_schema.schemata"}
        return [row[0] for row in self.sql(schemas[self.vendor]) if "_drill_" in row[0]]

    def files(self) -> list[str]:
        """The dumps and whatever else there is, but for the books."""
        if not self.folder.exists():
            return []
        return sorted(each.name for each in self.folder.iterdir() if not each.name.endswith(
            (".json", ".jsonl", "lock")))

    def wrap(self, program: str, script: str) -> None:
        """Put ``script`` before a program in PATH; in it ``$REAL`` is that program."""
        real = shutil.which(program)
        folder = self.place / "wrapped"
        folder.mkdir(exist_ok=True)
        (folder / program).write_text(f"#!/bin/sh\nREAL={real}\n{script}\n")
        (folder / program).chmod(0o755)
        self.environment["PATH"] = f"{folder}:{os.environ['PATH']}"


def databases(vendor: str, folder: Path, stack: ExitStack) -> Mapping[str, object]:
    """Django's settings of an empty database on a server of our own. Raises servers.Missing."""
    if vendor == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "live?.sqlite3")}
    if vendor == "postgresql":
        home = stack.enter_context(servers.postgresql())
        for line in ("CREATE ROLE shop LOGIN CREATEDB", "CREATE ROLE poor LOGIN IN ROLE shop",
                     "CREATE DATABASE \"sh'op\" OWNER shop"):
            servers.run(["psql", "-qX", "-h", str(home), "-U", "postgres", "-c", line], None)
        return {"ENGINE": "django.db.backends.postgresql", "NAME": "sh'op", "USER": "shop",
                "HOST": str(home), "PASSWORD": PASSWORD, "OPTIONS": {"application_name": "a b"}}
    socket = stack.enter_context(servers.mariadb())
    word = PASSWORD.replace("\\", "\\\\").replace("'", "''")
    lines = ["CREATE DATABASE `sh-op` CHARACTER SET utf8mb4",
             f"CREATE USER shop@localhost IDENTIFIED BY '{word}'",
             "GRANT ALL ON `sh-op`.* TO shop@localhost",
             "GRANT ALL ON `sh-op\\_drill\\_%`.* TO shop@localhost"]
    servers.run(["mariadb", "--no-defaults", "--default-character-set=utf8mb4", "-uroot",
                 f"--socket={socket}", "-e", ";".join(lines)], None)
    return {"ENGINE": "django.db.backends.mysql", "NAME": "sh-op", "USER": "shop",
            "HOST": str(socket), "PASSWORD": PASSWORD}
