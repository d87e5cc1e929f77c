from __future__ import annotations

from fabfile.environment import Environment
from fabfile.strategies import rolling
from tests.fabfile.fleets import NEW, OLD, arguments, fresh, live, make_fleet, ready, told
from tests.fabfile.strategies.outline import hosts, names, outline, stage_of

TURN = ["release.switch", "wsgi.restart", "wsgi.health"]


def test_migrate_once_then_one_host_at_a_time_the_first_is_the_canary(prod: Environment) -> None:
    plan = rolling.plan(make_fleet(prod, pending=["shop.0002_stock"]))
    assert (plan.name, plan.strategy, plan.environment, plan.release) == (
        "release", "rolling", "prod", NEW
    )
    assert outline(plan) == [
        ("migrate", "once", [("web1", ["migrations.apply"])]),
        ("roll", "rolling", [("web1", TURN), ("web2", TURN), ("web3", TURN)]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in ("web1", "web2", "web3")]),
    ]
    assert [len(batch) for batch in stage_of(plan, "roll").batches] == [1, 1, 1]


def test_nothing_pending_nothing_migrated(prod: Environment) -> None:
    assert names(rolling.plan(make_fleet(prod))) == ["roll", "finish"]


def test_a_host_that_fails_is_put_back_on_what_it_had(prod: Environment) -> None:
    fleet = make_fleet(prod, ready("web1"), ready("web2", current="older", releases=("older",)),
                       ready("web3"))
    first, second, _ = stage_of(rolling.plan(fleet), "roll").turns
    assert told(first.recover)[:2] == [
        f"release.switch: test -d /srv/shop/releases/{OLD} && "
        f"ln -sfn releases/{OLD} /srv/shop/.current-new && "
        "mv -T /srv/shop/.current-new /srv/shop/current",
        "wsgi.restart: sudo -n /usr/bin/systemctl restart shop-wsgi.service",
    ]
    assert [step.name for step in first.recover] == TURN
    assert arguments(first.steps[-1].actions[0])["release"] == NEW
    assert arguments(first.recover[-1].actions[0])["release"] == OLD
    assert arguments(second.recover[-1].actions[0])["release"] == "older"


def test_a_first_deploy_that_fails_leaves_nothing_running_and_nothing_current(
    prod: Environment,
) -> None:
    fleet = make_fleet(prod, fresh("web1"), fresh("web2"), fresh("web3"))
    assert told(stage_of(rolling.plan(fleet), "roll").turns[0].recover) == [
        "wsgi.stop: sudo -n /usr/bin/systemctl stop shop-wsgi.service",
        "release.switch: rm -f /srv/shop/current",
    ]


def test_hosts_that_serve_it_already_are_only_asked(prod: Environment) -> None:
    plan = rolling.plan(make_fleet(prod, live("web1"), ready("web2"), live("web3")))
    assert outline(plan) == [
        ("confirm", "parallel", [("web1", ["wsgi.health"]), ("web3", ["wsgi.health"])]),
        ("roll", "rolling", [("web2", TURN)]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in ("web1", "web2", "web3")]),
    ]


def test_a_second_deploy_of_the_same_only_looks(prod: Environment) -> None:
    facts = [live(host, history=({"release": NEW},)) for host in ("web1", "web2", "web3")]
    plan = rolling.plan(make_fleet(prod, *facts))
    assert names(plan) == ["confirm", "finish"]
    assert {arguments(step.actions[0])["record"] for stage, step in plan.steps()
            if stage == "finish"} == {None}


def test_the_migration_host_may_be_outside_of_the_chosen_ones(prod: Environment) -> None:
    plan = rolling.plan(make_fleet(prod, chosen=["web2"], pending=["shop.0002_stock"]))
    assert hosts(plan, "migrate") == ["web1"]
    assert hosts(plan, "roll") == ["web2"]
    assert hosts(plan, "finish") == ["web2"]
