"""The page around what is stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile.environment import Environment
from fabfile.errors import InventoryError, Refused
from fabfile.strategies import rolling, together
from fabfile.strategies.closing import back_to, brought
from fabfile.strategies.targets import Fleet
from inventories.model import Host
from roles import maintenance
from roles.maintenance import Closed, MaintenanceSettings
from roles.role import HostFacts
from tests.fabfile.fleets import arguments, live, make_fleet, open_fleet, ready
from tests.fabfile.strategies.outline import names, outline, stage_of

ALL = ("web1", "web2")
BY_RUN = Closed(1.0, "Release x", "eve@desk", by_run=True)
BY_HAND = Closed(1.0, "shelves", "eve@desk", by_run=False)


def opened(
    folder: Path, balancer: Any = None, wsgi: Any = None, **maintenance: Any
) -> Environment:
    return open_fleet(folder, ALL, proxies=["lb1", "lb2"],
                      app={"name": "shop", "urls": ["https://shop.test/"]},
                      balancer=balancer or {}, wsgi=wsgi or {},
                      maintenance={"driver": "haproxy", **maintenance})


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return opened(tmp_path)


def fleet_of(environment: Environment, *facts: HostFacts, closed: Closed | None = None,
             pending: tuple[str, ...] = ()) -> Fleet:
    made = make_fleet(environment, *(facts or map(ready, ALL)), pending=pending)
    return replace(made, site=environment.site, closed=closed, who="eve@desk")


def test_the_page_stands_around_all_that_is_stopped(environment: Environment) -> None:
    plan = together.plan(fleet_of(environment, pending=("shop.0002_stock",)))
    assert names(plan) == ["stop-tasks", "close", "stop", "migrate", "switch", "start", "timers",
                           "open", "finish"]
    assert [(turn.host, [step.name for step in turn.steps])
            for turn in stage_of(plan, "open").turns] == [
        (lb, ["maintenance.smoke", "maintenance.open"]) for lb in ("lb1", "lb2")]
    assert outline(plan)[1] == (
        "close", "parallel", [(lb, ["maintenance.close"]) for lb in ("lb1", "lb2")])
    (action,) = stage_of(plan, "close").turns[0].steps[0].actions
    told = arguments(action)
    assert told["record"]["who"] == "eve@desk"
    assert told["record"]["by_run"] is True
    assert (told["scheme"], told["name"], told["port"]) == ("https", "shop.test", 443)
    assert "pass" not in told


@pytest.mark.parametrize(("ask", "expected"), [
    ("", ("https", 443, "lb1")), ("http://{address}:8080", ("http", 8080, "lb1")),
    ("http://127.0.0.1", ("http", 80, "127.0.0.1")), ("https://[::1]:8443", ("https", 8443, "::1")),
    ("http://[{address}]:8080", ("http", 8080, "lb1")),
])
def test_where_visitors_are_played(
    tmp_path: Path, ask: str, expected: tuple[str, int, str]
) -> None:
    plan = together.plan(fleet_of(opened(tmp_path, ask=ask)))
    (action,) = stage_of(plan, "close").turns[0].steps[0].actions
    told = arguments(action)
    assert (told["scheme"], told["port"], told["address"]) == expected
    assert told["name"] == "shop.test"


@pytest.mark.parametrize("ask", ["http://{address}:8080", "http://[{address}]:8080"])
@pytest.mark.parametrize("address", ["2001:db8::5", "[2001:db8::5]"])
def test_a_host_in_front_with_an_ipv6_address(
    environment: Environment, ask: str, address: str
) -> None:
    assert environment.site is not None
    host = Host("lb1", ("proxy",), {"ansible_host": address}, {}, "", {})
    settings = MaintenanceSettings(driver="haproxy", ask=ask)
    (step,) = maintenance.look(replace(environment.site, settings=settings, hosts=(host,)))
    told = arguments(step.actions[0])
    assert (told["scheme"], told["port"], told["address"]) == ("http", 8080, "2001:db8::5")


@pytest.mark.parametrize("url", ["shop.test", "https://shop.test:https/", "https://[shop.test]/"])
def test_the_sites_address_is_one(tmp_path: Path, url: str) -> None:
    with pytest.raises(InventoryError) as refused:
        open_fleet(tmp_path, ALL, proxies=["lb1"], app={"name": "shop", "urls": [url]},
                   maintenance={"driver": "haproxy"})
    assert "app.urls" in str(refused.value)
    assert str(refused.value).endswith(f": expected such as https://shop.example/, got {url!r}")


def test_who_came_before_the_page_gets_an_answer(environment: Environment, tmp_path: Path) -> None:
    """HAProxy as the balancer knows who that is; without it, connections are looked at."""
    stop = stage_of(together.plan(fleet_of(environment)), "stop")
    assert [[step.name for step in turn.steps] for turn in stop.turns] == [
        ["maintenance.settle", "wsgi.stop"]] * 2
    (action,) = stop.turns[0].steps[0].actions
    assert arguments(action) == {"address": "127.0.0.1:8000", "seconds": 5}
    (tmp_path / "other").mkdir()
    balanced = opened(tmp_path / "other", balancer={"driver": "haproxy", "backend": "web"})
    stop = stage_of(together.plan(fleet_of(balanced)), "stop")
    assert [[(step.name, step.host) for step in turn.steps] for turn in stop.turns] == [
        [("balancer.quiet", "lb1"), ("balancer.quiet", "lb2"), ("wsgi.stop", host)]
        for host in ALL]


def test_until_something_is_migrated_all_of_it_is_taken_back(environment: Environment) -> None:
    plan = together.plan(fleet_of(environment, pending=("shop.0002_stock",)))
    expected = [
        *((name, host) for host in ALL
          for name in ("wsgi.start", "wsgi.health", "timers.resume")),
        *((f"maintenance.{name}", lb) for lb in ("lb1", "lb2") for name in ("smoke", "open")),
    ]
    for name in ("stop-tasks", "close", "stop"):
        resume = stage_of(plan, name).resume
        assert resume is not None
        assert [(step.name, step.host) for step in resume] == expected
        assert [(step.if_well, step.apart) for step in resume[-4:]] == [(True, True)] * 4
    (turn,) = stage_of(plan, "migrate").turns
    assert [(step.name, step.host) for step in turn.recover] == [
        ("migrations.untouched", "web1"), *expected]
    later = plan.stages[names(plan).index("migrate"):]
    assert [stage.resume for stage in later if stage.name in ("migrate", "switch")] == [(), ()]


def test_what_a_person_closed_is_not_opened(environment: Environment) -> None:
    plan = together.plan(fleet_of(environment, closed=BY_HAND))
    assert names(plan) == ["stop-tasks", "close", "stop", "switch", "start", "timers", "finish"]


@pytest.mark.parametrize(("closed", "stages"), [
    (BY_RUN, ["confirm", "open", "finish"]),
    (BY_HAND, ["confirm", "finish"]),
    (None, ["confirm", "finish"]),
])
def test_any_deploy_opens_what_a_dead_run_left_closed(
    environment: Environment, closed: Closed | None, stages: list[str]
) -> None:
    fleet = fleet_of(environment, *map(live, ALL), closed=closed)
    assert names(rolling.plan(fleet)) == stages
    assert names(together.plan(fleet)) == stages


def test_without_a_smoke_test_it_is_opened_at_once(tmp_path: Path) -> None:
    plan = together.plan(fleet_of(opened(tmp_path, smoke="")))
    assert [[step.name for step in turn.steps] for turn in stage_of(plan, "open").turns] == [
        ["maintenance.open"]] * 2


def test_a_stand_in_takes_each_servers_place(tmp_path: Path) -> None:
    plan = together.plan(fleet_of(opened(tmp_path, driver="stand-in")))
    assert outline(plan) == [
        ("stop-tasks", "parallel", [(host, ["timers.pause"]) for host in ALL]),
        ("stop", "parallel", [(host, ["wsgi.stop", "maintenance.stand-in"]) for host in ALL]),
        ("switch", "parallel", [(host, ["release.switch"]) for host in ALL]),
        ("start", "rolling", [(host, ["maintenance.step-aside", "wsgi.start", "wsgi.health"])
                              for host in ALL]),
        ("timers", "parallel", [(host, ["timers.resume"]) for host in ALL]),
        ("finish", "parallel", [(host, ["release.finish"]) for host in ALL]),
    ]


def test_a_stand_in_is_everywhere_where_its_server_was(tmp_path: Path) -> None:
    made = opened(tmp_path, driver="stand-in", wsgi={"bind": "*:8000"})
    steps = [step for _, step in together.plan(fleet_of(made)).steps()
             if step.name == "maintenance.stand-in"]
    assert {arguments(step.actions[0])["address"] for step in steps} == {"0.0.0.0:8000"}


def test_a_stand_in_cannot_be_where_the_server_listens_at_a_socket(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"driver: a stand-in answers at a port, and the "
                                             r"server of web1 at a socket \(.*wsgi\.bind\)"):
        opened(tmp_path, driver="stand-in", wsgi={"bind": "/run/shop/wsgi.sock"})


def test_a_stand_in_that_a_dead_run_left_behind_steps_aside(tmp_path: Path) -> None:
    made = fleet_of(opened(tmp_path, driver="stand-in"))
    assert [step.name for _, step in rolling.plan(made).steps()].count(
        "maintenance.step-aside") == 0
    turns = stage_of(rolling.plan(replace(made, closed=BY_RUN)), "roll").turns
    assert [turn.steps[0].name for turn in turns] == ["maintenance.step-aside"] * 2


@pytest.mark.parametrize(("settings", "said"), [
    ({"wsgi": {"health": {"path": "/"}}}, r"wsgi\.health: / is the page that visitors ask for"),
    ({"always": ["/ping", "/"]}, r"maintenance\.always: / is the page that visitors ask for"),
])
def test_what_is_never_closed_cannot_be_what_visitors_ask_for(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InventoryError, match=said):
        _ = opened(tmp_path, **settings).site


def test_an_apache_that_is_stopped_cannot_show_the_page(tmp_path: Path) -> None:
    wsgi = {"server": "mod_wsgi", "method": "reload", "unit": "apache2.service"}
    maintenance = {"driver": "apache", "hosts": ["web"]}
    app = {"name": "shop", "urls": ["https://shop.test/"]}
    stopped = open_fleet(tmp_path, ALL, app=app, wsgi=wsgi, maintenance=maintenance)
    with pytest.raises(Refused, match=r"maintenance\.driver: web1, web2: the Apache that"):
        together.plan(fleet_of(stopped))
    (tmp_path / "other").mkdir()
    serves = open_fleet(tmp_path / "other", ALL, app=app, maintenance=maintenance)
    assert "close" in names(together.plan(fleet_of(serves)))


def test_a_site_without_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"app\.urls: missing; name the site's address"):
        open_fleet(tmp_path, ALL, proxies=["lb1"], maintenance={"driver": "haproxy"})


def test_hosts_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"maintenance\.hosts: no host or group edge;"):
        opened(tmp_path, hosts=["edge"])


def test_behind_a_page_all_go_back_whichever_host_does_not_start(environment: Environment) -> None:
    """Or the page would stay, though nothing was migrated."""
    turns = stage_of(together.plan(fleet_of(environment)), "start").turns
    assert [[step.name for step in turn.recover][-4:] for turn in turns] == [
        ["maintenance.smoke", "maintenance.open"] * 2] * 2
    assert {step.host for turn in turns for step in turn.recover} == {*ALL, "lb1", "lb2"}


def test_the_record_says_where_the_run_was_going(environment: Environment) -> None:
    made = fleet_of(environment)
    for back in (False, True):
        (action,) = stage_of(together.plan(replace(made, back=back)), "close").turns[0
            ].steps[0].actions
        told = arguments(action)["record"]
        closed = replace(BY_RUN, reason=told["reason"])
        there = {True: back_to(closed), False: brought(closed)}
        assert (there[back], there[not back]) == (made.release.id, "")
