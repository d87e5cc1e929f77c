"""What follows from judged operations: joins, order, weight, decisions. No Django, no database."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from roles.onhost import ship
from roles.onhost.migrating.deciding import decide, decide_together
from roles.onhost.migrating.kinds import covers
from roles.onhost.migrating.markers import marker
from roles.onhost.migrating.migration import held_to_the_end
from roles.onhost.migrating.plan import close, plan_hash, weigh
from roles.onhost.migrating.words import blocks, dearest, join, strongest


def migration(name: str, phase: str, *dependencies: str, **more: Any) -> dict[str, Any]:
    """One judged migration, as `read_plan` has it."""
    return {
        "app": "shop", "name": name, "migration": f"shop.{name}", "phase": phase, "marker": None,
        "sha256": name * 3, "dependencies": [f"shop.{each}" for each in dependencies],
        "operations": [operation(phase)], "work": {}, "locks": {}, "behind": [], "blocked_by": [],
        "heavy": [], "refused": [], "waits_for_backfill": [], **more,
    }  # fmt: skip


def operation(phase: str, **more: Any) -> dict[str, Any]:
    return {"operation": "AddField", "description": f"Do {phase}", "phase": phase, "facts": {},
            "old_code": "fails", "new_code": "ok", "remedy": "mend it", "locks": {}, "late": [],
            "work": {}, **more}  # fmt: skip


def plan(*pending: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"pending": close(list(pending)), "conflicts": {}, "inconsistent": None,
            "ahead": [], **more}  # fmt: skip


# ------------------------------------------------------------------------------- the modules


def test_they_load_as_they_are_shipped_and_without_django() -> None:
    head, call = ship.text("migrating.plan").decode().rsplit("\nbecome(", 1)
    names = sorted(path.stem for path in (ship.FOLDER / "migrating").glob("[a-z]*.py"))
    imports = "\n".join(f"import fabfleet_migrating.{name}" for name in names)
    code = (f"{head}\nbecome = lambda name, sources, *rest: sys.meta_path.insert(0, "
            f"Shipped(name, sources))\nARGUMENTS = None\nbecome({call}\n{imports}\n"
            "assert 'django' not in sys.modules")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-"], input=code, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ------------------------------------------------------------------------------- joins


@pytest.mark.parametrize(
    ("phases", "joined"),
    [
        ("", "any"),
        ("any", "any"),
        ("any before", "before"),
        ("any after", "after"),
        ("before after", "offline"),
        ("before any after", "offline"),
        ("unknown any", "unknown"),
        ("unknown before", "unknown"),
        ("unknown after", "unknown"),
        ("unknown before after", "offline"),
        ("unknown offline", "offline"),
        ("offline before", "offline"),
    ],
)
def test_join(phases: str, joined: str) -> None:
    for order in itertools.permutations(phases.split()):
        assert join(order) == joined


def test_the_strongest_lock_and_the_dearest_cost() -> None:
    assert strongest([]) == "none"
    assert strongest(["SH", "SRX", "SUX"]) == "SRX"
    assert strongest(["unknown", "AX"]) == "AX"
    assert strongest(["unknown", "SRX"]) == "unknown"
    assert dearest([]) == "brief"
    assert dearest(["build", "rewrite", "scan"]) == "rewrite"


def test_locks_in_words() -> None:
    assert blocks({}) == "nothing"
    assert blocks({"b": "SH", "a": "SH", "c": "AX"}) == (
        "reads and writes of c; writes of a, b")  # fmt: skip


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        (("text", 90), ("text", 50), True),
        (("text", 50), ("text", 90), False),
        (("integer", -8, 8), ("integer", -4, 4), True),
        (("integer", 0, 8), ("integer", -4, 4), False),
        (("decimal", 6, 2), ("decimal", 4, 2), True),
        (("decimal", 6, 2), ("decimal", 4, 3), False),
        (("other", "uuid"), ("other", "uuid"), False),
        (("text", 90), ("integer", 0, 8), False),
    ],
)
def test_which_type_holds_another(wide: Any, narrow: Any, covered: bool) -> None:
    assert covers(wide, narrow) is covered


# ------------------------------------------------------------------------------- markers


def marked(**attributes: Any) -> Any:
    made = SimpleNamespace(app_label="shop", name="0002", **attributes)
    found = marker(made, {})
    return found and (found["from"], found["phase"])


def test_markers_are_compared_by_value() -> None:
    assert marked() is None
    assert marked(safe=SimpleNamespace(value="always")) == ("safe", "any")
    assert marked(safe=SimpleNamespace(name="x", value="BEFORE_DEPLOY")) == ("safe", "before")
    assert marked(safe="after_deploy") == ("safe", "after")
    assert marked(safe=lambda: SimpleNamespace(when="before_deploy")) == ("safe", "before")
    assert marked(stage=SimpleNamespace(value="pre_deploy")) == ("stage", "before")
    assert marked(stage="post_deploy") == ("stage", "after")
    assert marked(safe="always", stage="post_deploy") == ("safe", "any")
    assert marked(safe=object()) == ("safe", "unknown")


def test_our_configuration_wins_over_markers() -> None:
    made = SimpleNamespace(app_label="shop", name="0002", safe="always")
    assert marker(made, {"shop.0002": "after"})["phase"] == "after"


# ------------------------------------------------------------------------------- order


def test_what_waits_makes_others_wait() -> None:
    closed = plan(
        migration("1", "after"), migration("2", "any", "1"), migration("3", "any"),
        migration("4", "before", "2"), migration("5", "before", "3"), migration("6", "after", "4"),
    )["pending"]  # fmt: skip
    assert [each["phase"] for each in closed] == [
        "after", "after", "any", "before", "before", "after"]  # fmt: skip
    assert closed[3]["blocked_by"] == ["shop.1", "shop.2"]
    assert closed[4]["blocked_by"] == []


def test_unknown_behind_after_stays_unknown() -> None:
    closed = plan(
        migration("1", "after"), migration("2", "unknown", "1"), migration("3", "any", "2")
    )
    assert [each["phase"] for each in closed["pending"]] == ["after", "unknown", "after"]


# ------------------------------------------------------------------------------- decisions


def test_nothing_expand_contract() -> None:
    assert decide(plan())["decision"] == "nothing"
    found = decide(plan(migration("1", "any"), migration("2", "before")))
    assert (found["decision"], found["expand"]) == ("expand", ["shop.1", "shop.2"])
    found = decide(plan(migration("1", "before"), migration("2", "after", "1")))
    assert found["decision"] == "expand-contract"
    assert (found["expand"], found["contract"]) == (["shop.1"], ["shop.2"])
    found = decide(plan(migration("1", "after")))
    assert (found["decision"], found["expand"]) == ("expand-contract", [])


@pytest.mark.parametrize("phase", ["offline", "unknown"])
def test_what_stops(phase: str) -> None:
    found = decide(plan(migration("1", "before"), migration("2", phase)))
    assert found["decision"] == "stop"
    assert found["offenders"] == [
        {"migration": "shop.2", "heavy": False, "refused": False,
         "reasons": [f"Do {phase}: " + ("old code: fails" if phase == "offline" else "fails")],
         "remedies": ["mend it"]}]  # fmt: skip


@pytest.mark.parametrize(
    "trouble",
    [
        {"conflicts": {"shop": ["0002_a", "0002_b"]}},
        {"inconsistent": "shop.0003 is applied before its dependency shop.0002"},
        {"ahead": ["shop.0009"]},
    ],
)
def test_a_plan_that_is_not_trusted(trouble: Mapping[str, Any]) -> None:
    found = decide(plan(migration("1", "any"), **trouble))
    assert (found["decision"], len(found["problems"]), found["offenders"]) == ("stop", 1, [])
    assert decide(plan(**trouble))["decision"] == "stop"


def test_the_strictest_database_decides() -> None:
    plans = {"a": plan(migration("1", "any")), "b": plan(migration("1", "after")), "c": plan()}
    assert decide_together(plans)["decision"] == "expand-contract"
    plans["d"] = plan(migration("1", "unknown"))
    found = decide_together(plans)
    assert (found["decision"], found["offenders"][0]["database"]) == ("stop", "d")
    assert decide_together({})["decision"] == "nothing"


# ------------------------------------------------------------------------------- weight


def weighed(lock: str, cost: str, size: int | None) -> list[Any]:
    one = migration("1", "before", locks={"item": lock}, work={"item": cost})
    found: list[Any] = weigh([one], lambda table: size, 50)[0]["heavy"]
    return found


def test_heavy_is_work_on_a_big_table_that_others_wait_for() -> None:
    assert weighed("AX", "rewrite", 51) == [
        {"table": "item", "bytes": 51, "cost": "rewrite", "lock": "AX"}]  # fmt: skip
    assert weighed("SH", "build", 51)
    assert weighed("AX", "scan", None)
    assert not weighed("AX", "rewrite", 50)
    assert not weighed("AX", "brief", 51)
    assert not weighed("SUX", "build", 51)


def test_each_locked_table_is_asked_once_how_big_it_is() -> None:
    asked = []

    def size(table: str) -> int:
        asked.append(table)
        return 7

    first = migration("1", "any", locks={"user": "SRX", "item": "AX"}, work={"item": "rewrite"})
    second = migration("2", "any", locks={"item": "SUX"})
    found = weigh([first, second], size, 50)
    assert [each["sizes"] for each in found] == [{"item": 7, "user": 7}, {"item": 7}]
    assert sorted(asked) == ["item", "user"]


def test_heavy_stops_and_says_how_big() -> None:
    one = migration("1", "before", locks={"item": "AX"}, work={"item": "rewrite"})
    weigh([one], lambda table: 70_000_000, 50)
    (offender,) = decide(plan(one))["offenders"]
    assert offender["reasons"] == [
        "rewrites all of item (of 70 MB), which blocks reads and writes meanwhile"]  # fmt: skip


def test_a_lock_is_held_while_data_is_filled_in() -> None:
    add = operation("before", locks={"item": "AX"})
    fill = operation("unknown", operation="RunPython", facts={"by_hand": True})
    assert held_to_the_end([add, fill], True) == ({"item": "AX"}, {"item": "scan"})
    assert held_to_the_end([fill, add], True) == ({"item": "AX"}, {})
    assert held_to_the_end([add, fill], False) == ({}, {})
    light = operation("any", locks={"item": "SUX"})
    assert held_to_the_end([light, fill], True)[1] == {}


def test_a_constraint_of_a_new_table_is_made_last() -> None:
    create = operation("before", locks={"user": "SRX"}, late=["user"])
    fill = operation("unknown", facts={"by_hand": True})
    assert held_to_the_end([create, fill], True) == ({"user": "SRX"}, {})


# ------------------------------------------------------------------------------- the hash


def test_the_hash_is_of_order_files_and_phases() -> None:
    one, two = migration("1", "any"), migration("2", "before")
    found = plan_hash([one, two])
    assert len(found) == 64
    assert found == plan_hash(json.loads(json.dumps([one, two])))
    others = [[two, one], [one], [one, {**two, "phase": "after"}], [one, {**two, "sha256": None}]]
    assert len({found, *(plan_hash(each) for each in others)}) == 5
