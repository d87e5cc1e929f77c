"""The operations that are measured: v1's models, one hand-written 0002, and what we say about it.

Imported by `harness.py` inside a virtual environment that has Django; the tests themselves only
see what the harness prints. Facts "What is safe when" is the list; where ours is longer or says
something else, the comment at the case has the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import django
from django.contrib.postgres import operations as pg
from django.db import migrations, models
from django.db.models import Func, Q, Value

Operations = list[Any]
NEWER: Any = {"django": (5, 0)}
ONLY_PG: Any = {"vendors": ("postgresql",)}
EVERYWHERE = ("postgresql", "mysql", "sqlite")


@dataclass(frozen=True)
class Case:
    """One operation to measure.

    title: as in the table of docs/migrations.md. models: v1, the operations of 0001. change: the
    operations of 0002. phase: what the classifier says; phases: where a vendor differs. stricter:
    {vendor: why the measured phase is laxer than ours}, on Django older than stricter_until; the
    test asserts exactly this list. broken: new code does not work after the change either.
    """

    name: str
    title: str
    models: Callable[[], Operations]
    change: Callable[[], Operations]
    phase: str
    stricter: Mapping[str, str] = field(default_factory=dict)
    phases: Mapping[str, str] = field(default_factory=dict)
    django: tuple[int, int] = (4, 2)
    vendors: tuple[str, ...] = EVERYWHERE
    atomic: bool = True
    broken: bool = False
    stricter_until: tuple[int, int] = (99, 0)


# ------------------------------------------------------------------------------- the sample models


def char(length: int = 50, **options: Any) -> Any:
    return models.CharField(max_length=length, **options)


def key(to: str, **options: Any) -> Any:
    options.setdefault("on_delete", models.CASCADE)
    return models.ForeignKey(to, **options)


def many(to: str = "Customer", **options: Any) -> Any:
    return models.ManyToManyField(to, **options)


def model(name: str, options: Mapping[str, Any] | None = None, /, **fields: Any) -> Any:
    rows = [("id", models.BigAutoField(primary_key=True)), *fields.items()]
    return migrations.CreateModel(name, rows, options=dict(options or {}))


def shop(options: Mapping[str, Any] | None = None, /, **fields: Any) -> Callable[[], Operations]:
    """Customers, and items that belong to them; `fields` are added to the item."""

    def made() -> Operations:
        own = {name: each() if callable(each) else each for name, each in fields.items()}
        return [
            model("Customer", name=char()),
            model("Item", options, name=char(), quantity=models.IntegerField(),
                  owner=key("Customer"), **own),
        ]  # fmt: skip

    return made


def add(name: str, value: Callable[[], Any], **options: Any) -> Callable[[], Operations]:
    return lambda: [migrations.AddField("item", name, value(), **options)]


def alter(name: str, value: Callable[[], Any], **options: Any) -> Callable[[], Operations]:
    return lambda: [migrations.AlterField("item", name, value(), **options)]


def remove(name: str) -> Callable[[], Operations]:
    return lambda: [migrations.RemoveField("item", name)]


def check(condition: Q, name: str) -> Any:
    """CheckConstraint changed the name of its first argument in Django 5.1."""
    word = "condition" if django.VERSION >= (5, 1) else "check"
    return models.CheckConstraint(name=name, **{word: condition})


def positive() -> Any:
    return check(Q(quantity__gte=0), "item_quantity_not_negative")


def one_name() -> Any:
    return models.UniqueConstraint(fields=["name", "quantity"], name="item_name_quantity")


def one_big_name() -> Any:
    return models.UniqueConstraint(
        fields=["name"], condition=Q(quantity__gt=0), name="item_name_if_any"
    )


def by_name() -> Any:
    return models.Index(fields=["name"], name="item_by_name")


def stored() -> Any:
    """An expression that cannot fail on what old code writes; the classifier cannot know that."""
    return models.GeneratedField(
        expression=models.functions.Lower("name"), output_field=char(100), db_persist=True
    )


def noted() -> Any:
    return char(null=True)


def random_token() -> Any:
    return models.UUIDField(db_default=Func(function="gen_random_uuid"))


# --------------------------------------------------------------------------------- why stricter

LENGTH = "SQLite does not enforce the length of a text"
TYPES = "SQLite stores any value in any column"
AUTHOR = "only its author knows"
NOTHING_GAINED = "new code fails before it and after it, so nothing is gained by running it first"

CASES: tuple[Case, ...] = (
    # ------------------------------------------------------------------ tables
    Case("create_model", "CreateModel", shop(),
         lambda: [model("Tag", name=char())], "before"),
    Case("create_model_key", "CreateModel with ForeignKey", shop(),
         lambda: [model("Review", item=key("Item"), text=char())], "before"),
    Case("create_model_many", "CreateModel with ManyToManyField", shop(),
         lambda: [model("Tag", name=char(), items=many("Item"))], "before"),
    Case("create_model_child", "CreateModel that inherits from a table (bases)", shop(),
         lambda: [migrations.CreateModel("Special", [
             ("item_ptr", models.OneToOneField("Item", models.CASCADE, parent_link=True,
                                               auto_created=True, primary_key=True,
                                               serialize=False)),
             ("reason", char())], bases=("shop.item",))], "before"),
    Case("create_proxy", "CreateModel, a proxy", shop(),
         lambda: [migrations.CreateModel("Cheap", [], options={"proxy": True},
                                         bases=("shop.item",))], "any"),
    Case("create_then_more", "Anything on a table created earlier in the same plan", shop(),
         lambda: [model("Tag", name=char()),
                  migrations.AddField("tag", "item", key("Item")),
                  migrations.AddField("tag", "rank", models.IntegerField(default=0)),
                  migrations.RenameField("tag", "name", "label"),
                  migrations.AddIndex("tag", models.Index(fields=["label"], name="tag_label")),
                  migrations.RemoveField("tag", "rank")], "before"),
    Case("delete_model", "DeleteModel without constraints to other tables",
         lambda: [*shop()(), model("Tag", name=char())],
         lambda: [migrations.DeleteModel("Tag")], "after"),
    # Facts say "after"; their probe deleted only rows to which none pointed.
    Case("delete_model_key", "DeleteModel with ForeignKey",
         lambda: [*shop()(), model("Review", item=key("Item"))],
         lambda: [migrations.DeleteModel("Review")], "offline"),
    Case("delete_model_loose", "the same with db_constraint=False first",
         lambda: [*shop()(), model("Review", item=key("Item", db_constraint=False))],
         lambda: [migrations.DeleteModel("Review")], "after"),
    Case("rename_model", "RenameModel", shop(),
         lambda: [migrations.RenameModel("Item", "Product")], "offline"),
    Case("rename_model_target", "RenameModel that others point to", shop(),
         lambda: [migrations.RenameModel("Customer", "Person")], "offline"),
    Case("rename_model_pinned", "RenameModel with db_table pinned",
         shop({"db_table": "shop_item"}),
         lambda: [migrations.RenameModel("Item", "Product")], "any"),
    # Not in facts: Django leaves the columns of the many-to-many table as they are.
    Case("rename_model_pinned_many", "RenameModel with db_table pinned, but many-to-many fields",
         shop({"db_table": "shop_item"}, fans=lambda: many(related_name="liked")),
         lambda: [migrations.RenameModel("Item", "Product")], "offline"),
    Case("alter_table", "AlterModelTable", shop(),
         lambda: [migrations.AlterModelTable("item", "shop_things")], "offline"),
    Case("alter_table_many", "AlterModelTable with ManyToManyField", shop(fans=many),
         lambda: [migrations.AlterModelTable("item", "shop_things")], "offline"),
    Case("alter_table_pinned", "AlterModelTable to the name that it has", shop(),
         lambda: [migrations.AlterModelTable("item", "shop_item")], "any"),
    Case("alter_table_comment", "AlterModelTableComment", shop(),
         lambda: [migrations.AlterModelTableComment("item", "what we sell")], "any"),
    Case("alter_options", "AlterModelOptions", shop(),
         lambda: [migrations.AlterModelOptions("item", {"ordering": ["-name"]})], "any"),
    Case("alter_managers", "AlterModelManagers", shop(),
         lambda: [migrations.AlterModelManagers("item", [("objects", models.Manager())])], "any"),
    Case("order_add", "AlterOrderWithRespectTo", shop(),
         lambda: [migrations.AlterOrderWithRespectTo("item", "owner")], "offline"),
    Case("order_remove", "AlterOrderWithRespectTo to None",
         shop({"order_with_respect_to": "owner"}),
         lambda: [migrations.AlterOrderWithRespectTo("item", None)], "offline"),
    # ------------------------------------------------------------------ new fields
    Case("add_null", "AddField null=True", shop(), add("note", noted), "before"),
    Case("add_default", "AddField NOT NULL with a Python `default`", shop(),
         add("note", lambda: char(default="-")), "offline"),
    Case("add_blank", 'AddField blank=True, default=""', shop(),
         add("note", lambda: char(blank=True, default="")), "offline"),
    Case("add_one_off", "AddField NOT NULL with a one-off default (preserve_default=False)", shop(),
         add("rank", lambda: models.IntegerField(default=0), preserve_default=False), "offline"),
    Case("add_db_default", "AddField NOT NULL with `db_default`", shop(),
         add("note", lambda: char(db_default="-")), "before", **NEWER),
    Case("add_db_default_now", "AddField with db_default=Now()", shop(),
         add("since", lambda: models.DateTimeField(db_default=models.functions.Now())), "before",
         **NEWER),
    Case("add_db_default_random", "AddField with a volatile db_default", shop(),
         add("token", random_token), "before", **NEWER, **ONLY_PG),
    Case("add_unique", "AddField nullable, unique", shop(),
         add("code", lambda: char(null=True, unique=True)), "before"),
    Case("add_index_null", "AddField nullable, db_index", shop(),
         add("code", lambda: char(null=True, db_index=True)), "before"),
    Case("add_positive", "AddField nullable PositiveIntegerField (a CHECK)", shop(),
         add("stock", lambda: models.PositiveIntegerField(null=True)), "before"),
    Case("add_key", "AddField nullable ForeignKey", shop(),
         add("buyer", lambda: key("Customer", null=True, related_name="bought")), "before"),
    Case("add_one_to_one", "AddField nullable OneToOneField", shop(),
         add("twin", lambda: models.OneToOneField("Item", models.CASCADE, null=True)), "before"),
    Case("add_key_default", "AddField NOT NULL ForeignKey", shop(),
         add("buyer", lambda: key("Customer", default=1, related_name="bought")), "offline"),
    Case("add_many", "AddField ManyToManyField", shop(),
         add("fans", lambda: many(related_name="liked")), "before"),
    Case("add_generated", "AddField GeneratedField, stored", shop(),
         add("low", stored), "before",
         **NEWER, vendors=("postgresql", "mysql")),
    # ------------------------------------------------------------------ fields that go
    Case("remove_null", "RemoveField nullable", shop(note=noted), remove("note"), "after"),
    Case("remove_db_default", "RemoveField with `db_default`",
         shop(note=lambda: char(db_default="-")), remove("note"), "after", **NEWER),
    Case("remove_required", "RemoveField NOT NULL without a database default",
         shop(note=char), remove("note"), "offline"),
    Case("remove_generated", "RemoveField GeneratedField",
         shop(low=stored), remove("low"), "after",
         **NEWER, vendors=("postgresql", "mysql")),
    # The next two are "after" in facts; their probe deleted only rows to which none pointed.
    Case("remove_key", "RemoveField nullable ForeignKey",
         shop(buyer=lambda: key("Customer", null=True, related_name="bought")), remove("buyer"),
         "offline"),
    Case("remove_many", "RemoveField ManyToManyField",
         shop(fans=lambda: many(related_name="liked")), remove("fans"), "offline"),
    Case("remove_key_loose", "RemoveField nullable ForeignKey with db_constraint=False",
         shop(buyer=lambda: key("Customer", null=True, related_name="bought",
                                db_constraint=False)), remove("buyer"), "after"),
    Case("remove_many_loose", "RemoveField ManyToManyField with db_constraint=False",
         shop(fans=lambda: many(related_name="liked", db_constraint=False)), remove("fans"),
         "after"),
    Case("remove_unique_default", "RemoveField unique with a constant `db_default`",
         shop(code=lambda: models.IntegerField(unique=True, db_default=-7)), remove("code"),
         "offline", **NEWER),
    # ------------------------------------------------------------------ names
    Case("rename_field", "RenameField", shop(),
         lambda: [migrations.RenameField("item", "name", "title")], "offline"),
    Case("rename_field_pinned", "RenameField with db_column pinned",
         shop(label=lambda: char(db_column="label")),
         lambda: [migrations.RenameField("item", "label", "title")], "any"),
    Case("rename_many", "RenameField of a ManyToManyField", shop(fans=many),
         lambda: [migrations.RenameField("item", "fans", "friends")], "offline"),
    # ------------------------------------------------------------------ types
    Case("wider", "AlterField to a longer varchar", shop(), alter("name", lambda: char(90)),
         "before", {"sqlite": LENGTH}),
    Case("wider_unique", "AlterField to a longer varchar, unique",
         shop(code=lambda: char(20, unique=True)),
         alter("code", lambda: char(40, unique=True)), "before", {"sqlite": LENGTH}),
    Case("to_text", "AlterField varchar to text", shop(), alter("name", models.TextField),
         "before", {"sqlite": LENGTH}),
    Case("to_text_indexed", "AlterField varchar to text, with an index",
         shop(code=lambda: char(20, db_index=True)),
         alter("code", lambda: models.TextField(db_index=True)), "before", {"sqlite": LENGTH},
         vendors=("postgresql", "sqlite")),
    Case("narrower", "AlterField to a shorter varchar", shop(), alter("name", lambda: char(30)),
         "after", {"sqlite": LENGTH}),
    Case("to_bigint", "AlterField int to bigint", shop(),
         alter("quantity", models.BigIntegerField), "before", {"sqlite": TYPES}),
    Case("to_smallint", "AlterField int to smallint", shop(),
         alter("quantity", models.SmallIntegerField), "after", {"sqlite": TYPES}),
    Case("key_to_bigint", "AlterField primary key to bigint, with keys that point to it",
         lambda: [migrations.CreateModel("Customer", [
             ("id", models.AutoField(primary_key=True)), ("name", char())]),
             model("Item", name=char(), quantity=models.IntegerField(), owner=key("Customer"))],
         lambda: [migrations.AlterField("customer", "id", models.BigAutoField(primary_key=True))],
         "before", phases={"sqlite": "any"}),
    Case("decimal_wider", "AlterField decimal with more digits",
         shop(price=lambda: models.DecimalField(max_digits=6, decimal_places=2)),
         alter("price", lambda: models.DecimalField(max_digits=9, decimal_places=2)), "before",
         {"sqlite": TYPES}),
    Case("decimal_finer", "AlterField decimal with more places",
         shop(price=lambda: models.DecimalField(max_digits=8, decimal_places=2)),
         alter("price", lambda: models.DecimalField(max_digits=10, decimal_places=4)), "before",
         dict.fromkeys(EVERYWHERE, "the old schema rounds what new code writes, and says nothing")),
    Case("to_other_type", "AlterField to another type (int to varchar)", shop(),
         alter("quantity", lambda: char(20)), "offline",
         {"sqlite": TYPES, "mysql": "MariaDB turns text into numbers where it can"}),
    Case("collation", "AlterField db_collation", shop(),
         alter("name", lambda: char(db_collation="C")), "after",
         {"postgresql": "deterministic collations only order differently"}, **ONLY_PG),
    # ------------------------------------------------------------------ what a column allows
    Case("not_null", "AlterField null to NOT NULL", shop(note=noted),
         alter("note", lambda: char(default="-")), "after"),
    Case("not_null_one_off", "AlterField null to NOT NULL with a one-off default",
         shop(note=noted), alter("note", lambda: char(default="-"), preserve_default=False),
         "after"),
    Case("not_null_db_default", "AlterField null to NOT NULL with `db_default`", shop(note=noted),
         alter("note", lambda: char(db_default="-")), "after", **NEWER),
    Case("to_null", "AlterField NOT NULL to null", shop(note=char), alter("note", noted), "before"),
    Case("unique", "AlterField unique=True", shop(code=lambda: char(20)),
         alter("code", lambda: char(20, unique=True)), "after"),
    Case("not_unique", "AlterField unique=False", shop(code=lambda: char(20, unique=True)),
         alter("code", lambda: char(20)), "before"),
    Case("db_default_added", "AlterField with a new `db_default`", shop(note=char),
         alter("note", lambda: char(db_default="-")), "before",
         {"sqlite": "Django writes the default itself, SQLite has no DEFAULT in INSERT"},
         stricter_until=(6, 0), **NEWER),
    Case("db_default_removed", "AlterField without `db_default` any more",
         shop(note=lambda: char(db_default="-")), alter("note", char), "after",
         {"sqlite": "Django writes the default itself, SQLite has no DEFAULT in INSERT"},
         stricter_until=(6, 0), **NEWER),
    Case("db_default_changed", "AlterField with another `db_default`",
         shop(note=lambda: char(db_default="-")), alter("note", lambda: char(db_default="+")),
         "any", **NEWER),
    Case("to_positive", "AlterField IntegerField to PositiveIntegerField (a CHECK)", shop(),
         alter("quantity", models.PositiveIntegerField), "after", phases={"mysql": "offline"}),
    Case("from_positive", "AlterField PositiveIntegerField to IntegerField",
         shop(stock=models.PositiveIntegerField), alter("stock", models.IntegerField), "before",
         phases={"mysql": "offline"}),
    Case("key_null", "AlterField ForeignKey NOT NULL to null", shop(),
         alter("owner", lambda: key("Customer", null=True)), "before"),
    Case("key_loose", "AlterField ForeignKey to db_constraint=False", shop(),
         alter("owner", lambda: key("Customer", db_constraint=False)), "before"),
    Case("key_bound", "AlterField ForeignKey from db_constraint=False",
         shop(buyer=lambda: key("Customer", related_name="bought", db_constraint=False)),
         alter("buyer", lambda: key("Customer", related_name="bought")), "after"),
    Case("key_on_delete", "AlterField ForeignKey: on_delete, related_name",
         shop(buyer=lambda: key("Customer", null=True, related_name="bought")),
         alter("buyer", lambda: key("Customer", null=True, on_delete=models.SET_NULL)), "any"),
    Case("key_default", "AlterField ForeignKey: only `default`", shop(),
         alter("owner", lambda: key("Customer", default=1)), "any"),
    Case("key_db_cascade", "AlterField ForeignKey to on_delete=DB_CASCADE (Django 6.1)", shop(),
         alter("owner", lambda: key("Customer", on_delete=models.DB_CASCADE)), "before",
         django=(6, 1)),
    Case("key_from_db_cascade", "AlterField ForeignKey from on_delete=DB_CASCADE (Django 6.1)",
         lambda: [model("Customer", name=char()),
                  model("Item", name=char(), owner=key("Customer", on_delete=models.DB_CASCADE))],
         alter("owner", lambda: key("Customer")), "after", django=(6, 1)),
    Case("many_loose", "AlterField ManyToManyField to db_constraint=False",
         shop(fans=lambda: many(related_name="liked")),
         alter("fans", lambda: many(related_name="liked", db_constraint=False)), "before",
         {"mysql": "Django adds links with INSERT IGNORE, which says nothing"}),
    Case("many_related_name", "AlterField ManyToManyField: related_name", shop(fans=many),
         alter("fans", lambda: many(related_name="liked", blank=True)), "any"),
    Case("only_python", "AlterField: default, choices, help_text, validators", shop(note=char),
         alter("note", lambda: char(default="-", choices=[("-", "none")], help_text="!")), "any"),
    Case("comment", "AlterField db_comment", shop(), alter("name", lambda: char(db_comment="!")),
         "any"),
    # ------------------------------------------------------------------ indexes
    Case("index", "AddIndex", shop(), lambda: [migrations.AddIndex("item", by_name())], "any"),
    Case("db_index", "AlterField db_index=True", shop(),
         alter("name", lambda: char(db_index=True)), "any"),
    Case("no_db_index", "AlterField db_index=False", shop(code=lambda: char(db_index=True)),
         alter("code", char), "any"),
    Case("index_concurrently", "AddIndexConcurrently (atomic=False)", shop(),
         lambda: [pg.AddIndexConcurrently("item", by_name())], "any", atomic=False, **ONLY_PG),
    Case("remove_index", "RemoveIndex", shop({"indexes": [by_name()]}),
         lambda: [migrations.RemoveIndex("item", "item_by_name")], "any"),
    Case("remove_index_concurrently", "RemoveIndexConcurrently (atomic=False)",
         shop({"indexes": [by_name()]}),
         lambda: [pg.RemoveIndexConcurrently("item", "item_by_name")], "any", atomic=False,
         **ONLY_PG),
    Case("rename_index", "RenameIndex", shop({"indexes": [by_name()]}),
         lambda: [migrations.RenameIndex("item", new_name="item_names", old_name="item_by_name")],
         "any"),
    # ------------------------------------------------------------------ constraints
    Case("add_unique_constraint", "AddConstraint UniqueConstraint", shop(),
         lambda: [migrations.AddConstraint("item", one_name())], "after"),
    Case("add_unique_condition", "AddConstraint UniqueConstraint with a condition", shop(),
         lambda: [migrations.AddConstraint("item", one_big_name())], "after",
         vendors=("postgresql", "sqlite")),
    Case("unique_together", "AlterUniqueTogether", shop(),
         lambda: [migrations.AlterUniqueTogether("item", {("name", "quantity")})], "after"),
    Case("no_unique_together", "AlterUniqueTogether, removed",
         shop({"unique_together": {("name", "quantity")}}),
         lambda: [migrations.AlterUniqueTogether("item", set())], "before"),
    Case("remove_unique_constraint", "RemoveConstraint UniqueConstraint",
         shop({"constraints": [one_name()]}),
         lambda: [migrations.RemoveConstraint("item", "item_name_quantity")], "before"),
    Case("add_check", "AddConstraint CheckConstraint", shop(),
         lambda: [migrations.AddConstraint("item", positive())], "after"),
    Case("remove_check", "RemoveConstraint CheckConstraint", shop({"constraints": [positive()]}),
         lambda: [migrations.RemoveConstraint("item", "item_quantity_not_negative")], "before"),
    Case("add_check_not_valid", "AddConstraintNotValid", shop(),
         lambda: [pg.AddConstraintNotValid("item", positive())], "after", **ONLY_PG),
    Case("validate", "ValidateConstraint",
         lambda: [*shop()(), pg.AddConstraintNotValid("item", positive())],
         lambda: [pg.ValidateConstraint("item", "item_quantity_not_negative")], "any", **ONLY_PG),
    Case("alter_constraint", "AlterConstraint (Django 5.2)", shop({"constraints": [positive()]}),
         lambda: [migrations.AlterConstraint("item", "item_quantity_not_negative", check(
             Q(quantity__gte=0), "item_quantity_not_negative"))], "any", django=(5, 2)),
    # ------------------------------------------------------------------ by hand
    Case("state_only", "SeparateDatabaseAndState with only state_operations", shop(note=noted),
         lambda: [migrations.SeparateDatabaseAndState(
             state_operations=[migrations.RemoveField("item", "note")])], "any"),
    # Not in facts: the column stays required, and new code does not know it.
    Case("state_only_required", "the same, forgetting a column that is NOT NULL", shop(note=char),
         lambda: [migrations.SeparateDatabaseAndState(
             state_operations=[migrations.RemoveField("item", "note")])], "offline",
         dict.fromkeys(EVERYWHERE, NOTHING_GAINED), broken=True),
    Case("database_only", "SeparateDatabaseAndState with database_operations", shop(),
         lambda: [migrations.SeparateDatabaseAndState(
             database_operations=[migrations.AddIndex("item", by_name())],
             state_operations=[migrations.AddIndex("item", by_name())])], "any"),
    Case("python_noop", "RunPython.noop, RunSQL without SQL", shop(),
         lambda: [migrations.RunPython(migrations.RunPython.noop), migrations.RunSQL("")], "any"),
    Case("python", "RunPython", shop(), lambda: [migrations.RunPython(lambda apps, editor: None)],
         "unknown", dict.fromkeys(EVERYWHERE, AUTHOR)),
    Case("sql", "RunSQL", shop(), lambda: [migrations.RunSQL("SELECT 1", "")],
         "unknown", dict.fromkeys(EVERYWHERE, AUTHOR)),
    # ------------------------------------------------------------------ several in one file
    Case("before_and_after", "before and after in one file", shop(note=noted),
         lambda: [migrations.RemoveField("item", "note"),
                  migrations.AddField("item", "memo", noted())], "offline"),
    Case("add_then_backfill", "AddField, then RunPython in one file", shop(),
         lambda: [migrations.AddField("item", "note", noted()),
                  migrations.RunPython(backfill, migrations.RunPython.noop)], "unknown",
         dict.fromkeys(EVERYWHERE, AUTHOR)),
)  # fmt: skip


def backfill(apps: Any, editor: Any) -> None:
    """What people write below an AddField."""
    for app in {each._meta.app_label for each in apps.get_models()}:
        apps.get_model(app, "item").objects.update(note=Value("x"))
