from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fabfile.environment import Environment
from fabfile.errors import Refused
from fabfile.strategies import rollback
from roles.role import HostFacts, Release
from tests.fabfile.fleets import arguments, make_fleet, ready
from tests.fabfile.strategies.outline import outline, stage_of


def facts(host: str, current: str, *releases: str, history: tuple[str, ...] = ()) -> HostFacts:
    """In ``history``, a name with ``<`` is one that was rolled back to."""
    records: tuple[dict[str, Any], ...] = tuple(
        {"release": each.lstrip("<"), "back": each.startswith("<")} for each in history
    )
    return ready(host, current=current, releases=releases, history=records, running=(current,))


def choose(*each: HostFacts, to: str | None = None) -> str:
    return rollback.choose(list(each), "prod", to)


def refusal(*each: HostFacts, to: str | None = None) -> str:
    with pytest.raises(Refused) as caught:
        choose(*each, to=to)
    return str(caught.value)


def test_the_last_good_one_before_the_current() -> None:
    hosts = [facts(each, "r3", "r1", "r2", "r3", history=("r1", "r2", "r3"))
             for each in ("web1", "web2")]
    assert choose(*hosts) == "r2"


def test_history_counts_not_names() -> None:
    assert choose(facts("web1", "a", "a", "b", "c", history=("b", "c", "a"))) == "c"


def test_going_back_twice_goes_back_further() -> None:
    assert choose(facts("web1", "r2", "r1", "r2", "r3", history=("r1", "r2", "r3", "<r2"))) == "r1"


def test_a_deploy_after_going_back_comes_from_where_it_went_back_to() -> None:
    history = ("r1", "r2", "<r1", "r3")
    assert choose(facts("web1", "r3", "r1", "r2", "r3", history=history)) == "r1"


def test_going_back_to_what_the_history_does_not_know() -> None:
    assert choose(facts("web1", "r0", "r0", "r1", history=("r1", "<r0"))) == "r1"


def test_what_was_pruned_is_passed_over() -> None:
    assert choose(facts("web1", "r3", "r1", "r3", history=("r1", "r2", "r3"))) == "r1"


def test_what_never_became_good_is_no_choice() -> None:
    assert choose(facts("web1", "bad", "r1", "staged", "bad", history=("r1",))) == "r1"


def test_half_a_rollout_goes_back_to_where_it_came_from() -> None:
    hosts = (facts("web1", "r3", "r1", "r2", "r3", history=("r1", "r2")),
             facts("web2", "r2", "r1", "r2", "r3", history=("r1", "r2")))
    assert choose(*hosts) == "r2"


def test_the_one_that_was_asked_for() -> None:
    hosts = [facts(each, "r3", "r1", "r2", "r3") for each in ("web1", "web2")]
    assert choose(*hosts, to="r1") == "r1"


def named(host: str) -> HostFacts:
    """v1 was deployed, then once more with other settings, and main after that."""
    commit = "0123456789abcdef"
    return replace(facts(host, "b2", "a1", "a2", "b2"), history=tuple(
        {"release": release, "at": at, "ref": ref, "commit": commit if ref == "v1" else "f" * 16}
        for release, at, ref in (("a1", 1, "v1"), ("a2", 2, "v1"), ("b2", 3, "main"))))


@pytest.mark.parametrize(("to", "chosen"), [
    ("v1", "a2"), ("main", "b2"), ("0123456", "a2"), ("b", "b2"), ("a1", "a1"),
])
def test_a_ref_a_commit_or_how_it_begins(to: str, chosen: str) -> None:
    assert choose(named("web1"), named("web2"), to=to) == chosen


def test_two_that_begin_so() -> None:
    assert refusal(named("web1"), to="a") == "--to=a: 2 releases begin so: a1, a2"
    assert refusal(named("web1"), to="01234").startswith("--to=01234: no host has this release")


def test_there_is_nothing_to_go_back_to() -> None:
    assert refusal(facts("web1", "r1", "r1", history=("r1",))) == (
        "prod: there is nothing to go back to: web1 has no earlier good release. "
        "See fab releases --env=prod"
    )


def test_a_release_that_no_host_has() -> None:
    hosts = (facts("web1", "r3", "r1", "r2", "r3"), facts("web2", "r3", "r2", "r3"))
    assert refusal(*hosts, to="r9") == (
        "--to=r9: no host has this release; on all hosts there are: r2, r3"
    )
    apart = (facts("web1", "r1", "r1"), facts("web2", "r2", "r2"))
    assert refusal(*apart, to="r9") == (
        "--to=r9: no host has this release; on all hosts there are: none"
    )


def test_a_release_that_some_hosts_have_not() -> None:
    hosts = (facts("web1", "r3", "r1", "r3"), facts("web2", "r3", "r3"),
             facts("web3", "r3", "r1", "r3"))
    assert refusal(*hosts, to="r1") == (
        "release r1 is on some hosts only: web1, web3 have it, web2 have not. "
        "Deploy its commit instead: fab deploy --env=prod --ref=..."
    )


def test_one_host_at_a_time_and_the_database_stays(prod: Environment) -> None:
    hosts = [facts("web1", "r2", "r1", "r2"), facts("web2", "r1", "r1", "r2"),
             facts("web3", "r2", "r1", "r2")]
    fleet = make_fleet(prod, *hosts, release=Release("r1", "", "", "", 0, 0), wheels=None)
    plan = rollback.plan(fleet)
    turn = ["release.switch", "wsgi.restart", "wsgi.health"]
    assert outline(plan) == [
        ("confirm", "parallel", [("web2", ["wsgi.health"])]),
        ("roll", "rolling", [("web1", turn), ("web3", turn)]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in ("web1", "web2", "web3")]),
    ]
    assert plan.notes == ("the database stays as it is: migrations are not taken back",)
    assert (plan.name, plan.release) == ("rollback", "r1")
    back = stage_of(plan, "roll").turns[0].recover
    assert arguments(back[-1].actions[0])["release"] == "r2"
