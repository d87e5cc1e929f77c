"""Workers and the scheduler: whole command lines, unit files, the helper, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile.course import staying_off
from fabfile.engine.probe import question
from fabfile.environment import Environment
from fabfile.preparation import arguments as setup_arguments
from fabfile.strategies import rolling, together
from fabfile.strategies.preflight import problems
from fabfile.strategies.targets import Fleet, is_live
from inventories.errors import InventoryError
from roles.migrations import Portion
from roles.workers import instance
from tests.fabfile.fleets import (
    NEW,
    OLD,
    RELEASE,
    UNIT,
    arguments,
    fresh,
    live,
    make_fleet,
    one_target,
    open_fleet,
    ready,
    told,
)
from tests.fabfile.strategies.outline import stage_of

CELERY: dict[str, Any] = {"celery": "config", "groups": ["web"]}
MAIN = "shop-worker-main"
SCHEDULER = "shop-scheduler.service"
USER = {"ansible_user": "deploy"}
# What web1 and web2 have where the scheduler is web3's.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "web1": {**USER, "scheduler": {"celery": "config"}},
    "web2": {**USER, "scheduler": {"celery": "config"}}, "web3": USER}
HELPER = "/usr/local/sbin/fabfleet-shop-workers"


def working(folder: Path, hosts: tuple[str, ...] = ("web1",), **changes: Any) -> Environment:
    own = dict.fromkeys(hosts, USER)
    return open_fleet(folder, hosts, own, **{"workers": CELERY, "app": {"user": "shop"}, **changes})


def scheduling(folder: Path, *states: str) -> Fleet:
    """Three hosts, of which web3 has the scheduler."""
    on = {"celery": "config", "groups": ["web"]}
    environment = open_fleet(folder, own=ELSEWHERE, scheduler=on)
    facts = [(live if state == "live" else ready)(f"web{number}")
             for number, state in enumerate(states or ("ready",) * 3, 1)]
    fleet = make_fleet(environment, *facts)
    return replace(fleet, scheduler=fleet.called("web3"))


def steps(fleet: Fleet, stage: str, plan: Any = rolling.plan) -> list[tuple[str, str]]:
    return [(step.name, step.host)
            for turn in stage_of(plan(fleet), stage).turns for step in turn.steps]


PORTION = Portion("expand", {"default": ("shop.0002",)}, {"default": (("shop.0002", "0"),)})


# --- command lines ------------------------------------------------------------------------

LINES: Mapping[str, tuple[Mapping[str, Any], dict[str, list[str]]]] = {
    "celery": (CELERY, {"worker-main": ["celery", "-A", "config", "worker", "--loglevel=INFO"]}),
    "pools": ({**CELERY, "pools": {
        "mail": {"queues": ["mail", "sms"], "concurrency": 3, "options": ["--pool=threads"]},
        "rest": {}}}, {
        "worker-mail": ["celery", "-A", "config", "worker", "--loglevel=INFO", "--queues",
                        "mail,sms", "--concurrency", "3", "--pool=threads"],
        "worker-rest": ["celery", "-A", "config", "worker", "--loglevel=INFO"]}),
    "another program": ({"groups": ["web"], "pools": {"rq": {"command": ["rq", "worker", "a b"]}}},
                        {"worker-rq": ["rq", "worker", "a b"]}),
}


@pytest.mark.parametrize("name", LINES)
def test_command_lines(tmp_path: Path, name: str) -> None:
    settings, lines = LINES[name]
    target = one_target(working(tmp_path, workers=settings))
    commands = dict(target.runtime["commands"])
    commands.pop("wsgi")
    assert commands == lines


def test_the_scheduler_s_command_line(tmp_path: Path) -> None:
    for settings, line in (
        ({"celery": "config", "options": ["--max-interval=5"]}, [
            "celery", "-A", "config", "beat", "--loglevel=INFO", "--pidfile=",
            "--schedule=/srv/shop/shared/celerybeat-schedule", "--max-interval=5"]),
        ({"command": ["rqscheduler", "--interval", "5"]}, ["rqscheduler", "--interval", "5"]),
    ):
        environment = open_fleet(tmp_path, ["web1"], scheduler={**settings, "groups": ["web"]})
        assert one_target(environment).runtime["commands"]["scheduler"] == line


def test_tasks_are_imported_before_anything_is_touched(tmp_path: Path) -> None:
    lines = told(_role("workers").stage(one_target(working(tmp_path))))
    assert lines == [
        "workers.check: sudo -n -u shop -- python3 -I /srv/shop/.fabfleet/launch.py --release "
        f"{NEW} -- python -c 'import sys; from celery.app.utils import find_app; "
        "find_app(sys.argv[1]).loader.import_default_modules()' config"]


def test_new_workers_start_and_are_asked(tmp_path: Path) -> None:
    target = one_target(working(tmp_path))
    (step,) = _role("workers").restart(target)
    told_ = arguments(step.actions[0])
    assert told_["ready"] == [
        "sudo", "-n", "-u", "shop", "--", "python3", "-I", "/srv/shop/.fabfleet/launch.py",
        "--release", NEW, "--", "celery", "-A", "config", "inspect", "ping", "--timeout=2",
        "--destination={node}"]
    assert (told_["action"], told_["release"], told_["pools"], told_["afresh"]) == (
        "start", NEW, ["main"], False)
    assert step.timeout > told_["deadline"]


def _role(name: str) -> Any:
    from roles.registry import roles

    return next(role for role in roles() if role.name == name)


# --- what hosts.setup brings --------------------------------------------------------------


def test_units_of_workers(tmp_path: Path) -> None:
    environment = working(tmp_path, workers={**CELERY, "stop_signal": "INT"})
    found: Any = setup_arguments(environment, environment.hosts[0])
    unit = found["units"][f"/etc/systemd/system/{MAIN}@.service"]
    assert ("ExecStart=/usr/bin/python3 -I /srv/shop/.fabfleet/launch.py --release %i worker-main "
            "--hostname=main.%i@%H\n") in unit
    for line in ("User=shop", "KillMode=mixed", "KillSignal=SIGINT", "TimeoutStopSec=infinity"):
        assert f"\n{line}\n" in unit
    assert "[Install]" not in unit
    boot = found["units"]["/etc/systemd/system/shop-workers.service"]
    assert f"\nExecStart={HELPER} boot\n" in boot
    assert f"deploy ALL=(root) NOPASSWD: {HELPER}\n" in found["sudoers"][1]
    assert list(found["programs"]) == [HELPER]


def test_other_programs_are_told_no_node(tmp_path: Path) -> None:
    environment = working(tmp_path, workers={"groups": ["web"],
                                             "pools": {"rq": {"command": ["rq", "worker"]}}})
    found: Any = setup_arguments(environment, environment.hosts[0])
    unit = found["units"]["/etc/systemd/system/shop-worker-rq@.service"]
    assert "--release %i worker-rq\n" in unit


@pytest.mark.parametrize("words", [
    ["start", "ssh.service"], ["stop", f"{MAIN}@v1.service", "ssh.service"], ["reload", "x"], [],
    ["start"], ["stop", f"{MAIN}@v1.service;reboot"], ["start", f"{MAIN}@$(id).service"],
    ["start", "--help"], ["start", f"{MAIN}@a b.service"], ["start", f"other-{MAIN}@v1.service"],
    ["start", f"{MAIN}.service"], ["retire", "60"], ["retire", f"{MAIN}@a.service"],
    ["retire", "1;reboot", f"{MAIN}@a.service"], ["retire", "60", "ssh.service"],
])
def test_the_helper_refuses_all_that_is_no_worker(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(["sh", helper(tmp_path), *words], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == (64, "")


def helper(folder: Path) -> str:
    environment = working(folder)
    found: Any = setup_arguments(environment, environment.hosts[0])
    path = folder / "helper"
    path.write_text(found["programs"][HELPER].replace("/usr/bin/system", "echo system")
                    .replace("/srv/shop", str(folder)))
    return str(path)


def test_the_helper_never_waits(tmp_path: Path) -> None:
    path = helper(tmp_path)
    (tmp_path / "current").symlink_to("releases/v1-abc.2")
    for words, said in (
        (["start", f"{MAIN}@a:2.service"], f"systemctl --no-block start {MAIN}@a:2.service"),
        (["stop", f"{MAIN}@a.service", "shop-worker-mail@b.service"],
         f"systemctl --no-block stop {MAIN}@a.service shop-worker-mail@b.service"),
        (["retire", "60", f"{MAIN}@a.service"], "systemd-run --quiet --collect --on-active=60s "
         "--timer-property=AccuracySec=1s --unit=fabfleet-retire-shop-worker-main-a.service echo "
         f"systemctl --no-block stop {MAIN}@a.service"),
        (["boot"], f"systemctl --no-block start {MAIN}@v1-abc.2.service"),
    ):
        done = subprocess.run(["sh", path, *words], capture_output=True, text=True, check=False)
        assert (done.stdout.splitlines()[-1], done.stderr) == (said, "")
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, path], check=True)


def test_the_scheduler_s_unit_is_on_one_host(tmp_path: Path) -> None:
    fleet = scheduling(tmp_path)
    environment = open_fleet(tmp_path, own=ELSEWHERE,
                             scheduler={"celery": "config", "groups": ["web"]})
    path = f"/etc/systemd/system/{SCHEDULER}"
    for host in environment.hosts:
        found: Any = setup_arguments(environment, host)
        assert (path in found["units"], path in found["gone"]) == (
            (True, False) if host.name == "web3" else (False, True))
    assert fleet.scheduler is not None
    left = replace(fleet.targets[0], facts=replace(fleet.targets[0].facts, files={
        **fleet.targets[0].facts.files, path: "x"}))
    again = replace(fleet, targets=(left, *fleet.targets[1:]))
    assert problems(again) == [
        f"web1: {path} must not be there with these settings; remove it, and stop what it "
        f"started: fab hosts.setup --env=prod --hosts=web1"]


def test_the_unit_is_asked_for_where_it_belongs_and_its_file_everywhere(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, own=ELSEWHERE,
                             scheduler={"celery": "config", "groups": ["web"]})
    asked = {host.name: question(environment, host) for host in environment.hosts}
    assert [SCHEDULER in each["units"] for each in asked.values()] == [False, False, True]
    assert all(f"/etc/systemd/system/{SCHEDULER}" in each["files"] for each in asked.values())


# --- what is live -------------------------------------------------------------------------

NOW = {f"{MAIN}@{NEW}.service": "active", "shop-workers.service": "active", UNIT: "active"}
LIVE: Mapping[str, tuple[dict[str, str], dict[str, Any], bool]] = {
    "works": (NOW, {}, True),
    "a second instance": ({**NOW, f"{MAIN}@{NEW}.service": "deactivating",
                           f"{MAIN}@{NEW}:2.service": "active"}, {"draining": (NEW,)}, True),
    "old ones finish": ({**NOW, f"{MAIN}@{OLD}.service": "deactivating"},
                        {"running": (OLD, NEW), "draining": (OLD,)}, True),
    "old ones work": ({**NOW, f"{MAIN}@{OLD}.service": "active"}, {"running": (OLD, NEW)}, False),
    "none": ({UNIT: "active"}, {}, False),
    "it stopped": ({**NOW, f"{MAIN}@{NEW}.service": "failed"}, {}, False),
    "another pool works": ({**NOW, f"shop-worker-mail@{NEW}.service": "active"}, {}, False),
    "old code serves": (NOW, {"running": (OLD, NEW)}, False),
}


@pytest.mark.parametrize("name", LIVE)
def test_what_is_live(tmp_path: Path, name: str) -> None:
    services, changes, answer = LIVE[name]
    facts = live("web1", services=services, **changes)
    assert is_live(one_target(working(tmp_path), facts)) is answer


def test_names_of_instances() -> None:
    assert instance(f"{MAIN}@v1-abc.service") == (MAIN, "v1-abc")
    assert instance(f"{MAIN}@v1.2-abc:3.service") == (MAIN, "v1.2-abc")


# --- the plans ----------------------------------------------------------------------------


def test_a_turn_restarts_the_server_and_starts_workers(tmp_path: Path) -> None:
    fleet = make_fleet(working(tmp_path))
    turn = stage_of(rolling.plan(fleet), "roll").turns[0]
    assert [step.name for step in turn.steps] == [
        "release.switch", "wsgi.restart", "wsgi.health", "workers.start"]
    assert [step.name for step in turn.recover] == [
        "release.switch", "wsgi.restart", "wsgi.health", "workers.start"]
    assert arguments(turn.recover[-1].actions[0])["release"] == OLD


def test_no_scheduler_during_migrations(tmp_path: Path) -> None:
    plan = rolling.plan(replace(scheduling(tmp_path), expand=PORTION))
    assert [stage.name for stage in plan.stages] == [
        "scheduler-stop", "migrate", "roll", "scheduler-start", "finish"]
    assert [[step.name for step in stage.resume] if stage.resume is not None else None
            for stage in plan.stages] == [["scheduler.start"], None, None, [], None]
    (turn,) = stage_of(plan, "scheduler-stop").turns
    assert told(turn.steps) == [f"scheduler.stop: sudo -n /usr/bin/systemctl stop {SCHEDULER}"]
    assert ("scheduler.restart", "web3") in steps(scheduling(tmp_path), "roll")


def test_without_migrations_it_is_restarted_with_its_host(tmp_path: Path) -> None:
    plan = rolling.plan(scheduling(tmp_path))
    assert [stage.name for stage in plan.stages] == ["roll", "finish"]


def test_where_all_stops_tasks_come_first_and_the_way_back_starts_all(tmp_path: Path) -> None:
    fleet = replace(scheduling(tmp_path), expand=PORTION)
    plan = together.plan(fleet)
    assert [stage.name for stage in plan.stages] == [
        "stop-tasks", "stop", "migrate", "switch", "start", "timers", "finish"]
    assert steps(fleet, "stop-tasks", together.plan)[-2:] == [
        ("timers.pause", "web3"), ("scheduler.stop", "web3")]
    assert [name for name, host in steps(fleet, "stop", together.plan) if host == "web3"] == [
        "wsgi.stop"]
    first, *_ = plan.stages
    assert first.resume is not None
    assert [(step.name, step.host) for step in first.resume][-4:] == [
        ("wsgi.start", "web3"), ("wsgi.health", "web3"), ("scheduler.start", "web3"),
        ("timers.resume", "web3")]
    assert [stage.resume for stage in plan.stages[2:4]] == [(), ()]


def test_a_scheduler_outside_of_the_run_stops_and_starts_too(tmp_path: Path) -> None:
    whole = replace(scheduling(tmp_path), expand=PORTION)
    fleet = replace(whole, targets=whole.targets[:2])
    assert steps(fleet, "stop-tasks", together.plan)[-2:] == [
        ("timers.pause", "web3"), ("scheduler.stop", "web3")]
    assert steps(fleet, "scheduler-start", together.plan) == [("scheduler.start", "web3")]
    assert steps(fleet, "timers", together.plan)[-1] == ("timers.resume", "web3")


def noted(tmp_path: Path, **facts: Any) -> Fleet:
    """web3 has workers in two pools and the scheduler; its facts say more."""
    made = replace(scheduling(tmp_path), expand=PORTION)
    targets = [replace(each, facts=replace(each.facts, **facts)) if each.name == "web3" else each
               for each in made.targets]
    return replace(made, targets=tuple(targets), scheduler=targets[-1])


def starts(fleet: Fleet) -> list[str]:
    plan = together.plan(fleet)
    return [step.name for name, step in plan.steps() if name == "start" and step.host == "web3"]


@pytest.mark.parametrize(("facts", "off", "started"), [
    ({"services": {SCHEDULER: "inactive"}}, ["scheduler"], False),
    ({"services": {SCHEDULER: "failed"}}, ["scheduler"], False),
    ({"services": {SCHEDULER: "deactivating"}}, ["scheduler"], False),
    ({"services": {SCHEDULER: "active"}}, [], True),
    ({"services": {SCHEDULER: "inactive"}, "commands": ()}, [], True),
    ({"services": {SCHEDULER: "inactive"}, "paused": {"off": [], "timers": []}}, [], True),
    ({"services": {SCHEDULER: "active"}, "paused": {"off": ["scheduler"], "timers": []}},
     ["scheduler"], False),
])
def test_what_a_person_has_stopped_stays_off(
    tmp_path: Path, facts: dict[str, Any], off: list[str], started: bool
) -> None:
    """What has failed was told to stop, as its unit starts it again otherwise; what is new never
    ran, and what a dead run has noted is what it saw before it stopped anything."""
    fleet = noted(tmp_path, **{"commands": ("scheduler", "wsgi"), **facts})
    assert ("scheduler.start" in starts(fleet)) is started
    (turn,) = [turn for turn in stage_of(together.plan(fleet), "stop-tasks").turns
               if turn.host == "web3"]
    (action,) = turn.steps[0].actions
    told_off = arguments(action)["off"]
    assert isinstance(told_off, list)
    assert [name for name in told_off if name == "scheduler"] == off


def test_what_stays_off_is_said(tmp_path: Path) -> None:
    facts = {"services": {SCHEDULER: "inactive"}, "commands": ("scheduler", "wsgi")}
    assert staying_off(noted(tmp_path, **facts)) == [
        "web3: scheduler was stopped by somebody, and stays so"]
    assert staying_off(noted(tmp_path, services={SCHEDULER: "active"})) == []


def test_a_pool_of_which_no_worker_is_left_stays_off(tmp_path: Path) -> None:
    pools: dict[str, Any] = {"mail": {}, "rest": {}}
    environment = working(tmp_path, workers={**CELERY, "pools": pools})
    facts = replace(ready("web1"), commands=("worker-mail", "worker-rest"),
                    services={f"shop-worker-mail@{OLD}.service": "active"})
    plan = together.plan(make_fleet(environment, facts))
    (step,) = [step for name, step in plan.steps() if step.name == "workers.start"]
    assert arguments(step.actions[0])["pools"] == ["mail"]
    told = [{f"shop-worker-mail@{OLD}.service": state} for state in ("failed", "deactivating")]
    for services in ({}, *told):
        idle = together.plan(make_fleet(environment, replace(facts, services=services)))
        assert "workers.start" not in [step.name for _, step in idle.steps()]
        fails = stage_of(idle, "start").turns[0].recover
        assert "workers.start" not in [step.name for step in fails]


# --- what is refused ----------------------------------------------------------------------

REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "two kinds": ({"workers": {"celery": "config", "pools": {"a": {"command": ["x"]}}}},
                  "workers: pools.a.command: expected nothing here: the workers are Celery's"),
    "no command": ({"workers": {"pools": {"a": {}}}},
                   "workers: pools.a.command: missing; what starts these workers?"),
    "celery's keys": ({"workers": {"pools": {"a": {"command": ["x"], "queues": ["q"]}}}},
                      "workers: pools.a: queues, concurrency and options are Celery's"),
    "a name": ({"workers": {"celery": "config", "pools": {"A-b": {}}}},
               "workers.pools: expected names of lower case letters, digits and underscores"),
    "two schedulers": ({"scheduler": {"celery": "config", "command": ["x"]}},
                       "scheduler: command: expected nothing here"),
    "options of none": ({"scheduler": {"command": ["x"], "options": ["y"]}},
                        "scheduler: options: they are for Celery's beat"),
    "on two hosts": ({"scheduler": {"celery": "config", "groups": ["web"]}},
                     "scheduler: web1 and web2 and web3 would run the scheduler, and there must "
                     "be exactly one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path: Path, name: str) -> None:
    changes, said = REFUSED[name]
    with pytest.raises(InventoryError) as caught:
        open_fleet(tmp_path, **changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "prod" / "hosts.yml"))


def test_units_that_are_missing(tmp_path: Path) -> None:
    fleet = make_fleet(working(tmp_path), fresh("web1", services={
        UNIT: "inactive", "shop-workers.service": "missing"}))
    assert problems(fleet) == [
        "web1: the unit shop-workers.service is not installed; prepare the host once as root: "
        "fab hosts.setup --env=prod --hosts=web1"]
    assert RELEASE.id == NEW
