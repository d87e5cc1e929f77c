"""Going back to code that does not know some of the applied migrations."""

from __future__ import annotations

from typing import Any

import pytest

from fabfile.errors import Refused
from fabfile.strategies import reversing
from fabfile.strategies.reversing import WayBack
from roles.migrations import Judged

AGAIN = "fab rollback --env=prod --to=r1"


def step(name: str, phase: str = "before", *irreversible: str) -> dict[str, Any]:
    return {"migration": name, "phase": phase, "irreversible": list(irreversible)}


def way(targets: dict[str, str], *steps: dict[str, Any], **more: Any) -> WayBack:
    """``steps`` in the order in which Django would go back."""
    answer = {"default": {"migrations": list(steps), "problems": [], "loses": [], **more}}
    return WayBack("r2", {"default": tuple(targets.items())}, answer)


def older(*ahead: str, leaves: dict[str, str] | None = None) -> Judged:
    plan = {"ahead": list(ahead), "leaves": leaves or {"shop": "0001"}, "pending": []}
    return Judged({"default": plan})


def refusal(found: WayBack, partly: WayBack | None, accepted: tuple[str, ...]) -> list[str]:
    with pytest.raises(Refused) as caught:
        reversing.refuse_unsafe(found, partly, accepted, AGAIN)
    return str(caught.value).splitlines()


def test_all_that_the_older_release_does_not_know() -> None:
    found = older("shop.0002", "shop.0003", "blog.0002", leaves={"shop": "0001"})
    assert reversing.whole(found) == {"default": (("shop", "0001"), ("blog", "zero"))}
    assert reversing.whole(older()) == {}


def test_what_it_lives_with_stays() -> None:
    found = way({"shop": "0001", "blog": "0001"}, step("shop.0004"), step("shop.0003", "after"),
                step("shop.0002"), step("blog.0002"))
    assert reversing.least(found) == {"default": (("shop", "0002"),)}
    assert [each["migration"] for each in found.unsafe] == ["shop.0003"]


def test_who_needs_a_window() -> None:
    assert not way({}, step("shop.0003", "after")).needs_a_window
    assert way({}, step("shop.0004"), step("shop.0003", "after")).needs_a_window
    assert way({}, step("shop.0003", "offline")).needs_a_window


def test_safe_ones_stop_nobody() -> None:
    found = way({"shop": "0001"}, step("shop.0002"), step("shop.0003", "any"))
    assert not found.unsafe
    reversing.refuse_unsafe(found, None, (), AGAIN)


def test_unsafe_ones_are_named_with_the_ways_out() -> None:
    partly = way({"shop": "0002"}, step("shop.0003", "after"), loses=["the column b"])
    found = way({"shop": "0001"}, step("shop.0003", "after"), step("shop.0002"))
    assert refusal(found, partly, ()) == [
        "the older code cannot live with these newer migrations:",
        "  shop.0003 (after)",
        "they can be taken back: shop.0003",
        "  data that is lost then: the column b",
        "nothing was changed; go on with one of:",
        f"  {AGAIN} --reverse    (takes them back first)",
        f"  {AGAIN} --accept-risk=shop.0003    (the code alone)",
        "  or deploy a newer release that mends what made you go back",
    ]
    reversing.refuse_unsafe(found, partly, ("shop.0003",), AGAIN)


def test_no_way_back_is_offered_where_there_is_none() -> None:
    stuck = way({"shop": "0002"}, step("shop.0003", "unknown", "Raw Python operation"))
    lines = refusal(stuck, stuck, ())
    assert "they cannot all be taken back:" in lines
    assert not any("--reverse" in line for line in lines)


def test_the_whole_way_is_looked_at_before_its_first_step() -> None:
    stuck = way({}, step("shop.0004", "after"), step("shop.0003", "after", "Raw SQL operation"),
                problems=["shop.b is NOT NULL"])
    with pytest.raises(Refused) as caught:
        reversing.refuse_incomplete(stuck, True, AGAIN)
    assert str(caught.value).splitlines() == [
        "--reverse: there is no whole way back, so not even its first step is taken:",
        "  shop.0003: Raw SQL operation: cannot be taken back",
        "  shop.b is NOT NULL",
        "nothing was changed",
    ]


def test_what_the_newer_code_needs_is_taken_back_only_in_a_window() -> None:
    found = way({}, step("shop.0003", "offline"))
    with pytest.raises(Refused, match=r"cannot live without shop\.0003.*--maintenance"):
        reversing.refuse_incomplete(found, False, AGAIN)
    reversing.refuse_incomplete(found, True, AGAIN)
    reversing.refuse_incomplete(way({}, step("shop.0003", "after")), False, AGAIN)


def test_a_release_that_does_not_know_them_all_is_of_no_use() -> None:
    found = way({}, step("shop.0003"))
    assert reversing.missing(older("shop.0003", "shop.0004"), found) == ["shop.0004"]


def test_what_the_job_is_told() -> None:
    portion = way({"shop": "0002"}, step("shop.0004"), step("shop.0003", "after")).portion
    assert portion.only == {"default": ("shop.0004", "shop.0003")}
    assert portion.back == {"default": (("shop", "0002"),)}
