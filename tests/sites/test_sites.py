"""The sample site: the same history on every machine, and each version does what its tag says."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from . import history
from .history import EXECUTABLE, LINK, PLAIN

HEALTH = """
from django.test import Client
from config.wsgi import application
client = Client(raise_request_exception=False)
def ask(path, host="shop.example.com"):
    answer = client.get(path, headers={"host": host})
    return [answer.status_code, dict(answer.headers), answer.getvalue().decode()]
"""


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return history.build(tmp_path_factory.mktemp("sample") / "shop")


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with exactly what requirements.txt pins."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    assert uv, "these tests install the site's requirements with uv"
    venv = tmp_path_factory.mktemp("environment") / "venv"
    python = venv / "bin" / "python"
    requirements = str(history.HERE / "shop" / "requirements.txt")
    options = ["--quiet", "--require-hashes", "--compile-bytecode", "--python", str(python)]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    subprocess.run([uv, "pip", "sync", *options, requirements], check=True)
    return python


@dataclass
class Site:
    """One release, unpacked, with a database that can be shared with another."""

    python: Path
    release: Path
    database: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, code: int = 0, **environment: str) -> str:
        done = subprocess.run(
            [self.python, "-W", "error", *words],
            cwd=self.release,
            env=self.environment | environment,
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def manage(self, *words: str, code: int = 0, **environment: str) -> str:
        return self.run("manage.py", *words, code=code, **environment)

    def get(self, *requests: str, **environment: str) -> list[tuple[int, dict[str, str], str]]:
        """Each request is the arguments of `ask`, as Python would write them."""
        asked = ", ".join(f"ask({request})" for request in requests)
        script = f"{HEALTH}import json\nprint(json.dumps([{asked}]))"
        output = self.run("-c", script, code=0, **environment)
        return [(status, headers, body) for status, headers, body in json.loads(output)]

    def sql(self, query: str) -> list[list[object]]:
        script = "import json, sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as db:\n"
        script += " print(json.dumps(db.execute(sys.argv[2]).fetchall()))\ndb.close()"
        rows: list[list[object]] = json.loads(self.run("-c", script, str(self.database), query))
        return rows


@pytest.fixture
def site(repository: Path, python: Path, tmp_path: Path) -> Callable[[str], Site]:
    def unpack(tag: str) -> Site:
        release = tmp_path / tag
        release.mkdir()
        archive = subprocess.run(
            ["git", "archive", tag], cwd=repository, capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(release)], input=archive.stdout, check=True)
        database = tmp_path / "shop.sqlite3"
        environment = {
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SECRET_KEY": "the tests need a key of fifty characters, and here it is",
            "DATABASE_URL": f"sqlite:///{database}",
            "ALLOWED_HOSTS": "shop.example.com",
            "STATIC_ROOT": str(tmp_path / f"{tag}-static"),
            "RELEASE_ID": f"release-of-{tag}",
            "HOST_NAME": "web1",
        }
        Path(environment["STATIC_ROOT"]).mkdir()
        return Site(python, release, database, environment)

    return unpack


def contents(folder: Path) -> history.Tree:
    """The folder as `history.tree` would say it."""

    def entry(path: Path) -> history.Entry:
        if path.is_symlink():
            return history.link(os.readlink(path))
        mode = EXECUTABLE if path.stat().st_mode & 0o100 else PLAIN
        return history.Entry(path.read_bytes(), mode)

    found = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return {path.relative_to(folder).as_posix(): entry(path) for path in sorted(found)}


class TestHistory:
    def test_two_builds_have_the_same_commits(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody else")
        monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
        monkeypatch.setenv("TZ", "Pacific/Auckland")
        again = history.build(tmp_path / "again")
        assert history.commits(again) == history.commits(repository)
        assert list(history.commits(again)) == list(history.VERSIONS)

    def test_main_is_checked_out_at_v2(self, repository: Path) -> None:
        assert history.git(repository, "branch", "--show-current") == "main\n"
        assert history.git(repository, "describe", "--tags", "main") == "v2\n"
        assert history.git(repository, "status", "--porcelain", "--ignored") == ""

    def test_commits_carry_the_sample_identity_and_fixed_dates(self, repository: Path) -> None:
        shown = history.git(repository, "log", "--format=%an <%ae> %cn <%ce> %aI", "v1")
        who = "Fabfleet sample <sample@fabfleet.invalid>"
        assert shown == f"{who} {who} 2026-01-05T09:00:00+00:00\n"

    @pytest.mark.parametrize("tag", ["v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11"])
    def test_each_later_tag_follows_v2(self, repository: Path, tag: str) -> None:
        parent = history.git(repository, "rev-parse", f"{tag}^").strip()
        assert parent == history.commits(repository)["v2"]

    def test_building_again_does_nothing(self, tmp_path: Path) -> None:
        sample = history.build(tmp_path / "shop")
        before = sample.stat().st_ino
        (sample / "README.md").write_text("mine")
        assert history.build(sample) == sample
        assert (sample / "README.md").read_text() == "mine"
        assert sample.stat().st_ino == before

    def test_a_changed_source_is_built_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample = history.build(tmp_path / "shop")
        before = history.commits(sample)
        monkeypatch.setattr(history, "FIRST_COMMIT", 0)
        assert history.commits(history.build(sample)).keys() == before.keys()
        assert history.commits(sample) != before
        assert [path.name for path in tmp_path.iterdir()] == ["shop"]

    @pytest.mark.parametrize("words", [("commit", "-qam", "Mine"), ("stash", "-q"), ("status",)])
    def test_a_changed_source_does_not_cost_anyone_their_work(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
    ) -> None:
        sample = history.build(tmp_path / "shop")
        (sample / "README.md").write_text("mine")
        history.git(sample, *words)
        monkeypatch.setattr(history, "FIRST_COMMIT", 0)
        with pytest.raises(history.SampleError, match="holds work of its own"):
            history.build(sample)

    def test_a_folder_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("x")
        with pytest.raises(history.SampleError, match="is not a sample repository"):
            history.build(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_the_command(self, tmp_path: Path) -> None:
        command = [sys.executable, history.__file__, str(tmp_path / "shop")]
        shown = subprocess.run(command, text=True, capture_output=True, check=True).stdout
        ids = history.commits(tmp_path / "shop")
        assert [line.split()[:2] for line in shown.splitlines()] == [
            [tag, commit[:12]] for tag, commit in ids.items()
        ]

    def test_the_command_refuses_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("x")
        command = [sys.executable, history.__file__, str(tmp_path)]
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"{tmp_path}: exists, and is not a sample repository\n"


class TestTrees:
    @pytest.mark.parametrize("tag", list(history.VERSIONS))
    def test_a_release_holds_what_the_table_says(
        self, repository: Path, tmp_path: Path, tag: str
    ) -> None:
        release = tmp_path / tag
        history.git(repository, "worktree", "prune")
        history.git(repository, "worktree", "add", "-q", "--detach", str(release), tag)
        (release / ".git").unlink()
        assert contents(release) == history.tree(tag)

    def test_v1_is_the_shop_and_what_deployments_get_wrong(self) -> None:
        v1 = history.tree("v1")
        shop = dict(history.read(history.HERE / "shop"))
        assert {path: v1[path].data for path in shop} == shop
        assert v1["bin/backup"].mode == v1["manage.py"].mode == EXECUTABLE
        assert v1["docs/latest.txt"] == history.link("suppliers.txt")
        assert v1["docs/styles"] == history.link("../static/shop")
        assert v1["docs/.keep"].data == b""
        assert b"\r\n" in v1["docs/orders.csv"].data
        assert b"\0" in v1["docs/thumbnail.bin"].data
        assert any(" " in path and "'" in path for path in v1)
        assert any(not path.isascii() for path in v1)
        assert max(path.count("/") for path in v1) == 6

    def test_no_cache_is_part_of_a_release(self) -> None:
        assert not [path for path in history.tree("v2") if "__pycache__" in path or ".pyc" in path]

    def test_v2_against_v1(self) -> None:
        v1, v2 = history.tree("v1"), history.tree("v2")
        assert sorted(v2.keys() - v1.keys()) == [
            "catalog/migrations/0004_product_stock.py",
            "catalog/migrations/0005_note_stock.py",
            "catalog/pricing.py",
            "docs/changes/v1.txt",
            "docs/changes/v2.txt",
            "docs/returns.txt",
            "docs/shelves",
            "static/shop/shelf.svg",
            "templates/layout.html",
        ]
        assert sorted(v1.keys() - v2.keys()) == [
            "catalog/pricing/__init__.py",
            "catalog/pricing/money.py",
            "catalog/promotions.py",
            "docs/changes",
            "docs/shelves/left.txt",
            "docs/shelves/right.txt",
            "docs/suppliers.txt",
            "static/shop/banner.svg",
            "templates/base.html",
        ]
        both = sorted(v1.keys() & v2.keys())
        assert [path for path in both if v1[path].data != v2[path].data] == [
            "catalog/hours.py",
            "catalog/models.py",
            "catalog/views.py",
            "docs/latest.txt",
            "static/shop/shop.css",
            "templates/catalog/home.html",
            "templates/catalog/product_card.html",
        ]
        assert {p: (v1[p].mode, v2[p].mode) for p in both if v1[p].mode != v2[p].mode} == {
            "bin/backup": (EXECUTABLE, PLAIN),
            "bin/report": (PLAIN, EXECUTABLE),
        }
        assert len(v1["catalog/hours.py"].data) == len(v2["catalog/hours.py"].data)
        assert v1["templates/base.html"] == v2["templates/layout.html"]
        assert v2["docs/latest.txt"] == history.link("returns.txt")

    @pytest.mark.parametrize("tag", list(history.VERSIONS))
    def test_every_symlink_leads_somewhere(self, tag: str) -> None:
        tree = history.tree(tag)
        for path, entry in tree.items():
            if entry.mode == LINK:
                target = os.path.normpath(os.path.join(os.path.dirname(path), entry.data.decode()))
                assert any(history.is_within(other, target) for other in tree), path

    @pytest.mark.parametrize(
        ("tag", "changed"),
        [
            ("v3", ["config/wsgi.py"]),
            ("v4", ["config/operations.py"]),
            ("v5", ["catalog/checks.py"]),
            ("v6", ["requirements.in", "requirements.txt"]),
            ("v7", ["catalog/migrations/0006_prices_in_cents.py", "catalog/models.py"]),
        ],
    )
    def test_what_a_broken_version_changes(self, tag: str, changed: list[str]) -> None:
        v2, later = history.tree("v2"), history.tree(tag)
        assert v2.keys() <= later.keys()
        assert [path for path in later if later[path] != v2.get(path)] == changed

    def test_v6_pins_the_same_and_one_more(self) -> None:
        before, after = pinned("v2"), pinned("v6")
        assert before < after
        assert [line.split("==")[0] for line in after - before] == ["six"]

    @pytest.mark.parametrize("tag", ["v2", "v6"])
    def test_requirements_name_no_machine(self, tag: str) -> None:
        content = history.tree(tag)["requirements.txt"].data
        assert b"://" not in content
        assert b"--index" not in content
        assert b" /" not in content


def pinned(tag: str) -> set[str]:
    lines = history.tree(tag)["requirements.txt"].data.decode().splitlines()
    return {line for line in lines if "==" in line}


class TestAGoodVersion:
    @pytest.mark.parametrize(("tag", "accent"), [("v1", "#1f6f5c"), ("v2", "#9a4a1f")])
    def test_runs(self, site: Callable[[str], Site], tag: str, accent: str) -> None:
        shop = site(tag)
        before = contents(shop.release)
        shop.manage("check", "--deploy", "--fail-level", "WARNING", SECURE="1")
        shop.manage("check", "--deploy", "--fail-level", "ERROR")
        shop.manage("collectstatic", "--noinput", "-v", "0")
        pending, _ = shop.get("'/healthz'", "'/version'")
        shop.manage("makemigrations", "--check", "--dry-run")
        shop.manage("migrate", "-v", "0")
        health, stray, version, home, slow, wrong, nan, missing = shop.get(
            "'/healthz'",
            "'/healthz', '127.0.0.1'",
            "'/version'",
            "'/'",
            "'/slow?seconds=0'",
            "'/slow?seconds=soon'",
            "'/slow?seconds=nan'",
            "'/nothing'",
        )
        release = f"release-of-{tag}"
        total = {"v1": 3, "v2": 5}[tag]
        well = {"release": release, "host": "web1", "database": "ok", "pending": 0}
        assert (pending[0], json.loads(pending[2])) == (200, well | {"pending": total})
        assert (health[0], json.loads(health[2])) == (200, well)
        assert health[1]["Cache-Control"] == "no-store"
        assert (version[0], version[2]) == (slow[0], slow[2]) == (200, release + "\n")
        assert [stray[0], wrong[0], nan[0], missing[0]] == [400, 400, 400, 404]
        for answer in (health, stray, version, home, slow, wrong, missing):
            assert answer[1]["X-Release"] == release
        assert home[0] == 200
        assert home[2].count('<li class="product">') == 5
        assert f"release <b>{release}</b> on <b>web1</b>" in home[2]
        address = home[2].split('rel="stylesheet" href="')[1].split('"')[0]
        (css,) = shop.get(repr(address))
        assert (css[0], css[1]["X-Release"]) == (200, release)
        assert f"--accent: {accent}" in css[2]
        assert 'url("paper.svg")' not in css[2], "names in the css are hashed too"
        assert contents(shop.release) == before, "the site writes into its own folder"

    def test_v1_goes_on_working_on_the_database_of_v2(self, site: Callable[[str], Site]) -> None:
        old, new = site("v1"), site("v2")
        old.manage("migrate", "-v", "0")
        assert old.sql("SELECT count(*) FROM catalog_product") == [[5]]
        assert old.sql("SELECT count(*) FROM catalog_auditentry") == [[0]]
        new.manage("migrate", "-v", "0")
        old.manage(
            "shell",
            "-v0",
            "-c",
            "from catalog.models import Category, Product\n"
            "Product.objects.create(category=Category.objects.first(), name='Spoon', price=1)",
        )
        assert new.sql("SELECT name, stock FROM catalog_product WHERE price = 1") == [["Spoon", 12]]
        assert new.sql("SELECT count(*) FROM catalog_product") == [[6]]
        assert new.sql("SELECT count(*) FROM catalog_auditentry") == [[1]]

    def test_a_data_migration_that_ran_twice_would_show(self, site: Callable[[str], Site]) -> None:
        shop = site("v2")
        shop.manage("migrate", "-v", "0")
        shop.manage("migrate", "-v", "0")
        assert shop.sql("SELECT count(*) FROM catalog_auditentry") == [[1]]
        shop.manage("migrate", "-v", "0", "catalog", "0004")
        shop.manage("migrate", "-v", "0")
        assert shop.sql("SELECT count(*) FROM catalog_auditentry") == [[2]]

    def test_without_its_database_the_health_check_says_so(
        self, site: Callable[[str], Site]
    ) -> None:
        nowhere = "postgres://shop:p%40ss@127.0.0.1:1/shop"
        (health,) = site("v1").get("'/healthz'", DATABASE_URL=nowhere)
        assert health[0] == 503
        assert health[1]["Cache-Control"] == "no-store"
        assert json.loads(health[2]) == {
            "release": "release-of-v1",
            "host": "web1",
            "database": "OperationalError",
        }


class TestSettings:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("sqlite:////var/lib/a%20shop.db", {"NAME": "/var/lib/a shop.db"}),
            (
                "postgres://me:p%40s%2Fs@db1:5433/shop?sslmode=require",
                {
                    "NAME": "shop",
                    "USER": "me",
                    "PASSWORD": "p@s/s",
                    "HOST": "db1",
                    "PORT": "5433",
                    "OPTIONS": {"connect_timeout": "5", "sslmode": "require"},
                },
            ),
            (
                "postgresql:///shop?host=%2Frun%2Fpostgresql",
                {
                    "NAME": "shop",
                    "HOST": "",
                    "PORT": "",
                    "OPTIONS": {"connect_timeout": "5", "host": "/run/postgresql"},
                },
            ),
        ],
    )
    def test_database_url(
        self, site: Callable[[str], Site], url: str, expected: dict[str, object]
    ) -> None:
        script = f"from config.environment import database\nprint(database({url!r}))"
        found = ast.literal_eval(site("v1").run("-c", script))
        assert expected.items() <= found.items()

    @pytest.mark.parametrize(
        ("environment", "message"),
        [
            ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
            ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
            ({"DATABASE_URL": "mysql://x/y"}, "DATABASE_URL must start with sqlite"),
            ({"DEBUG": "yes"}, "DEBUG must be 0 or 1"),
            ({"STATIC_ROOT": ""}, "catalog.E001"),
        ],
    )
    def test_what_production_needs(
        self, site: Callable[[str], Site], environment: dict[str, str], message: str
    ) -> None:
        words = ("check", "--deploy", "--fail-level", "ERROR")
        assert message in site("v1").manage(*words, code=1, **environment)

    def test_development_needs_nothing_and_writes_beside_the_project(
        self, site: Callable[[str], Site]
    ) -> None:
        shop = site("v1")
        before = contents(shop.release)
        names = ("SECRET_KEY", "DATABASE_URL", "ALLOWED_HOSTS", "STATIC_ROOT", "RELEASE_ID")
        for name in names:
            del shop.environment[name]
        shop.manage("migrate", "-v", "0", DEBUG="1")
        (home,) = shop.get("'/', 'anything'", DEBUG="1")
        assert home[0] == 200
        assert '"/static/shop/shop.css"' in home[2]
        assert shop.release.with_name("v1.sqlite3").exists()
        assert contents(shop.release) == before


class TestABrokenVersion:
    def test_v3_passes_its_check_and_cannot_be_imported(self, site: Callable[[str], Site]) -> None:
        shop = site("v3")
        shop.manage("check", "--deploy", "--fail-level", "ERROR")
        told = shop.run("-c", "import config.wsgi", code=1)
        assert "No module named 'a_module_that_is_not_there'" in told

    def test_v4_starts_and_is_not_healthy(self, site: Callable[[str], Site]) -> None:
        shop = site("v4")
        shop.manage("check", "--deploy", "--fail-level", "ERROR")
        shop.manage("migrate", "-v", "0")
        health, home = shop.get("'/healthz'", "'/version'")
        assert (health[0], json.loads(health[2])["database"]) == (503, "OperationalError")
        assert home[0] == 200

    def test_v5_fails_its_check(self, site: Callable[[str], Site]) -> None:
        shop = site("v5")
        assert "catalog.E002" in shop.manage("check", code=1)
        shop.run("-c", "import config.wsgi")

    def test_v7_stops_half_way_and_takes_it_back(self, site: Callable[[str], Site]) -> None:
        site("v2").manage("migrate", "-v", "0")
        shop = site("v7")
        shop.manage("makemigrations", "--check", "--dry-run")
        columns = "SELECT name FROM pragma_table_info('catalog_product')"
        before = shop.sql(columns)
        assert "RuntimeError: This migration stops half way." in shop.manage("migrate", code=1)
        assert shop.sql(columns) == before
        assert shop.sql("SELECT count(*) FROM catalog_auditentry") == [[1]]
        assert shop.sql("SELECT max(name) FROM django_migrations WHERE app = 'catalog'") == [
            ["0005_note_stock"]
        ]
