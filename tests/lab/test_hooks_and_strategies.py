"""The user's own commands around the stages, the other strategy, and servers on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.fleet import CHECKOUT, Fleet
from tests.lab.watch import Watch, watched

pytestmark = pytest.mark.timeout(300)  # one deploy, or ten hosts, on a busy machine

Events = list[dict[str, Any]]

# --- hooks ---------------------------------------------------------------------------------------

ON_HOST = "/tmp/hooks.log"
TELL = (f'echo "LABEL $FABFLEET_ENVIRONMENT $FABFLEET_RELEASE $FABFLEET_HOST $FABFLEET_BATCH '
        f'$FABFLEET_DRY_RUN ${{FABFLEET_RUN:--}}" >>"${{HOOKS_LOG:-{ON_HOST}}}"')
MOMENTS = {
    "rolling": ("stage", "migrate", "roll", "finish"),
    "together": ("stage", "stop", "migrate", "switch", "start", "finish"),
}


def hooks() -> dict[str, Any]:
    """Each moment of every strategy has one on the controller, on each host, and on web2."""
    moments = dict.fromkeys(["turn", *MOMENTS["rolling"], *MOMENTS["together"]])
    return {
        when: {moment: [{"run": TELL.replace("LABEL", f"{when}-{moment}"), "on": on}
                        for on in ("controller", "each", "web2")] for moment in moments}
        for when in ("before", "after")
    }


@dataclass(frozen=True)
class Hooked:
    """A deploy with hooks everywhere; ``told`` are the lines that they wrote, by machine."""

    fleet: Fleet
    strategy: str
    release: str
    plan: str
    run: str
    told: dict[str, list[str]]
    events: Events
    watch: Watch

    @property
    def expected(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {host: [] for host in ("controller", *self.fleet.web)}

        def tell(label: str, hosts: list[str], batch: int = 0) -> None:
            for host in ("controller", *hosts, "web2"):
                run = self.run if host == "controller" else "-"
                where = f"{self.fleet.env} {self.release} {host}"
                found[host].append(f"{label} {where} {batch} 0 {run}")

        for moment in MOMENTS[self.strategy]:
            hosts = ["web1"] if moment == "migrate" else self.fleet.web
            tell(f"before-{moment}", hosts)
            if moment == "roll":
                for number, host in enumerate(hosts, 1):
                    tell("before-turn", [host], number)
                    tell("after-turn", [host], number)
            tell(f"after-{moment}", hosts)
        return found


@pytest.fixture(scope="module")
def hooked(
    three: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Hooked]]:
    """v1 rolling, then v2 together, both with hooks everywhere, watched."""
    three.reset()
    three.write_inventory(hooks=hooks())
    log = tmp_path_factory.mktemp("hooks") / "log"
    yield {strategy: deploy_with_hooks(three, version, strategy, log)
           for version, strategy in (("v1", "rolling"), ("v2", "together"))}
    three.write_inventory()


def deploy_with_hooks(fleet: Fleet, version: str, strategy: str, log: Path) -> Hooked:
    words = (f"--ref={version}", f"--strategy={strategy}")
    plan = fleet.fab("plan", *words, check=0).stdout
    assert not log.exists(), "a plan must run no hook"
    with watched(fleet) as watch:
        fleet.fab("deploy", *words, check=0, environment={"HOOKS_LOG": str(log)})
    told = {host: fleet.on(host, f"cat {ON_HOST} && rm {ON_HOST}").splitlines()
            for host in fleet.web}
    told["controller"] = log.read_text().splitlines()
    log.unlink()
    return Hooked(fleet, strategy, fleet.current("web1"), plan, fleet.journals()[-1].stem, told,
                  fleet.journal(), watch)


@pytest.mark.parametrize("strategy", MOMENTS)
def test_hooks_run_where_and_with_what_was_promised(
    hooked: dict[str, Hooked], strategy: str
) -> None:
    one = hooked[strategy]
    assert one.told == one.expected


@pytest.mark.parametrize("strategy", MOMENTS)
def test_hooks_stand_around_their_stages(hooked: dict[str, Hooked], strategy: str) -> None:
    one = hooked[strategy]
    stages = [event["stage"] for event in one.events if event["event"] == "stage"]
    wanted = [f"{when}{moment}" for moment in MOMENTS[strategy]
              for when in ("before-", "", "after-")]
    if strategy == "together":  # what the clock starts is off meanwhile; no hook stands around it
        wanted.insert(wanted.index("before-stop"), "stop-tasks")
        wanted.insert(wanted.index("before-finish"), "timers")
    assert stages == wanted
    first = {stage: index(one.events, "started", stage=stage)[0] for stage in stages}
    last = {stage: index(one.events, "finished", stage=stage)[-1] for stage in stages}
    for before, after in pairwise(stages):
        assert last[before] < first[after], f"{after} began before {before} was over"


@pytest.mark.parametrize("strategy", MOMENTS)
def test_hooks_are_shown_in_the_plan(hooked: dict[str, Hooked], strategy: str) -> None:
    lines = {line.strip() for line in hooked[strategy].plan.splitlines()}
    ran = [event for event in hooked[strategy].events
           if event["event"] == "started" and event["step"].startswith("hook ")
           and event["host"] in ("controller", "web1")]
    assert len(ran) >= 4 * len(MOMENTS[strategy])
    assert {line for event in ran for line in event["actions"]} <= lines


@pytest.mark.parametrize(("moment", "on"), [("stage", "controller"), ("roll", "web2"),
                                            ("turn", "web1")])
def test_a_failing_hook_stops_before_anything_is_switched(
    hooked: dict[str, Hooked], three: Fleet, moment: str, on: str
) -> None:
    fleet, serving, pids = three, three.serving(), three.main_pids()
    hook = {"run": "echo the cache is cold >&2; exit 7", "on": on}
    fleet.write_inventory(hooks={"before": {moment: [hook]}}, wsgi={"workers": 1})
    done = fleet.fab("deploy", "--ref=v2", check=1)
    assert f"{on}: hook before {moment}: the cache is cold" in done.stderr
    assert fleet.currents() == fleet.serving() == serving
    untouched = [host for host in fleet.web if (moment, host) != ("turn", "web1")]
    assert {host: fleet.main_pid(host) for host in untouched} == {
        host: pids[host] for host in untouched
    }


# --- together ------------------------------------------------------------------------------------


def index(events: Events, event: str, **values: str) -> list[int]:
    """Where in the journal these events stand."""
    return [number for number, each in enumerate(events) if each["event"] == event
            and values.items() <= each.items()]


def at(events: Events, event: str, **values: str) -> list[float]:
    return [events[number]["at"] for number in index(events, event, **values)]


def test_together_stops_all_before_it_migrates(hooked: dict[str, Hooked]) -> None:
    one = hooked["together"]
    stopped = index(one.events, "finished", step="wsgi.stop")
    assert len(stopped) == 3
    (migrates,) = index(one.events, "started", step="migrations.apply")
    assert max(stopped) < migrates
    began = max(at(one.events, "finished", step="wsgi.stop"))
    ended = min(at(one.events, "started", step="wsgi.start"))
    for host, samples in one.watch.samples.items():
        during = [each for each in samples if each.began > began and each.ended < ended]
        assert during, f"{host} was not looked at while all had to be down"
        assert {each.release for each in during} == {""}, f"{host} answered in the window"


def test_together_starts_one_at_a_time(hooked: dict[str, Hooked]) -> None:
    one = hooked["together"]
    for before, after in pairwise(one.fleet.web):
        (healthy,) = index(one.events, "finished", step="wsgi.health", host=before)
        (starts,) = index(one.events, "started", step="wsgi.start", host=after)
        assert healthy < starts
        assert one.watch.first_seen(before, one.release) < one.watch.first_seen(after, one.release)
    assert one.fleet.migrations()[-1] == "0005_note_stock"


def test_together_serves_the_old_release_again_when_migrations_fail(
    hooked: dict[str, Hooked], three: Fleet
) -> None:
    three.write_inventory()
    three.fab("deploy", "--ref=v2", check=0)
    serving = three.serving()
    done = three.fab("deploy", "--ref=v7", "--strategy=together", check=1)
    assert "This migration stops half way." in done.stderr
    assert "web1: put back on the release it had" in done.stderr
    assert three.currents() == three.serving() == serving


def test_together_serves_the_old_release_again_when_the_first_host_does_not_start(
    hooked: dict[str, Hooked], three: Fleet
) -> None:
    three.write_inventory()
    three.fab("deploy", "--ref=v2", check=0)
    serving = three.serving()
    done = three.fab("deploy", "--ref=v4", "--strategy=together", check=1)
    assert "web1: wsgi.health: not healthy after " in done.stderr
    assert three.currents() == three.serving() == serving


def test_the_strategy_is_an_option_and_a_setting(hooked: dict[str, Hooked], three: Fleet) -> None:
    three.write_inventory(deploy={"strategy": "together"}, wsgi={"workers": 1})

    def chosen(*words: str) -> str:
        plans = json.loads(three.fab("plan", "--json", "--ref=v2", *words, check=0).stdout)["plans"]
        return str(plans[1]["strategy"])

    assert chosen() == "together"
    assert chosen("--strategy=rolling") == "rolling"
    done = three.fab("plan", "--ref=v2", "--strategy=all", check=2)
    assert "--strategy=all: expected one of rolling, together" in done.stderr


# --- stop, start, restart ------------------------------------------------------------------------


def test_stop_start_and_restart(hooked: dict[str, Hooked], three: Fleet) -> None:
    fleet = three
    fleet.write_inventory()
    fleet.fab("deploy", "--ref=v2", check=0)
    serving = fleet.serving()
    fleet.fab("stop", check=0)
    assert fleet.serving() == dict.fromkeys(fleet.web, "")
    assert fleet.main_pids() == dict.fromkeys(fleet.web, 0)
    fleet.fab("stop", check=0)
    fleet.fab("start", check=0)
    assert fleet.serving() == serving
    pids = fleet.main_pids()
    fleet.fab("start", check=0)
    assert fleet.main_pids() == pids
    with watched(fleet) as watch:
        fleet.fab("restart", check=0)
    assert fleet.serving() == serving
    assert not set(fleet.main_pids().items()) & set(pids.items())
    assert watch.down_at_once() == []
    assert fleet.fab("restart", "--hosts=web2", check=0)
    assert fleet.currents() == serving


# --- servers on this machine ---------------------------------------------------------------------


class Local:
    """The environment ``local`` with a folder and ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(2)
        here = folder / "inventories" / "local"
        shutil.copytree(CHECKOUT / "inventories" / "local", here)
        hosts = yaml.safe_load((here / "hosts.yml").read_text())
        for host, port in zip(hosts["web"]["hosts"].values(), self.ports, strict=True):
            host["port"] = port
        (here / "hosts.yml").write_text(yaml.safe_dump(hosts))
        settings = yaml.safe_load((here / "group_vars" / "all.yml").read_text())
        settings["state"] = str(folder / "servers")
        settings["release"]["folder"] = str(CHECKOUT / "tests" / "sites" / "shop")
        (here / "group_vars" / "all.yml").write_text(yaml.safe_dump(settings))

    def fab(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fabfile.program", *words, "--env=local"], cwd=CHECKOUT,
            env={**os.environ, "FABFLEET_INVENTORY": str(self.folder / "inventories"),
                 "FABFLEET_STATE": str(self.folder / "state")},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def down(self) -> None:
        """Whatever became of the story, nothing of it runs on."""
        self.fab("stop", check=False)
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def answers(self) -> list[str]:
        """The hosts that say that they are well."""
        found = []
        for port in self.ports:
            url = f"http://127.0.0.1:{port}/healthz"
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    found.append(json.loads(answer.read())["host"])
            except OSError:
                continue
        return found

    def processes(self) -> dict[int, str]:
        """The command line of everything that runs out of the folder."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(word.startswith(str(self.folder / "servers")) for word in words):
                found[int(entry.parent.name)] = " ".join(words)
        return found


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@pytest.mark.parametrize("deep", [False, True])
def test_two_servers_on_this_machine(tmp_path: Path, deep: bool) -> None:
    """The path of a UNIX socket ends at 107 bytes; a deploy root may be deeper."""
    local = Local(tmp_path.joinpath("a deep folder", *["deeper" * 5] * 4) if deep else tmp_path)
    assert (len(str(local.folder)) > 107) is deep
    try:
        said = local.fab("deploy")
        assert re.findall(r"^  (http://\S+)$", said, re.MULTILINE) == [
            f"http://127.0.0.1:{port}/" for port in local.ports
        ]
        assert local.answers() == ["web1", "web2"]
        assert len(local.processes()) >= 4, "a supervisor and a server each"
        local.fab("stop")
        assert local.answers() == []
        assert local.processes() == {}
        local.fab("start")
        assert local.answers() == ["web1", "web2"]
        assert "already served" in local.fab("deploy")
        local.fab("stop")
        assert local.processes() == {}
    finally:
        local.down()
