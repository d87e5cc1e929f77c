"""Which migrations run before the roll, which after it, and what stops a deploy."""

from __future__ import annotations

from typing import Any

import pytest

from fabfile.errors import Refused
from fabfile.strategies import migrating
from roles.migrations import Judged
from roles.onhost.migrating import deciding
from roles.onhost.migrating.plan import close, whole_hash

AGAIN = "fab deploy --env=prod"


def migration(name: str, phase: str = "before", *needs: str, **more: Any) -> dict[str, Any]:
    """One judged migration of the app ``shop``, as far as deciding looks at it."""
    operation = {"description": f"Do {name}", "phase": phase, "old_code": "fails: x",
                 "new_code": "ok", "remedy": "null=True first", "work": {}, "facts": {}}
    return {
        "migration": f"shop.{name}", "app": "shop", "name": name, "phase": phase, "marker": None,
        "sha256": name * 2, "dependencies": [f"shop.{each}" for each in needs], "behind": [],
        "blocked_by": [], "heavy": [], "refused": [], "waits_for_backfill": [],
        "operations": [operation], **more,
    }


def plan(*pending: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"pending": close(list(pending)), "conflicts": {}, "inconsistent": None, "ahead": [],
            "applied": [], "leaves": {"shop": "0001"}, "hash": "ab" * 32, **more}


def judged(*pending: dict[str, Any], **more: Any) -> Judged:
    return several(default=plan(*pending, **more))


def several(**plans: dict[str, Any]) -> Judged:
    return Judged(plans, deciding.decide_together(plans), whole_hash(plans))


def portions(found: Judged, *accepted: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of (expand, contract)."""
    both = migrating.while_it_serves(found, accepted, AGAIN, f"{AGAIN} --maintenance")
    expand, contract = (each.names if each else () for each in both)
    return expand, contract


def refusal(found: Judged, *accepted: str) -> list[str]:
    with pytest.raises(Refused) as caught:
        portions(found, *accepted)
    return str(caught.value).splitlines()


HEAVY = [{"table": "shop_a", "bytes": 90_000_000, "cost": "scan", "lock": "AX"}]


def test_nothing_is_pending() -> None:
    assert portions(judged()) == ((), ())
    assert migrating.everything(judged()) is None
    assert migrating.while_it_serves(Judged(), (), AGAIN) == (None, None)


def test_safe_ones_run_first() -> None:
    found = judged(migration("a", "before"), migration("b", "any", "a"))
    assert portions(found) == (("shop.a", "shop.b"), ())
    expand, _ = migrating.while_it_serves(found, (), AGAIN)
    assert expand is not None
    assert expand.expected == {"default": (("shop.a", "aa"), ("shop.b", "bb"))}
    assert expand.phase == "expand"


def test_what_old_code_cannot_live_with_waits_and_all_behind_it() -> None:
    found = judged(migration("a"), migration("b", "after", "a"), migration("c", "any", "b"))
    assert portions(found) == (("shop.a",), ("shop.b", "shop.c"))


def test_the_second_job_expects_all_that_was_pending() -> None:
    """What ran already is gone from the plan then; what is new there stops it."""
    _, contract = migrating.while_it_serves(
        judged(migration("a"), migration("b", "after")), (), AGAIN)
    assert contract is not None
    assert contract.only == {"default": ("shop.b",)}
    assert contract.expected == {"default": (("shop.a", "aa"), ("shop.b", "bb"))}


@pytest.mark.parametrize("phase", ["offline", "unknown"])
def test_what_is_not_safe_is_named_with_its_remedy(phase: str) -> None:
    found = judged(migration("a"), migration("b", phase))
    lines = refusal(found)
    assert lines[:2] == ["these migrations are not safe while the old code serves:", "  shop.b"]
    assert lines[3:] == [
        "    remedy: null=True first",
        "nothing that serves was changed; apply the remedies, or go on with one of:",
        "  fab deploy --env=prod --maintenance    (stops everything while it migrates)",
        "  fab deploy --env=prod --accept-risk=shop.b",
    ]
    assert portions(found, "shop.b") == (("shop.a", "shop.b"), ())


def test_every_one_has_to_be_accepted() -> None:
    found = judged(migration("a", "offline"), migration("b", "unknown"))
    lines = refusal(found, "shop.a")
    assert lines[1] == "  shop.b"
    assert lines[-1] == "  fab deploy --env=prod --accept-risk=shop.a --accept-risk=shop.b"
    assert portions(found, "shop.a", "shop.b") == (("shop.a", "shop.b"), ())


def test_an_accepted_one_takes_along_what_it_needs() -> None:
    found = judged(migration("a", "after"), migration("b", "before", "a"))
    assert "depends on" in refusal(found)[2]
    assert portions(found, "shop.b") == (("shop.a", "shop.b"), ())


def test_what_blocks_a_big_table_is_not_safe_either() -> None:
    found = judged(migration("a", "after", heavy=HEAVY))
    assert refusal(found)[1] == "  shop.a"
    assert portions(found, "shop.a") == ((), ("shop.a",))


def test_what_is_applied_may_be_accepted_once_more() -> None:
    """So that the same command goes on where an earlier run ended."""
    found = judged(migration("a"), applied=["shop.0001", "shop.z"])
    assert portions(found, "shop.z") == (("shop.a",), ())
    migrating.refuse_other_plan(judged(), "f" * 12)


def test_only_what_is_pending_can_be_accepted() -> None:
    assert refusal(judged(migration("a")), "shop.z") == [
        "--accept-risk=shop.z: this is not pending; these are: shop.a"]


@pytest.mark.parametrize("more", [
    {"conflicts": {"shop": ["0002_a", "0002_b"]}}, {"inconsistent": "shop.b before shop.a"},
    {"ahead": ["shop.0009"]},
])
def test_a_history_that_cannot_be_trusted_stops_everything(more: dict[str, Any]) -> None:
    found = judged(migration("a"), **more)
    assert refusal(found)[-1] == "nothing that serves was changed"
    with pytest.raises(Refused):
        migrating.everything(found)


def test_a_database_that_is_ahead_may_be_accepted() -> None:
    found = judged(migration("a"), ahead=["shop.0009"])
    assert portions(found, "shop.0009") == (("shop.a",), ())


def test_what_django_refuses_nobody_can_accept() -> None:
    found = judged(migration("a", refused=["needs `atomic = False`"]))
    for lines in (refusal(found), refusal(found, "shop.a")):
        assert lines[0] == "Django itself refuses these migrations:"
        assert not any("--accept-risk" in line or "--maintenance" in line for line in lines)
    with pytest.raises(Refused, match="Django itself refuses"):
        migrating.everything(found)


def test_all_of_it_when_nothing_serves() -> None:
    found = migrating.everything(judged(
        migration("a", "offline"), migration("b", "after"), migration("c", "before", "b")))
    assert found is not None
    assert (found.names, found.phase) == (("shop.a", "shop.b", "shop.c"), "all")


def test_each_database_has_its_own_part() -> None:
    found = several(default=plan(migration("a")),
                    other=plan(migration("a"), migration("b", "after")))
    expand, contract = migrating.while_it_serves(found, (), AGAIN)
    assert expand is not None
    assert contract is not None
    assert expand.only == {"default": ("shop.a",), "other": ("shop.a",)}
    assert contract.only == {"other": ("shop.b",)}
    assert contract.names == ("shop.b",)
    assert expand.names == ("shop.a", "shop.a (other)")


def test_where_only_the_new_code_runs_just_big_tables_matter() -> None:
    found = judged(migration("a", "offline"), migration("b", "unknown"))
    portion = migrating.with_new_code_only(found, (), AGAIN)
    assert portion is not None
    assert portion.names == ("shop.a", "shop.b")
    with pytest.raises(Refused, match=r"shop\.c"):
        migrating.with_new_code_only(judged(migration("c", heavy=HEAVY)), (), AGAIN)


def test_no_window_is_offered_where_the_command_has_none() -> None:
    """As `fab migrations.run` and `fab deploy.finish`."""
    heavy = judged(migration("a", heavy=HEAVY))
    for refuse in (migrating.with_new_code_only, migrating.while_it_serves):
        with pytest.raises(Refused) as caught:
            refuse(heavy, (), AGAIN)
        assert "--maintenance" not in str(caught.value)
        assert str(caught.value).splitlines()[-1] == f"  {AGAIN} --accept-risk=shop.a"


def test_what_django_refuses_runs_on_no_way() -> None:
    found = judged(migration("a", refused=["needs `atomic = False`"]))
    with pytest.raises(Refused, match="Django itself refuses"):
        migrating.with_new_code_only(found, ("shop.a",), AGAIN)


def test_only_the_approved_plan() -> None:
    found = judged(migration("a"))
    migrating.refuse_other_plan(found, "")
    migrating.refuse_other_plan(found, "ab" * 6)
    with pytest.raises(Refused, match="this is not the plan that was approved; now it is abababab"):
        migrating.refuse_other_plan(found, "ac" * 6)
    with pytest.raises(Refused, match="at least 12 characters"):
        migrating.refuse_other_plan(found, "abab")


def test_a_skipped_host_must_be_able_to_come_back_with_the_old_code() -> None:
    found = judged(migration("a"), migration("b", "after"), migration("c", "offline"))
    migrating.refuse_old_code_later(found, (), ("shop.c",), closes=True)
    migrating.refuse_old_code_later(found, ("web3",), (), closes=False)
    with pytest.raises(Refused, match=r"web3 would come back .* with shop\.c"):
        migrating.refuse_old_code_later(found, ("web3",), ("shop.c",), closes=False)
    with pytest.raises(Refused, match=r"with shop\.b, shop\.c"):
        migrating.refuse_old_code_later(found, ("web3",), (), closes=True)


def test_a_host_outside_of_the_run_must_be_able_to_serve_on() -> None:
    found = judged(migration("a"), migration("b", "after"))
    with pytest.raises(Refused, match=r"--hosts: web2, web3 would serve on .* with shop\.b;"):
        migrating.refuse_old_code_later(found, (), (), True, ("web2", "web3"))
    migrating.refuse_old_code_later(found, (), (), False, ("web2",))
    migrating.refuse_old_code_later(judged(migration("a")), (), (), True, ("web2",))
