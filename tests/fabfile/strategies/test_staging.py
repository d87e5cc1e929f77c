from __future__ import annotations

from pathlib import Path

from fabfile.environment import Environment
from fabfile.strategies import staging
from tests.fabfile.fleets import NEW, OLD, fresh, live, make_fleet, open_fleet, ready, told
from tests.fabfile.strategies.outline import outline

BROUGHT = ["release.upload", "release.publish"]
VENV = ["python.wheelhouse", "python.venv"]
CHECKED = ["static.collect", "wsgi.check"]
SECRET = {"secrets": {"TOKEN": {"env": "TOKEN"}}}


def test_everything_everywhere_at_once(prod: Environment) -> None:
    plan = staging.plan(make_fleet(prod))
    steps = ["release.prepare", *BROUGHT, *VENV, *CHECKED]
    assert outline(plan) == [
        ("stage", "parallel", [(host, steps) for host in ("web1", "web2", "web3")])
    ]
    assert (plan.name, plan.strategy, plan.release) == ("stage", "stage", NEW)


def test_only_what_is_missing(prod: Environment) -> None:
    there = (OLD, NEW)
    ((_, _, turns),) = outline(staging.plan(make_fleet(
        prod, ready("web1", releases=there), ready("web2", venvs=("cafe",)),
        ready("web3", releases=there, venvs=("cafe",), statics=(NEW,)),
    )))
    assert turns == [
        ("web1", ["release.prepare", *VENV, *CHECKED]),
        ("web2", ["release.prepare", *BROUGHT, *CHECKED]),
        ("web3", ["release.prepare", "wsgi.check"]),
    ]


def test_a_host_without_uv_gets_it(prod: Environment) -> None:
    bare = [fresh(host, tools={"rsync": "/usr/bin/rsync"}) for host in ("web1", "web2", "web3")]
    ((_, _, turns),) = outline(staging.plan(make_fleet(prod, *bare)))
    assert turns[0][1] == [
        "release.prepare", *BROUGHT, "python.wheelhouse", "python.uv", "python.venv", *CHECKED
    ]


def test_without_a_lock_there_is_no_venv(prod: Environment) -> None:
    ((_, _, turns),) = outline(staging.plan(make_fleet(prod, wheels=None)))
    assert turns[0] == ("web1", ["release.prepare", *BROUGHT, *CHECKED])


def test_hosts_that_serve_it_are_left_alone(prod: Environment) -> None:
    plan = staging.plan(make_fleet(prod, live("web1"), live("web2"), live("web3")))
    assert plan.stages == ()
    assert plan.is_empty


def test_secrets_are_brought_even_to_hosts_that_serve_it(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, ["web1", "web2"], app=SECRET)
    ((_, _, turns),) = outline(staging.plan(make_fleet(environment, live("web1"), ready("web2"))))
    assert turns[0] == ("web1", ["app.secrets"])
    assert turns[1][1][:3] == ["release.prepare", "app.secrets", "release.upload"]


def test_what_was_staged_is_taken_away_again_but_not_what_was_there(prod: Environment) -> None:
    fleet = make_fleet(prod, ready("web1"), ready("web2", releases=(OLD, NEW)), ready("web3"))
    plan = staging.discard(fleet)
    assert outline(plan) == [("discard", "parallel", [
        ("web1", ["release.discard"]), ("web3", ["release.discard"]),
    ])]
    assert told(step for _, step in plan.steps())[0] == (
        f'release.discard: python3 -I discard.py {{"release": "{NEW}", "root": "/srv/shop"}}'
    )
    assert (plan.name, plan.strategy) == ("discard", "stage")


def test_nothing_to_take_away(prod: Environment) -> None:
    facts = [ready(host, releases=(OLD, NEW)) for host in ("web1", "web2", "web3")]
    assert staging.discard(make_fleet(prod, *facts)).stages == ()
