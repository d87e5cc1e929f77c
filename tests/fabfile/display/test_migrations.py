"""What a person reads of pending migrations, line by line; judged by the real code, no Django."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest

from fabfile.display.migrations import human, lines
from roles.onhost.migrating.constraints import added_index
from roles.onhost.migrating.deciding import decide_together
from roles.onhost.migrating.judging import told
from roles.onhost.migrating.migration import judged_migration
from roles.onhost.migrating.plan import close, plan_hash, weigh, whole_hash
from roles.onhost.migrating.scene import Scene
from roles.onhost.migrating.words import effect, unknown

POSTGRESQL = SimpleNamespace(vendor="postgresql", alias="default")
SCENE = Scene("shop", None, None, POSTGRESQL, frozenset())
SIZES = {"shop_item": 12_300_000, "shop_user": 4_096, "shop_order": 7_200_000_000}


def operation(text: str, *effects: Any, reversible: bool = True) -> Any:
    """One operation that says ``text`` of itself and has these effects."""
    return told(SimpleNamespace(reversible=reversible, describe=lambda: text), effects, SCENE)


def migration(name: str, *operations: Any, mark: Any = None, **more: Any) -> Any:
    made = SimpleNamespace(app_label="shop", name=name, atomic=True)
    return {**judged_migration(made, operations, [], mark, True), "sha256": name * 2, **more}


def plan(*pending: Any, **more: Any) -> Any:
    weigh(close(list(pending)), SIZES.get, 50_000_000)
    return {
        "alias": "default", "vendor": "postgresql", "server_version": "15.14", "first": False,
        "conflicts": {}, "inconsistent": None, "ahead": [], "pending": list(pending),
        "hash": plan_hash(pending), **more,
    }  # fmt: skip


def shown(plans: Any, colour: bool = False) -> list[str]:
    return lines(plans, decide_together(plans), colour)


def said(plans: Any) -> str:
    return "\n".join(shown(plans))


def add_memo() -> Any:
    return operation("Add field memo to item", effect(
        "before", "ok", "fails: every query of Item names the column memo",
        locks={"shop_item": "AX"}, work={"shop_item": "brief"},
        loses_back="the column shop_item.memo"))  # fmt: skip


def add_index(table: str = "shop_item") -> Any:
    return operation(f"Create index by_name on {table}", added_index(table, SCENE))


def remove_note() -> Any:
    return operation("Remove field note from item", effect(
        "after", "fails: every query of Item names the column note", "ok",
        locks={"shop_item": "AX", "shop_user": "AX"}, work={"shop_item": "brief"},
        loses="the column shop_item.note",
        loses_back="reversing makes shop_item.note anew, empty: what was in it is gone",
    ))  # fmt: skip


def add_code() -> Any:
    return operation("Add field code to item", effect(
        "offline", "INSERT fails: shop_item.code is NOT NULL", "fails: no column code",
        locks={"shop_item": "AX"}, work={"shop_item": "brief"}, remedy="null=True first",
        loses_back="the column shop_item.code"))  # fmt: skip


def fill() -> Any:
    return operation("Raw Python operation", dict(
        unknown("what the function fill does is unknown", "say when it may run"),
        facts={"by_hand": True}), reversible=False)  # fmt: skip


def test_nothing_is_pending() -> None:
    assert shown({"default": plan()}) == ["no migrations pending"]


def test_expand() -> None:
    one = plan(migration("0002_memo", add_memo()), migration("0003_by_name", add_index()))
    assert said({"default": one}) == f"""\
2 migrations pending: safe while the old code serves (expand, then roll)
  before   shop.0002_memo: Add field memo to item
           new code before it: fails: every query of Item names the column memo
           AX lock on shop_item (12 MB): blocks reads and writes briefly
           reversible, but going back loses the column shop_item.memo
  any      shop.0003_by_name: Create index by_name on shop_item
           SH lock on shop_item (12 MB): blocks writes while it builds an index
           reversible
plan {one['hash']}"""


def test_expand_and_contract() -> None:
    first, second = migration("0002_memo", add_memo()), migration("0003_note", remove_note())
    third = migration("0004_by_name", add_index(), dependencies=["shop.0003_note"])
    one = plan(first, second, third)
    assert said({"default": one}) == f"""\
3 migrations pending: 1 safe while the old code serves, 2 when none runs any more (expand, roll,
  contract)
  before   shop.0002_memo: Add field memo to item
           new code before it: fails: every query of Item names the column memo
           AX lock on shop_item (12 MB): blocks reads and writes briefly
           reversible, but going back loses the column shop_item.memo
  after    shop.0003_note: Remove field note from item
           old code after it: fails: every query of Item names the column note
           AX lock on shop_item (12 MB); shop_user (4.1 kB): blocks reads and writes briefly
           loses: the column shop_item.note
           reversible, but reversing makes shop_item.note anew, empty: what was in it is gone
  after    shop.0004_by_name: Create index by_name on shop_item
           waits for shop.0003_note
           SH lock on shop_item (12 MB): blocks writes while it builds an index
           reversible
plan {one['hash']}"""


def test_only_contract() -> None:
    one = plan(migration("0002_note", remove_note()))
    assert shown({"default": one})[0] == (
        "1 migration pending: safe when no old code runs any more (roll, then contract)"
    )


def test_stop_names_what_to_do_instead() -> None:
    one = plan(migration("0002_code", add_code()))
    assert said({"default": one}) == f"""\
stop: 1 migration pending: shop.0002_code needs a maintenance window or --accept-risk=shop.0002_code
  offline  shop.0002_code: Add field code to item
           old code after it: INSERT fails: shop_item.code is NOT NULL
           new code before it: fails: no column code
           AX lock on shop_item (12 MB): blocks reads and writes briefly
           reversible, but going back loses the column shop_item.code
           instead: null=True first
plan {one['hash']}"""


def test_two_halves_in_one_file() -> None:
    one = plan(migration("0002_both", add_memo(), remove_note()))
    assert said({"default": one}) == f"""\
stop: 1 migration pending: shop.0002_both needs a maintenance window or --accept-risk=shop.0002_both
  offline  shop.0002_both: Add field memo to item; Remove field note from item
           one part must run before the new code (Add field memo to item), another after it (Remove
             field note from item)
           old code after it: fails: every query of Item names the column note
           new code before it: fails: every query of Item names the column memo
           AX lock on shop_item (12 MB); shop_user (4.1 kB): blocks reads and writes briefly
           loses: the column shop_item.note
           reversible, but going back loses the column shop_item.memo; reversing makes
             shop_item.note anew, empty: what was in it is gone
           instead: split it into two migrations
plan {one['hash']}"""


def test_what_only_its_author_knows() -> None:
    one = plan(migration("0002_fill", fill()))
    assert said({"default": one}) == f"""\
stop: 1 migration pending: shop.0002_fill needs a maintenance window or --accept-risk=shop.0002_fill
  unknown  shop.0002_fill: Raw Python operation
           old and new code: what the function fill does is unknown
           not reversible: Raw Python operation
           instead: say when it may run
plan {one['hash']}"""


def test_what_its_author_said() -> None:
    clear = {"from": "safe", "value": "before_deploy", "phase": "before", "delay": None}
    strange = {"from": "stage", "value": "soon", "phase": "unknown", "delay": 90.0}
    found = shown({"default": plan(migration("0002", fill(), mark=clear),
                                   migration("0003", add_memo(), mark=strange))})  # fmt: skip
    assert [line.strip() for line in found if "marked" in line] == [
        "marked: safe = 'before_deploy'; judged unknown",
        "marked: stage = 'soon', which we do not understand, 90 s later; judged before",
    ]


def test_heavy_work() -> None:
    one = plan(migration("0002_by_name", add_index("shop_order")))
    assert said({"default": one}) == f"""\
stop: 1 migration pending: shop.0002_by_name needs a maintenance window or
  --accept-risk=shop.0002_by_name
  any      shop.0002_by_name: Create index by_name on shop_order
           SH lock on shop_order (7.2 GB): blocks writes while it builds an index
           heavy: builds an index on shop_order (of 7200 MB), which blocks writes meanwhile
           reversible
           instead: on a big table: AddIndexConcurrently in a migration with atomic = False
plan {one['hash']}"""


def test_a_backfill_under_a_lock() -> None:
    mark = {"from": "overrides", "value": "before", "phase": "before", "delay": None}
    text = said({"default": plan(migration("0002", add_memo(), fill(), mark=mark))})
    assert "AX lock on shop_item (12 MB): blocks reads and writes while it fills in data\n" in text


def test_blocked() -> None:
    second = migration("0003_memo", add_memo(), dependencies=["shop.0002_note"])
    one = plan(migration("0002_note", remove_note()), second)
    assert said({"default": one}) == f"""\
stop: 2 migrations pending: shop.0003_memo needs a maintenance window or
  --accept-risk=shop.0003_memo
  after    shop.0002_note: Remove field note from item
           old code after it: fails: every query of Item names the column note
           AX lock on shop_item (12 MB); shop_user (4.1 kB): blocks reads and writes briefly
           loses: the column shop_item.note
           reversible, but reversing makes shop_item.note anew, empty: what was in it is gone
  before   shop.0003_memo: Add field memo to item
           new code before it: fails: every query of Item names the column memo
           AX lock on shop_item (12 MB): blocks reads and writes briefly
           blocked: must run before the new code, but depends on shop.0002_note, which must not
           reversible, but going back loses the column shop_item.memo
           instead: deploy shop.0002_note first, or make that safe before the new code starts
plan {one['hash']}"""


def test_what_django_refuses_no_window_helps() -> None:
    wrong = migration("0002", add_index(), refused=["AddIndexConcurrently needs `atomic = False`"])
    never = operation("Alter field x", effect(
        "offline", "Django refuses: x", "Django refuses: x", facts={"refused": "x"},
    ))  # fmt: skip
    plans = {"default": plan(wrong, migration("0003", never), migration("0004", fill()))}
    assert said(plans).startswith("""\
stop: 3 migrations pending: Django refuses shop.0002, shop.0003; shop.0004 needs a maintenance
  window or --accept-risk=shop.0004
""")
    assert "           refused: AddIndexConcurrently needs `atomic = False`" in shown(plans)


def test_several_databases() -> None:
    plans = {
        "default": plan(migration("0002_memo", add_memo())),
        "other": plan(vendor="sqlite", server_version=None),
        "third": plan(migration("0002_memo", operation("Add field memo to item", effect("any")))),
    }
    assert said(plans) == f"""\
1 migration pending: safe while the old code serves (expand, then roll)
database default: postgresql 15.14, 1 pending
  before   shop.0002_memo: Add field memo to item
           new code before it: fails: every query of Item names the column memo
           AX lock on shop_item (12 MB): blocks reads and writes briefly
           reversible, but going back loses the column shop_item.memo
database other: sqlite, nothing pending
database third: postgresql 15.14, 1 pending
  any      shop.0002_memo: Add field memo to item
           reversible
plan {whole_hash(plans)}"""


def test_a_history_that_is_not_in_order() -> None:
    assert shown({"default": plan(ahead=["shop.0009_laptop"])}) == [
        "stop: no migrations pending: the history of migrations is not in order",
        "  stop: applied, but not in this release: shop.0009_laptop",
        "  instead: deploy a release that has them, or take them back with one",
    ]
    assert shown({"default": plan(migration("0002_a", add_index()),
                                  conflicts={"shop": ["0002_a", "0002_b"]})})[:3] == [
        "stop: 1 migration pending: the history of migrations is not in order",
        "  stop: several last migrations in shop: 0002_a, 0002_b",
        "  instead: merge them: manage.py makemigrations --merge",
    ]  # fmt: skip


def test_a_first_deploy_is_a_list_of_names() -> None:
    one = plan(migration("0001", add_memo()), migration("0002", add_memo()), first=True)
    assert said({"default": one}) == f"""\
2 migrations pending: the first here, so no code runs that could mind (expand, then roll)
  before   shop.0001
  before   shop.0002
plan {one['hash']}"""


def test_long_lists_are_cut_short() -> None:
    made = [operation(f"Create model Part{n}", effect("any")) for n in range(9)]
    one = plan(migration("0002_parts", *made))
    assert said({"default": one}) == f"""\
1 migration pending: safe while the old code serves (expand, then roll)
  any      shop.0002_parts: Create model Part0; Create model Part1; Create model Part2; Create model
           Part3; and 5 more
           reversible
plan {one['hash']}"""


def test_colours_are_of_the_decision_and_of_the_phases() -> None:
    found = shown({"default": plan(migration("1", add_index()), migration("2", remove_note()),
                                   migration("3", add_code()))}, colour=True)  # fmt: skip
    assert found[0].startswith("\033[31mstop: 3 migrations pending")
    assert [line for line in found if "shop.1:" in line or "shop.2:" in line or "3: A" in line] == [
        "  \033[32many\033[0m      shop.1: Create index by_name on shop_item",
        "  \033[33mafter\033[0m    shop.2: Remove field note from item",
        "  \033[31moffline\033[0m  shop.3: Add field code to item",
    ]
    assert "           \033[31mloses:\033[0m the column shop_item.note" in found


def test_what_sqlite_knows_of_sizes() -> None:
    text = said({"default": plan(migration("1", add_index()), vendor="sqlite")})
    assert "   lock on shop_item (in a file of 12 MB): blocks writes while it builds" in text
    text = said({"default": plan(migration("1", add_index("far_away")))})
    assert "   SH lock on far_away (size unknown): blocks writes while it builds" in text


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_234_567, "1.2 MB"), (9_960_000, "10 MB"),
     (12_345_678, "12 MB"), (3_000_000_000_000, "3.0 TB")],
)  # fmt: skip
def test_sizes_as_people_say_them(size: int, words: str) -> None:
    assert human(size) == words


def test_one_hash_over_all_databases() -> None:
    here, there = plan(migration("1", add_memo())), plan()
    assert whole_hash({"default": here}) == here["hash"]
    both = f"a:{there['hash']}\nb:{here['hash']}\n".encode()
    assert whole_hash({"b": here, "a": there}) == hashlib.sha256(both).hexdigest()
