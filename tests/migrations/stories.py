"""Whole plans of small sites, told by a Python that has Django.

Each function `story_...` makes a site in the current folder (apps with migrations on disk, SQLite
files) and asserts what the classifier reads. Prints {story: "" or its traceback}.
"""

from __future__ import annotations

import enum
import hashlib
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from roles.onhost.migrating.deciding import decide, decide_together
from roles.onhost.migrating.judging import classify
from roles.onhost.migrating.plan import read_plan
from roles.onhost.migrating.reverse import read_reverse

NAMES = iter(range(10_000))
ITEM = """migrations.CreateModel("Item", [("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=50)),
    ("note", models.CharField(max_length=50, null=True))])"""
FAN = 'migrations.CreateModel("Fan", [("id", models.BigAutoField(primary_key=True))])'
ADD_NULL = 'migrations.AddField("item", "memo", models.TextField(null=True))'
ADD_REQUIRED = 'migrations.AddField("item", "code", models.CharField(max_length=9, default="-"))'
REMOVE_NULL = 'migrations.RemoveField("item", "note")'
REMOVE_REQUIRED = 'migrations.RemoveField("item", "name")'
OPTIONS = 'migrations.AlterModelOptions("item", {"ordering": ["name"]})'
INDEX = 'migrations.AddIndex("item", models.Index(fields=["name"], name="by_name"))'
POSTGRES = "__import__('django.contrib.postgres.operations', fromlist=['x'])"
PYTHON = "migrations.RunPython(lambda apps, editor: None)"
PYTHON_BACK = "migrations.RunPython(lambda apps, editor: None, migrations.RunPython.noop)"


def main() -> None:
    import django
    from django.conf import settings

    files = {"ENGINE": "django.db.backends.sqlite3", "NAME": "unused.sqlite3"}
    settings.configure(DATABASES={"default": files, "other": files}, INSTALLED_APPS=[])
    django.setup()
    sys.path.insert(0, str(Path.cwd()))
    stories = {name: each for name, each in globals().items() if name.startswith("story_")}
    found = {}
    for name, story in stories.items():
        try:
            story()
            found[name] = ""
        except Exception:  # noqa: BLE001
            found[name] = traceback.format_exc()
    print(json.dumps(found))


class Site:
    """Apps on disk and one SQLite file a database."""

    def __init__(self, *apps: Mapping[str, str], aliases: tuple[str, ...] = ("default",)) -> None:
        """apps: {migration's name: its text after "class Migration:"}, with {app} and {other}."""
        from django.db.utils import ConnectionHandler

        self.names = [f"site{next(NAMES)}" for _ in apps]
        self.app = self.names[0]
        for name, migrations in zip(self.names, apps, strict=True):
            self.write(name, migrations)
        path = str(Path.cwd() / self.app)
        self.connections = ConnectionHandler({
            alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{path}-{alias}.sqlite3"}
            for alias in aliases
        })  # fmt: skip

    def write(self, name: str, migrations: Mapping[str, str]) -> None:
        folder = Path(name) / "migrations"
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / "__init__.py").touch()
        (folder / "__init__.py").touch()
        for each, text in migrations.items():
            (folder / f"{each}.py").write_text(
                "from django.db import migrations, models\n"
                "from tests.migrations.stories import *\n"
                "class Migration(migrations.Migration):\n"
                + text.replace("{app}", name).replace("{other}", self.names[-1])
            )

    @contextmanager
    def installed(self, alias: str = "default") -> Iterator[Any]:
        """Django with these apps, and these databases under their aliases."""
        from django.apps import apps
        from django.db import connections

        apps.set_installed_apps(self.names)
        for each in self.connections:
            connections[each] = self.connections[each]
        try:
            yield connections[alias]
        finally:
            apps.unset_installed_apps()

    def migrate(self, *targets: tuple[str, str | None], alias: str = "default") -> None:
        from django.db.migrations.executor import MigrationExecutor

        with self.installed(alias) as connection:
            executor = MigrationExecutor(connection)
            executor.migrate(list(targets) or executor.loader.graph.leaf_nodes())

    def plan(self, alias: str = "default", **options: Any) -> dict[str, Any]:
        """What the classifier reads, checked to be JSON and to have changed nothing."""
        with self.installed(alias) as connection:
            before = self.dump(connection)
            found: dict[str, Any] = read_plan(connection, **options)
            assert self.dump(connection) == before
        assert json.loads(json.dumps(found)) == found
        return found

    def back(self, *targets: Any) -> dict[str, Any]:
        with self.installed() as connection:
            before = self.dump(connection)
            found: dict[str, Any] = read_reverse(connection, targets)
            assert self.dump(connection) == before
        assert json.loads(json.dumps(found)) == found
        return found

    def dump(self, connection: Any) -> list[str]:
        connection.ensure_connection()
        return list(connection.connection.iterdump())


def steps(*operations: str, after: str = "", more: str = "") -> str:
    """The text of one migration; `after`: "0001" of the same app, or "app.0001"."""
    parts = [each.split(".") if "." in each else ["{app}", each] for each in after.split()]
    dependencies = ", ".join(f'("{app}", "{name}")' for app, name in parts)
    return f"    dependencies = [{dependencies}]\n    {more or 'pass'}\n    operations = [" + (
        ", ".join(operations) + "]\n"
    )


def chain(*migrations: str | tuple[str, str]) -> dict[str, str]:
    """0001 makes the item; each further one is (operations, more) or operations."""
    found = {"0001": steps(ITEM)}
    for number, each in enumerate(migrations, 2):
        text, more = (each, "") if isinstance(each, str) else each
        found[f"{number:04}"] = steps(text, after=f"{number - 1:04}", more=more)
    return found


def running(*migrations: str | tuple[str, str]) -> Site:
    """A site whose 0001 is applied, with rows, and the others pending."""
    site = Site(chain(*migrations))
    site.migrate((site.app, "0001"))
    with site.connections["default"].cursor() as cursor:
        cursor.execute(f"INSERT INTO {site.app}_item (name) VALUES ('one')")  # noqa: S608
    return site


def phases(plan: Mapping[str, Any]) -> list[str]:
    return [each["phase"] for each in plan["pending"]]


def decision(plan: Mapping[str, Any]) -> Any:
    return decide(plan)["decision"]


# ------------------------------------------------------------------------------- plans


def story_nothing_is_pending() -> None:
    site = running()
    assert decision(site.plan()) == "nothing"


def story_a_first_deploy_is_all_before() -> None:
    site = Site(chain(ADD_REQUIRED, PYTHON, (REMOVE_NULL, 'safe = "after_deploy"')))
    plan = site.plan()
    assert plan["first"]
    assert phases(plan) == ["before"] * 4
    assert {each["lock"] for each in plan["pending"]} == {"none"}
    decided = decide(plan)
    assert decided["decision"] == "expand"
    assert decided["expand"] == [f"{site.app}.000{n}" for n in (1, 2, 3, 4)]


def story_expand_then_contract() -> None:
    site = running(ADD_NULL, REMOVE_NULL)
    decided = decide(site.plan())
    assert decided["decision"] == "expand-contract"
    assert (decided["expand"], decided["contract"]) == ([f"{site.app}.0002"], [f"{site.app}.0003"])


def story_any_behind_after_waits_too() -> None:
    site = running(REMOVE_NULL, OPTIONS, INDEX)
    plan = site.plan()
    assert phases(plan) == ["after", "after", "after"]
    assert [each["judged"] for each in plan["pending"]] == ["after", "any", "any"]
    assert plan["pending"][2]["behind"] == [f"{site.app}.0002", f"{site.app}.0003"]


def story_before_behind_after_is_blocked() -> None:
    site = running(REMOVE_NULL, ADD_NULL)
    plan = site.plan()
    decided = decide(plan)
    assert decided["decision"] == "stop"
    (offender,) = decided["offenders"]
    assert offender["migration"] == f"{site.app}.0003"
    assert f"depends on {site.app}.0002" in offender["reasons"][0]
    assert decided["expand"] == []


def story_blocked_through_any() -> None:
    plan = running(REMOVE_NULL, OPTIONS, ADD_NULL).plan()
    assert plan["pending"][2]["blocked_by"] == [
        each["migration"] for each in plan["pending"][:2]]  # fmt: skip


def story_run_before_is_a_dependency() -> None:
    first = {**chain(), "0002": steps(REMOVE_NULL, after="0001",
                                      more='run_before = [("{other}", "0002")]')}  # fmt: skip
    site = Site(first, chain(ADD_NULL))
    for name in site.names:
        site.migrate((name, "0001"))
    plan = site.plan()
    found = {each["migration"]: each for each in plan["pending"]}
    assert found[f"{site.names[1]}.0002"]["blocked_by"] == [f"{site.names[0]}.0002"]


def story_other_apps_do_not_wait() -> None:
    site = Site(chain(REMOVE_NULL), chain(ADD_NULL))
    for name in site.names:
        site.migrate((name, "0001"))
    assert decision(site.plan()) == "expand-contract"


def story_both_in_one_file_is_offline() -> None:
    plan = running(f"{REMOVE_NULL}, {ADD_NULL}").plan()
    assert phases(plan) == ["offline"]
    (offender,) = decide(plan)["offenders"]
    assert "one part must run before the new code (Add field memo to item)" in (
        offender["reasons"][0])
    assert offender["remedies"] == ["split it into two migrations"]


def story_offline_wins_over_unknown() -> None:
    plan = running(f"{ADD_REQUIRED}, {PYTHON}").plan()
    assert phases(plan) == ["offline"]
    (offender,) = decide(plan)["offenders"]
    assert len(offender["reasons"]) == 2
    assert any("db_default" in remedy for remedy in offender["remedies"])


def story_reasons_name_the_operation_and_the_side() -> None:
    (offender,) = decide(running(REMOVE_REQUIRED).plan())["offenders"]
    (reason,) = offender["reasons"]
    assert reason.startswith("Remove field name from item: old code: fails: every query of Item")
    assert "new code: INSERT fails" in reason
    assert "relax it first" in offender["remedies"][0]


def story_a_table_made_in_this_plan_is_free() -> None:
    tag = 'migrations.CreateModel("Tag", [("id", models.BigAutoField(primary_key=True))])'
    plan = running(
        tag,
        'migrations.AddField("tag", "word", models.TextField(default="-"))',
        'migrations.RenameModel("Tag", "Label")',
        'migrations.RenameField("label", "word", "text"), '
        'migrations.AlterModelTable("label", "elsewhere")',
        'migrations.AddField("label", "item", models.ForeignKey("Item", models.CASCADE))',
        'migrations.RemoveField("label", "text"), migrations.DeleteModel("Label")',
    ).plan()
    assert phases(plan) == ["before"] * 6
    assert [each["tables"] for each in plan["pending"][:4]] == [[]] * 4
    assert decision(plan) == "expand"


def story_by_hand_needs_its_author() -> None:
    site = running(PYTHON, 'migrations.RunSQL("SELECT 1", elidable=True)',
                   "migrations.RunPython(migrations.RunPython.noop)",
                   'migrations.RunSQL(migrations.RunSQL.noop), migrations.RunSQL(" ")')  # fmt: skip
    plan = site.plan()
    assert phases(plan) == ["unknown", "unknown", "any", "any"]
    said = {f"{site.app}.0002": "any", f"{site.app}.0003": "before", "gone.0001": "after"}
    plan = site.plan(overrides=said)
    assert phases(plan) == ["any", "before", "any", "any"]
    assert plan["unused_overrides"] == ["gone.0001"]
    assert decision(plan) == "expand"


def story_an_override_that_is_no_phase() -> None:
    site = running(PYTHON)
    words = ""
    try:
        site.plan(overrides={f"{site.app}.0002": "later"})
    except ValueError as error:
        words = str(error)
    assert words == (
        f"overrides.{site.app}.0002: 'later' is none of any, before, after, offline, unknown")


class When(enum.Enum):
    ALWAYS = "always"
    AFTER_DEPLOY = "after_deploy"


class Safe:
    """django-safemigrate 6."""

    def __init__(self, when: When, delay: timedelta | None = None) -> None:
        self.when, self.delay = when, delay

    @classmethod
    def always(cls) -> Safe:
        return cls(When.ALWAYS)


class OldSafe(enum.Enum):
    """django-safemigrate 4."""

    before_deploy = "before_deploy"


class Stage(enum.Enum):
    """django-syzygy."""

    POST_DEPLOY = "post_deployment"


def story_markers() -> None:
    plan = running(
        (PYTHON, "safe = Safe.always"),
        (PYTHON, "safe = OldSafe.before_deploy"),
        (PYTHON, "stage = Stage.POST_DEPLOY"),
        (PYTHON, "safe = Safe(When.AFTER_DEPLOY, timedelta(days=2))"),
        (PYTHON, 'safe = "someday"'),
    ).plan()
    assert phases(plan) == ["any", "before", "after", "after", "unknown"]
    assert plan["pending"][3]["marker"] == {
        "from": "safe", "value": "after_deploy", "phase": "after", "delay": 172800.0}  # fmt: skip
    (offender,) = decide(plan)["offenders"]
    assert offender["reasons"] == ["marked safe = 'someday', which we do not understand"]


def story_a_marker_wins_over_the_operations() -> None:
    plan = running((ADD_REQUIRED, 'safe = "before_deploy"')).plan()
    (only,) = plan["pending"]
    assert (only["phase"], only["judged"]) == ("before", "offline")


def story_the_hash_follows_files_and_phases() -> None:
    site = running(ADD_NULL)
    plan = site.plan()
    file = Path(site.app) / "migrations" / "0002.py"
    assert plan["pending"][0]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert site.plan()["hash"] == plan["hash"]
    assert site.plan(overrides={f"{site.app}.0002": "after"})["hash"] != plan["hash"]
    file.write_text(file.read_text() + "# changed\n")
    assert site.plan()["hash"] != plan["hash"]


# ------------------------------------------------------------------------------- not to be trusted


def story_two_last_migrations() -> None:
    site = Site({**chain(ADD_NULL), "0002_too": steps(OPTIONS, after="0001")})
    site.migrate((site.app, "0001"))
    plan = site.plan()
    assert plan["conflicts"] == {site.app: ["0002", "0002_too"]}
    assert decide(plan)["problems"] == [
        f"several last migrations in {site.app}: 0002, 0002_too"]  # fmt: skip


def story_a_history_that_cannot_be() -> None:
    site = running(ADD_NULL, OPTIONS)
    record(site, "0003")
    plan = site.plan()
    assert "is applied before its dependency" in plan["inconsistent"]
    assert decision(plan) == "stop"


def story_the_database_is_ahead() -> None:
    site = running()
    record(site, "0009_from_a_laptop")
    plan = site.plan()
    assert plan["ahead"] == [f"{site.app}.0009_from_a_laptop"]
    decided = decide(plan)
    assert (decided["decision"], decided["problems"]) == (
        "stop", [f"applied, but not in this release: {site.app}.0009_from_a_laptop"])  # fmt: skip


def record(site: Site, name: str) -> None:
    with site.connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, '2026-01-01')",
            [site.app, name],
        )


def story_squashed_migrations_are_not_ahead() -> None:
    site = running(ADD_NULL)
    site.migrate()
    squashed = "replaces = [('{app}', '0001'), ('{app}', '0002')]"
    site.write(site.app, {"0001_squashed_0002": steps(ITEM, more=squashed)})
    plan = site.plan()
    assert (plan["ahead"], plan["pending"]) == ([], [])


# ------------------------------------------------------------------------------- weight


def story_heavy_is_work_on_a_big_table() -> None:
    site = running(INDEX)
    assert decision(site.plan(heavy_bytes=0)) == "stop"
    whole_file = Path(f"{site.app}-default.sqlite3").stat().st_size
    assert site.plan()["pending"][0]["sizes"] == {f"{site.app}_item": whole_file}
    (offender,) = decide(site.plan(heavy_bytes=0))["offenders"]
    assert offender["reasons"][0].startswith(f"builds an index on {site.app}_item")
    assert decision(site.plan()) == "expand"


def story_a_backfill_under_a_lock() -> None:
    site = running((f"{ADD_NULL}, {PYTHON}", 'safe = "before_deploy"'), (PYTHON, 'safe = "always"'))
    plan = site.plan(heavy_bytes=0)
    first, second = plan["pending"]
    assert first["waits_for_backfill"] == [f"{site.app}_item"]
    assert first["held"] == {f"{site.app}_item": "AX"}
    assert first["work"] == {f"{site.app}_item": "scan"}
    assert (second["waits_for_backfill"], second["heavy"]) == ([], [])
    (offender,) = decide(plan)["offenders"]
    assert "fills in data while it holds" in offender["reasons"][0]
    assert "put the schema change and the backfill into two migrations" in offender["remedies"]


def story_not_atomic_holds_nothing() -> None:
    site = running((f"{ADD_NULL}, {PYTHON}", 'safe = "always"; atomic = False'))
    (only,) = site.plan(heavy_bytes=0)["pending"]
    assert (only["held"], only["waits_for_backfill"], only["heavy"]) == ({}, [], [])


def story_concurrently_needs_a_migration_that_is_not_atomic() -> None:
    text = f"{POSTGRES}.AddIndexConcurrently('item', models.Index(fields=['name'], name='x'))"
    (offender,) = decide(running(text).plan())["offenders"]
    assert offender["reasons"] == ["AddIndexConcurrently needs `atomic = False` on the migration"]
    assert decision(running((text, "atomic = False")).plan(heavy_bytes=0)) == "expand"


# ------------------------------------------------------------------------------- several databases


class OnlyItemsHere:
    """A router: the other database gets nothing but migrations by hand with a hint."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default" or bool(hints.get("everywhere"))


@contextmanager
def routed(router: object) -> Iterator[None]:
    import django.db
    from django.db.migrations.operations import base, special

    before = django.db.router
    made = django.db.utils.ConnectionRouter([router])
    for module in (django.db, base, special):
        module.router = made
    try:
        yield
    finally:
        for module in (django.db, base, special):
            module.router = before


def story_each_database_has_its_own_plan() -> None:
    hinted = PYTHON.replace("None)", 'None, hints={"everywhere": True})')
    site = Site(chain(ADD_REQUIRED, PYTHON, hinted), aliases=("default", "other"))
    with routed(OnlyItemsHere()):
        for alias in ("default", "other"):
            site.migrate((site.app, "0001"), alias=alias)
        here, there = site.plan(), site.plan("other")
    assert phases(here) == ["offline", "unknown", "unknown"]
    assert phases(there) == ["any", "any", "unknown"]
    assert there["pending"][0]["lock"] == "none"
    assert "router" in there["pending"][0]["operations"][0]["facts"]["no_sql"]
    both = decide_together({"default": here, "other": there})
    assert both["decision"] == "stop"
    assert [found["database"] for found in both["offenders"]] == ["default"] * 3 + ["other"]


# ------------------------------------------------------------------------------- whose operations


def operation(text: str) -> dict[str, Any]:
    """One operation on the item, judged."""
    from django.db import connections, migrations, models
    from django.db.migrations.state import ProjectState

    names = {**globals(), "migrations": migrations, "models": models}
    state = ProjectState()
    for each in (ITEM, FAN):
        eval(each, names).state_forwards("shop", state)  # noqa: S307
    before = repr(sorted((key, sorted(each.fields)) for key, each in state.models.items()))
    found: dict[str, Any] = classify(
        eval(text, names), "shop", state, connections["default"])  # noqa: S307  # fmt: skip
    assert before == repr(sorted((k, sorted(each.fields)) for k, each in state.models.items()))
    return found


def third_party(kind: str, **methods: Any) -> Any:
    """A subclass of one of Django's operations, as a library has it."""
    from django.db import migrations

    names = {**methods, "__module__": "library"}
    return type(f"Library{kind}", (getattr(migrations, kind),), names)


def own_sql(self: Any, app: str, editor: Any, before: Any, after: Any) -> None:
    """SQL that nobody knows."""


def own_state(self: Any, app: str, state: Any) -> None:
    """A state that nobody knows."""


def story_a_library_without_own_sql_is_what_its_base_is() -> None:
    assert operation('third_party("RemoveField")("item", "note")')["phase"] == "after"


def story_a_library_with_own_sql_is_unknown() -> None:
    text = 'third_party("{}", database_forwards=own_sql)({})'
    found = operation(text.format("RemoveField", '"item", "note"'))
    assert found["phase"] == "unknown"
    assert "library.LibraryRemoveField is not an operation of Django's" in found["old_code"]
    found = operation('type("Strange", (migrations.operations.base.Operation,), '
                      '{"__module__": "library", "state_forwards": own_state})()')  # fmt: skip
    assert found["phase"] == "unknown"


def story_an_operation_may_say_its_stage() -> None:
    found = operation('third_party("RunPython", stage=Stage.POST_DEPLOY)(own_state)')
    assert found["phase"] == "after"
    found = operation('third_party("RemoveField", stage="pre_deploy")("item", "note")')
    assert found["phase"] == "after", "what we can know, we know"


def story_deferred_removals_run_before() -> None:
    kind = ('type("DeferredRemoveField", (migrations.RemoveField,), '
            '{"__module__": "deferred_migrations.operations", "database_forwards": own_sql})')
    found = operation(f'{kind}("item", "name")')
    assert (found["phase"], found["lock"]) == ("before", "AX")
    assert "migrate_post_deploy" in found["facts"]["queued"]


def story_extensions_and_collations_do_nothing_elsewhere() -> None:
    for text in ("TrigramExtension()", "CreateExtension('postgis')", "HStoreExtension()",
                 "CreateCollation('x', 'en')", "RemoveCollation('x', 'en')"):  # fmt: skip
        assert operation(f"{POSTGRES}.{text}")["phase"] == "any"


def story_models_without_a_table() -> None:
    for options in ('{"managed": False}', '{"proxy": True}'):
        fields = "[]" if "proxy" in options else '[("id", models.AutoField(primary_key=True))]'
        base = ', bases=("shop.item",)' if "proxy" in options else ""
        found = operation(f'migrations.CreateModel("X", {fields}, options={options}{base})')
        assert (found["phase"], found["lock"]) == ("any", "none")


def story_a_swapped_model() -> None:
    from django.conf import settings

    settings.SHOP_USER_MODEL = "accounts.User"
    found = operation('migrations.CreateModel("User", [("id", models.AutoField(primary_key=True))],'
                      ' options={"swappable": "SHOP_USER_MODEL"})')  # fmt: skip
    assert found["phase"] == "any"
    assert found["facts"]["no_sql"] == "swapped for accounts.User"


def custom(**options: Any) -> Any:
    """A field of a library, which keeps text in its own way."""
    from django.db import models

    kind = type("SecretField", (models.CharField,), {"__module__": "library"})
    return kind(**{"max_length": 50, **options})


def story_the_same_column_with_another_meaning() -> None:
    found = operation('migrations.AlterField("item", "name", custom())')
    assert found["phase"] == "unknown"
    assert "library.SecretField" in found["old_code"]
    wider = operation('migrations.AlterField("item", "name", custom(max_length=90))')
    assert wider["phase"] == "unknown"
    found = operation('migrations.AlterField("item", "name", models.SlugField(max_length=50))')
    assert found["phase"] == "any"


def story_what_django_refuses() -> None:
    many = operation(
        'migrations.AlterField("item", "name", models.ManyToManyField("Fan"))')
    assert (many["phase"], "Django refuses" in many["old_code"]) == ("offline", True)


def story_a_column_that_may_be_left_out_is_not_enough_when_unique() -> None:
    import django

    if django.VERSION >= (5, 0):
        text = 'migrations.AddField("item", "n", models.IntegerField(unique=True, db_default=1))'
        assert "second INSERT" in operation(text)["old_code"]


def story_what_is_said_about_one_operation() -> None:
    found = operation(ADD_REQUIRED)
    assert found["description"] == "Add field code to item"
    assert found["loses_data_on_reverse"] == "the column shop_item.code"
    assert found["blocks"] == "reads and writes of shop_item"
    assert found["facts"]["column"] == "shop_item.code"
    assert "shop_item.code is NOT NULL" in found["old_code"]


# ------------------------------------------------------------------------------- going back


def story_back_to_where_it_was() -> None:
    site = running(ADD_NULL, PYTHON_BACK, REMOVE_NULL)
    site.migrate()
    found = site.back((site.app, "0001"))
    assert [each["migration"] for each in found["migrations"]] == [
        f"{site.app}.000{n}" for n in (4, 3, 2)]  # fmt: skip
    assert found["complete"]
    assert found["first_irreversible"] is None
    assert f"the column {site.app}_item.memo" in found["loses"]
    assert f"reversing makes {site.app}_item.note anew, empty: what was in it is gone" in (
        found["loses"])
    assert any("going back restores nothing" in words for words in found["loses"])


def story_back_over_what_has_no_way_back() -> None:
    site = running(ADD_NULL, PYTHON, OPTIONS)
    site.migrate()
    found = site.back(f"{site.app}.0001")
    assert not found["complete"]
    assert found["first_irreversible"] == {
        "migration": f"{site.app}.0003", "operation": "Raw Python operation"}  # fmt: skip
    assert site.back(f"{site.app}.0003")["complete"]


def story_back_to_a_column_that_was_required() -> None:
    site = running(REMOVE_REQUIRED)
    site.migrate()
    with site.connections["default"].cursor() as cursor:
        cursor.execute(f"INSERT INTO {site.app}_item (note) VALUES ('x')")  # noqa: S608
    found = site.back((site.app, "0001"))
    assert not found["complete"]
    assert "has rows" in found["problems"][0]


def story_back_to_the_very_beginning() -> None:
    site = running(ADD_NULL)
    found = site.back(f"{site.app}.zero")
    assert [each["migration"] for each in found["migrations"]] == [f"{site.app}.0001"]
    assert found["loses"] == [f"the table {site.app}_item with all rows"]


def story_back_is_not_forward() -> None:
    site = running(ADD_NULL)
    found = site.back((site.app, "0002"), ("nowhere", "0001"))
    assert not found["complete"]
    assert found["problems"] == [
        "nowhere.0001 is not a migration of this release",
        f"{site.app}.0002 is not applied: going back cannot apply it",
    ]


def story_back_takes_what_depends_on_it() -> None:
    other = {**chain(), "0002": steps(ADD_NULL, after="0001 " + "{first}.0002")}
    site = Site(chain(ADD_NULL), {})
    site.write(site.names[1], {k: v.replace("{first}", site.app) for k, v in other.items()})
    site.migrate()
    found = site.back((site.app, "0001"))
    assert [each["migration"] for each in found["migrations"]] == [
        f"{site.names[1]}.0002", f"{site.app}.0002"]  # fmt: skip


# What migrations of the sites import from here: the markers' stand-ins.
__all__ = ["OldSafe", "Safe", "SimpleNamespace", "Stage", "When", "timedelta"]

if __name__ == "__main__":
    # Migrations import this file by its name; the two must be one module.
    sys.modules["tests.migrations.stories"] = sys.modules["__main__"]
    main()
