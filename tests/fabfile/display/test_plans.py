from __future__ import annotations

from dataclasses import replace

from fabfile.display.plans import brief, full
from fabfile.environment import Environment
from fabfile.plan import Plan
from fabfile.strategies import rollback, rolling, staging
from tests.fabfile.fleets import NEW, fresh, live, make_fleet, ready


def test_a_line_a_stage(prod: Environment) -> None:
    assert list(brief(rolling.plan(make_fleet(prod, pending=["shop.0002_stock"])))) == [
        f"plan release (rolling) for release {NEW}",
        "  migrate: once: web1: migrations.apply",
        "  roll: one host at a time: web[1-3]: release.switch, wsgi.restart, wsgi.health",
        "  finish: on all hosts at once: web[1-3]: release.finish",
    ]


def test_notes(prod: Environment) -> None:
    assert list(brief(rollback.plan(make_fleet(prod))))[-1] == (
        "  note: the database stays as it is: migrations are not taken back"
    )


def test_nothing_to_do() -> None:
    assert list(brief(Plan("stage", "prod", NEW, "stage"))) == ["plan stage: nothing to do"]
    assert list(full(Plan("stage", "prod", NEW, "stage"))) == ["plan stage: nothing to do"]


def test_hosts_that_do_the_same_are_shown_together_with_every_command(prod: Environment) -> None:
    fleet = make_fleet(prod, ready("web1"), live("web2"), ready("web3"))
    plan = rolling.plan(fleet)
    only_roll = replace(plan, stages=plan.stages[1:2])
    new = f"/srv/shop/releases/{NEW}"
    lines = list(full(only_roll))
    assert lines[2:9] == [
        "",
        "roll: one host at a time",
        "  web[1,3]",
        "    release.switch  (at most 30 s)",
        f"      test -d {new} && ln -sfn releases/{NEW} /srv/shop/.current-new && "
        "mv -T /srv/shop/.current-new /srv/shop/current",
        "    wsgi.restart  (at most 90 s)",
        "      sudo -n /usr/bin/systemctl restart shop-wsgi.service",
    ]
    assert len(lines) == 11


def test_hosts_that_differ_are_shown_apart(prod: Environment) -> None:
    lines = list(full(staging.plan(make_fleet(prod, ready("web1"), fresh("web2"), ready("web3")))))
    assert [line for line in lines if line.startswith("  web")] == ["  web[1,3]", "  web2"]


def test_every_command_of_a_plan_is_shown(prod: Environment) -> None:
    plan = staging.plan(make_fleet(prod, fresh("web1"), live("web2"), live("web3")))
    text = "\n".join(full(plan))
    for _, step in plan.steps():
        for action in step.actions:
            assert action.shown in text
