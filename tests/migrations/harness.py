"""Runs every operation of `operations.py` on one real database and prints what happened, as JSON.

Run as a program, by a Python that has Django:  harness.py DATABASES-AS-JSON
For each case: v1's models are migrated and get rows; v2's code runs on v1's schema; 0002 runs
(on PostgreSQL inside a transaction that is looked at before it commits); v1's code runs on v2's
schema. Code "works" where everything that it can do on its own schema goes well on the other one:
insert, insert the same again, the longest, biggest, smallest and NULL values, keys that point to
nothing, select, select_related, filter and order by every field, join, save, update, delete new
rows and rows to which others point, many-to-many. Each in a transaction that is rolled back.

Prints {"django", "vendor", "server_version", "seconds", "sizes", "cases": [as `measure`]}.
"""

from __future__ import annotations

import datetime
import decimal
import json
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from roles.onhost.migrating.judging import judged_operations
from roles.onhost.migrating.migration import judged_migration
from roles.onhost.migrating.server import server_version, table_bytes

APP, ROWS, OWNERS = "shop", 24, 20
NOTHING = 999_999_999  # no row has this key
LOCKS = {
    "ShareUpdateExclusiveLock": "SUX",
    "ShareLock": "SH",
    "ShareRowExclusiveLock": "SRX",
    "ExclusiveLock": "AX",
    "AccessExclusiveLock": "AX",
}
Action = Callable[[], object]


def main(databases: str) -> None:
    import django
    from django.conf import settings

    settings.configure(
        DATABASES=json.loads(databases), INSTALLED_APPS=[], USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )  # fmt: skip
    if settings.DATABASES["default"]["ENGINE"].endswith("mysql"):
        pretend_mysqlclient()
    django.setup()
    from django.db import connection

    make_database(settings.DATABASES["default"])
    from tests.migrations.operations import CASES

    began = time.monotonic()
    cases = [
        measure(case, connection)
        for case in CASES
        if connection.vendor in case.vendors and case.django <= django.VERSION
    ]
    answer = {"django": django.get_version(), "vendor": connection.vendor, "cases": cases,
              "server_version": server_version(connection),
              "sizes": sizes(connection),
              "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    print(json.dumps(answer))


def pretend_mysqlclient() -> None:
    """PyMySQL needs no compiler; Django wants to see mysqlclient's version."""
    import pymysql

    pymysql.version_info = (2, 2, 7, "final", 0)
    pymysql.install_as_MySQLdb()


def make_database(settings: dict[str, str]) -> None:
    """An empty database on the server; SQLite's is one already."""
    if settings["ENGINE"].endswith("postgresql"):
        import psycopg

        with psycopg.connect(host=settings["HOST"], user=settings["USER"], autocommit=True) as made:
            made.execute(f'DROP DATABASE IF EXISTS "{settings["NAME"]}"')
            made.execute(f'CREATE DATABASE "{settings["NAME"]}"')
    elif settings["ENGINE"].endswith("mysql"):
        import pymysql

        with pymysql.connect(unix_socket=settings["HOST"], user=settings["USER"]) as server:
            server.cursor().execute(f"DROP DATABASE IF EXISTS {settings['NAME']}")
            server.cursor().execute(f"CREATE DATABASE {settings['NAME']} CHARACTER SET utf8mb4")


def sizes(connection: Any) -> dict[str, int]:
    """What the classifier says that a full table, and one that is not there, take."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE full_table (word varchar(200))")
        for _ in range(300):
            cursor.execute("INSERT INTO full_table VALUES (%s)", ["x" * 200])
    names = {"full": "full_table", "missing": "no_such_table", "quoted": 'public"."full_table'}
    return {what: table_bytes(connection, name) for what, name in names.items()}


def measure(case: Any, connection: Any) -> dict[str, Any]:
    """One case.

    -> {"name", "title", "expected", "stricter", "judged", "measured", "old_at_new": {action:
    error}, "new_at_old", "locks": {table: measured}, "judged_locks", "work": {table: measured},
    "judged_work", "operations": [as the classifier has them]}, or {"name", "error"}.
    """
    try:
        return measured(case, connection)
    except Exception:  # noqa: BLE001
        return {"name": case.name, "title": case.title, "error": traceback.format_exc()}
    finally:
        wipe(connection)


def measured(case: Any, connection: Any) -> dict[str, Any]:
    import django
    from django.db.migrations.state import ProjectState

    first = migration("0001", case.models(), True)
    second = migration("0002", case.change(), case.atomic)
    with connection.schema_editor(atomic=True) as editor:
        state = first.apply(ProjectState(), editor)
    old_code = code_of([first])
    new_code = code_of([first, second])
    fill(old_code)
    judged, _ = judged_operations(APP, second.operations, state, connection, set())
    whole = judged_migration(
        second, judged, [], None, bool(connection.features.can_rollback_ddl)
    )
    touched = changed(first, second)
    old_at_old, new_at_old = (work(code, touched, connection) for code in (old_code, new_code))
    seen = observed(second, state, connection)
    old_at_new, new_at_new = (work(code, touched, connection) for code in (old_code, new_code))
    must(case, "old code on the old schema", old_at_old)
    if not case.broken:
        must(case, "new code on the new schema", new_at_new)
    old = {what: error for what, error in old_at_new.items() if error and not old_at_old[what]}
    new = {what: error for what, error in new_at_old.items()
           if error and (not new_at_new[what] or not what.count(":"))}  # fmt: skip
    phases = {(True, True): "any", (True, False): "before", (False, True): "after",
              (False, False): "offline"}  # fmt: skip
    vendor = connection.vendor
    reason = case.stricter.get(vendor, "")
    return {
        "name": case.name,
        "title": case.title,
        "expected": case.phases.get(vendor, case.phase),
        "stricter": reason if case.stricter_until > django.VERSION else "",
        "judged": whole["judged"],
        "measured": phases[not old, not new],
        "old_at_new": old,
        "new_at_old": new,
        "locks": seen["locks"],
        "judged_locks": whole["locks"],
        "work": seen["work"],
        "judged_work": whole["work"],
        "operations": judged,
    }


def must(case: Any, words: str, errors: dict[str, str]) -> None:
    """Code has to work at home, but for the values that its own schema forbids (name: value)."""
    wrong = {what: error for what, error in errors.items() if error and ":" not in what}
    if wrong:
        raise AssertionError(f"{case.name}: {words}: {wrong}")


# --------------------------------------------------------------------------------- code and schema


def migration(name: str, operations: list[Any], atomic: bool) -> Any:
    from django.db.migrations import Migration

    made = Migration(name, APP)
    made.operations, made.atomic = operations, atomic
    return made


def code_of(migrations: list[Any]) -> Any:
    """The models that a release with these migrations has, in a registry of their own."""
    from django.db.migrations.state import ProjectState

    state = ProjectState()
    for each in migrations:
        for operation in each.operations:
            operation.state_forwards(each.app_label, state)
    return state.apps


def changed(first: Any, second: Any) -> set[str]:
    """The names of the models that 0002 makes, removes or changes, and those that point to them."""
    from django.db.migrations.state import ProjectState

    states = [ProjectState(), ProjectState()]
    for state, migrations in zip(states, ([first], [first, second]), strict=True):
        for each in migrations:
            for operation in each.operations:
                operation.state_forwards(APP, state)
    old, new = ({name: shape(each) for (_, name), each in state.models.items()} for state in states)
    found = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    if any(type(each).__name__.startswith("Run") for each in second.operations):
        return set(old)
    return found | ({"item"} if "customer" in found else set())


def shape(model: Any) -> str:
    fields = {name: field.deconstruct()[1:] for name, field in model.fields.items()}
    return repr((model.name, fields, model.options, model.bases))


def models_of(code: Any) -> list[Any]:
    return sorted(code.get_models(), key=lambda model: str(model._meta.object_name))


def wipe(connection: Any) -> None:
    """An empty database for the next case."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            return
        with connection.constraint_checks_disabled():
            for table in connection.introspection.table_names(cursor):
                cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")


# --------------------------------------------------------------------------------- rows and probes


def fill(code: Any) -> None:
    """Rows in every table; each of them is pointed to by others wherever a key is."""
    for model in models_of(code):
        count = OWNERS if model._meta.object_name == "Customer" else ROWS
        ordered = bool(model._meta.order_with_respect_to)
        model.objects.bulk_create(
            model(**values(model, n), **({"_order": n} if ordered else {})) for n in range(count)
        )
        for field in model._meta.many_to_many:
            target = list(field.related_model.objects.order_by("pk")[:2])
            for row in model.objects.order_by("pk")[:2]:
                getattr(row, field.name).add(*target)


def values(model: Any, number: int) -> dict[str, Any]:
    """One row: {field: value} for everything that a constructor must be told."""
    return {
        field.attname: value(field, number)
        for each in [model, *model._meta.parents]
        for field in each._meta.local_concrete_fields
        if needed(field)
    }


def needed(field: Any) -> bool:
    from django.db.models import NOT_PROVIDED

    own_default = getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
    generated = getattr(field, "generated", False)
    linked = field.remote_field and getattr(field.remote_field, "parent_link", False)
    return not (field.name == "_order" or generated or linked or (own_default and not field.unique)
                or field.get_internal_type().endswith("AutoField"))  # fmt: skip


def value(field: Any, number: int) -> Any:
    kind = field.get_internal_type()
    if field.remote_field:
        # Two keys of one row must not point to the same row, or one hides what the other does.
        return 1 + (number + sum(map(ord, field.name))) % OWNERS
    if kind in {"CharField", "TextField"}:
        return f"{field.name} {number}"[: field.max_length or 100]
    if "Integer" in kind:
        return number
    made: dict[str, Callable[[], Any]] = {
        "DecimalField": lambda: decimal.Decimal(number % 1000) / 100,
        "DateTimeField": lambda: datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        "UUIDField": lambda: uuid.UUID(int=number),
        "BooleanField": lambda: number % 2 == 0,
    }
    return made[kind]()


def work(code: Any, touched: set[str], connection: Any) -> dict[str, str]:
    """Everything that this code does, and how it went: {what: error, or ""}.

    What has a colon writes a value that another schema may forbid; all else has to go well at home.
    """
    from django.db import transaction

    done = {}
    tables = connection.introspection.table_names()
    for what, action in actions(code, touched):
        try:
            if " read " in what:
                action()
            else:
                with transaction.atomic():
                    action()
                    check_constraints(connection, tables)
                    transaction.set_rollback(True)
            done[what] = ""
            if connection.vendor == "mysql" and " insert id: " in what:
                forget_big_id(connection, what.split()[0])
        except Exception as error:  # noqa: BLE001
            done[what] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return done


def forget_big_id(connection: Any, table: str) -> None:
    """InnoDB's counter is not rolled back."""
    table = connection.ops.quote_name(table)
    connection.cursor().execute(f"ALTER TABLE {table} AUTO_INCREMENT = 1")


def check_constraints(connection: Any, tables: list[str]) -> None:
    """Now, not at a commit that never comes."""
    if connection.vendor == "postgresql":
        connection.cursor().execute("SET CONSTRAINTS ALL IMMEDIATE")
    elif connection.vendor == "sqlite":
        connection.check_constraints(tables)


def actions(code: Any, touched: set[str]) -> Iterator[tuple[str, Action]]:
    """(what, action); edges of values only for models that 0002 changes: no other table moves."""
    for model in models_of(code):
        name = model._meta.db_table + " "
        if model._meta.proxy:
            name += "(proxy) "
        edge = extremes(model) if model._meta.model_name in touched else ()
        for what, action in [*rows(model), *reading(model), *edge, *links(model)]:
            yield name + what, action


def rows(model: Any) -> Iterator[tuple[str, Action]]:
    """Insert, save, delete."""
    objects = model.objects

    def insert_twice() -> None:
        objects.create(**values(model, ROWS + 1))
        again = values(model, ROWS + 1)
        for field in model._meta.local_concrete_fields:
            if field.unique and field.attname in again:
                again[field.attname] = value(field, ROWS + 2)
        objects.create(**again)

    yield "insert", lambda: objects.create(**values(model, ROWS + 1))
    yield "insert: the same again", insert_twice
    yield "save", lambda: a_row(model).save()
    yield "delete new", lambda: objects.create(**values(model, ROWS + 1)).delete()
    yield "delete the first", lambda: a_row(model).delete()
    yield "update or create", lambda: objects.update_or_create(
        pk=a_row(model).pk, defaults=values(model, ROWS + 3))  # fmt: skip


def a_row(model: Any) -> Any:
    """The first row, to which others point; a new one where the table is new."""
    return model.objects.order_by("pk").first() or model.objects.create(**values(model, ROWS + 1))


def reading(model: Any) -> Iterator[tuple[str, Action]]:
    """Select, filter, order and join by every field; needs no transaction."""
    objects = model.objects
    yield "read all", lambda: list(objects.all()[:5])
    keys = [field for field in model._meta.concrete_fields if field.remote_field]
    if keys:
        names = [field.name for field in keys]
        yield "read select_related", lambda: list(objects.select_related(*names)[:5])
    for field in model._meta.concrete_fields:
        yield f"read by {field.name}", lambda field=field: list(asked(objects, field)[:2])  # type: ignore[misc]
    for field in keys:
        yield f"read through {field.name}", lambda field=field: list(joined(objects, field)[:2])  # type: ignore[misc]


def asked(objects: Any, field: Any) -> Any:
    """Every usual way to compare a field, in one query."""
    from django.db.models import Q

    name, kind = field.name, field.get_internal_type()
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    samples = {"CharField": "x", "TextField": "x", "BooleanField": True,
               "UUIDField": uuid.UUID(int=1), "DateTimeField": moment}  # fmt: skip
    sample = samples.get(kind, 1)
    ways = {"": sample, "__in": [sample, sample], "__isnull": True}
    if kind in {"CharField", "TextField"}:
        ways |= {"__contains": "x", "__startswith": "x", "__iexact": "x"}
    elif not field.remote_field:
        ways |= {"__gt": sample}
    query = Q()
    for way, argument in ways.items():
        query |= Q(**{name + way: argument})
    return objects.filter(query).order_by(name)


def joined(objects: Any, field: Any) -> Any:
    from django.db.models import Q

    query = Q()
    for other in field.related_model._meta.concrete_fields:
        query |= Q(**{f"{field.name}__{other.name}": 1})
    return objects.filter(query).order_by(f"{field.name}__pk")


def extremes(model: Any) -> Iterator[tuple[str, Action]]:
    """The values at the edges of what this code's model allows."""
    for field in model._meta.local_concrete_fields:
        for what, extreme in edges(field):
            yield f"insert {field.name}: {what}", (
                lambda field=field, extreme=extreme: insert_with(model, field, extreme)  # type: ignore[misc]
            )


def insert_with(model: Any, field: Any, extreme: Any) -> None:
    row = values(model, ROWS + 1)
    model.objects.create(**{**row, field.attname: extreme})


def edges(field: Any) -> Iterator[tuple[str, Any]]:
    from django.db import connection

    kind = field.get_internal_type()
    if getattr(field, "generated", False) or field.name == "_order":
        return
    if field.null:
        yield "NULL", None
    if field.remote_field:
        yield "pointing to nothing", NOTHING
    elif kind in {"CharField", "TextField"}:
        yield "the longest", "x" * (field.max_length or 5000)
        yield "empty", ""
    elif kind == "DecimalField":
        yield "the biggest", decimal.Decimal(10) ** (field.max_digits - field.decimal_places) - 1
        yield "the finest", decimal.Decimal(1).scaleb(-field.decimal_places)
    elif "Integer" in kind or kind.endswith("AutoField"):
        if not kind.startswith("Positive") and not kind.endswith("AutoField"):
            yield "negative", -1
        low, high = connection.ops.integer_field_range(kind)
        sizes = {"BigIntegerField": 63, "BigAutoField": 63, "SmallIntegerField": 15}
        yield "the biggest", high or 2 ** sizes.get(kind, 31) - 1
        if low and low < 0 and not kind.endswith("AutoField"):
            yield "the smallest", low


def links(model: Any) -> Iterator[tuple[str, Action]]:
    """Many-to-many, both ways."""
    for field in model._meta.many_to_many:
        yield f"m2m {field.name}", lambda field=field: linked(model, field)  # type: ignore[misc]
        yield f"m2m {field.name}: pointing to nothing", (
            lambda field=field: getattr(a_row(model), field.name).add(NOTHING)  # type: ignore[misc]
        )


def linked(model: Any, field: Any) -> None:
    row = a_row(model)
    target = field.related_model.objects.order_by("-pk").first()
    manager = getattr(row, field.name)
    manager.add(target)
    list(manager.all()[:3])
    list(model.objects.filter(**{field.name: target})[:2])
    manager.remove(target)
    manager.clear()


# --------------------------------------------------------------------------------- what 0002 does


def observed(second: Any, state: Any, connection: Any) -> dict[str, dict[str, str]]:
    """Run 0002: {"locks": {table: lock}, "work": {table: cost}}, both empty but on PostgreSQL."""
    from django.db import transaction

    if connection.vendor != "postgresql":
        with connection.schema_editor(atomic=second.atomic) as editor:
            second.apply(state.clone(), editor)
        return {"locks": {}, "work": {}}
    before = catalogue(connection)
    if not second.atomic:
        with watched(connection, before) as locks, connection.schema_editor(atomic=False) as editor:
            second.apply(state.clone(), editor)
        return {"locks": locks, "work": work_between(before, catalogue(connection), {})}
    with transaction.atomic():
        read_before = rows_read(connection)
        with connection.schema_editor(atomic=True) as editor:
            second.apply(state.clone(), editor)
        locks = locks_of(connection.cursor(), pid(connection), before)
        after, read_after = catalogue(connection), rows_read(connection)
    read = {oid: count - read_before.get(oid, 0) for oid, count in read_after.items()}
    return {"locks": locks, "work": work_between(before, after, read)}


def pid(connection: Any) -> int:
    return int(asks(connection.cursor(), "SELECT pg_backend_pid()")[0][0])


def asks(cursor: Any, question: str, *arguments: Any) -> list[Any]:
    cursor.execute(question, arguments)
    return list(cursor.fetchall())


def catalogue(connection: Any) -> dict[str, dict[Any, Any]]:
    """{"tables": {oid: (file, name)}, "indexes": {(table's oid, file)}}: files change by work."""
    rows = asks(
        connection.cursor(),
        "SELECT c.oid, c.relfilenode, c.relname, i.indrelid FROM pg_class c "
        "LEFT JOIN pg_index i ON i.indexrelid = c.oid "
        "WHERE c.relkind IN ('r', 'i') AND c.relnamespace = 'public'::regnamespace",
    )
    return {
        "tables": {oid: (file, name) for oid, file, name, table in rows if table is None},
        "indexes": {(table, file): True for _, file, _, table in rows if table is not None},
    }


def work_between(
    before: dict[str, Any], after: dict[str, Any], read: dict[int, int]
) -> dict[str, str]:
    """{table: cost} for tables that were there: a new file is a rewrite, a new index a build."""
    found = {}
    for oid, (file, name) in before["tables"].items():
        if oid not in after["tables"]:
            continue
        fresh = [key for key in after["indexes"] if key[0] == oid and key not in before["indexes"]]
        if after["tables"][oid][0] != file:
            found[name] = "rewrite"
        elif fresh:
            found[name] = "build"
        elif read.get(oid, 0) >= OWNERS:
            found[name] = "scan"
    return found


def rows_read(connection: Any) -> dict[int, int]:
    """{oid: rows read in order by this transaction}."""
    rows = asks(
        connection.cursor(),
        "SELECT relid, seq_tup_read FROM pg_stat_xact_user_tables",
    )
    return {oid: int(read or 0) for oid, read in rows}


def locks_of(cursor: Any, process: int, before: dict[str, Any]) -> dict[str, str]:
    """{table: the strongest lock that one process holds}, for the tables that were there before.

    By their names of then: a dropped or renamed table keeps its oid in pg_locks.
    """
    rows = asks(cursor, "SELECT relation, mode FROM pg_locks WHERE pid = %s", process)
    order = ["SUX", "SH", "SRX", "AX"]
    found: dict[str, str] = {}
    for oid, mode in rows:
        lock, (_, name) = LOCKS.get(mode), before["tables"].get(oid, ("", ""))
        if lock and name and (name not in found or order.index(lock) > order.index(found[name])):
            found[name] = lock
    return found


@contextmanager
def watched(connection: Any, before: dict[str, Any]) -> Iterator[dict[str, str]]:
    """What a migration outside a transaction locks, seen by others while it must wait for one.

    One connection holds the table as a writer does, so that the migration stops half-way; another
    one looks at pg_locks, and lets the writer go when it saw a lock.
    """
    seen: dict[str, str] = {}
    holder, looker = (connection.get_new_connection(connection.get_connection_params())
                      for _ in range(2))  # fmt: skip
    holder.cursor().execute("LOCK TABLE shop_item IN ROW EXCLUSIVE MODE")
    process, over = pid(connection), threading.Event()

    def look() -> None:
        until = time.monotonic() + 10
        while not over.is_set() and time.monotonic() < until:
            found = locks_of(looker.cursor(), process, before)
            looker.rollback()
            seen.update(found)
            if found:
                break
            time.sleep(0.01)
        holder.rollback()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
        holder.close()
        looker.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
