"""What only looks changes nothing, and what a dry run prints is what runs."""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from fabfile.plan import Plan, from_json
from tests.lab.fleet import ROOT, Fleet, wait_for

pytestmark = pytest.mark.timeout(300)  # one deploy, or ten hosts, on a busy machine

WATCHED = [ROOT, "/etc/systemd/system", "/etc/sudoers.d", "/home/deploy", "/tmp", "/var/tmp"]
LOOKING = (
    ("deploy", "--dry-run"), ("plan",), ("plan", "--json"), ("status",), ("releases",),
    ("hosts.check",),
)
SCRATCH = "/tmp/fabfleet-dry-run-"

# (stage, step, host, shown actions)
StepRow = tuple[str, str, str, tuple[str, ...]]


def snapshot(fleet: Fleet) -> dict[str, Any]:
    """Every byte and every time of what a deploy could touch, and the database as text."""

    def look(host: str) -> dict[str, str]:
        found = fleet.lab.tree_digest(host, WATCHED)
        # A scratch folder came and went in them: only their own times may tell of it.
        for folder in ("/tmp", "/var/tmp"):
            found[folder] = found[folder].split()[0]
        return found

    with ThreadPoolExecutor() as pool:
        trees = dict(zip(fleet.web, pool.map(look, fleet.web), strict=True))
    return {**trees, "database": fleet.dump(), "pids": fleet.main_pids()}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """In words, so that a failure can be read."""
    found = [f"{key} changed" for key in ("database", "pids") if before[key] != after[key]]
    for host in before.keys() - {"database", "pids"}:
        old, new = before[host], after[host]
        found += [f"{host}: {path}: {old.get(path)} -> {new.get(path)}"
                  for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
    return found


def started(events: list[dict[str, Any]]) -> list[StepRow]:
    return [(event["stage"], event["step"], event["host"], tuple(event["actions"]))
            for event in events if event["event"] == "started"]


def promised(plans: list[Plan]) -> list[StepRow]:
    return [(stage, step.name, step.host, tuple(action.shown for action in step.actions))
            for plan in plans for stage, step in plan.steps()]


def by_stage_and_host(rows: list[StepRow]) -> dict[tuple[str, str], list[StepRow]]:
    """Hosts work at the same time, so order counts only within each."""
    found = defaultdict(list)
    for row in rows:
        found[row[0], row[2]].append(row)
    return dict(found)


@dataclass(frozen=True)
class Seen:
    """One version: looked at in every way, planned, then deployed."""

    version: str
    looked: list[str]
    full: str
    printed: dict[str, Any]
    events: list[dict[str, Any]]
    pending: bool


@pytest.fixture(scope="module")
def seen(three: Fleet) -> dict[str, Seen]:
    three.reset()
    return {version: look_then_deploy(three, version) for version in ("v1", "v2")}


def look_then_deploy(fleet: Fleet, version: str) -> Seen:
    fleet.write_inventory(release={"ref": version})
    before = snapshot(fleet)
    said = {words: fleet.fab(*words, check=0).stdout for words in LOOKING}
    looked = changes(before, snapshot(fleet))
    applied = fleet.migrations()
    fleet.fab("deploy", check=0)
    assert said["plan",] == said["deploy", "--dry-run"]
    return Seen(version, looked, said["plan",], json.loads(said["plan", "--json"]),
                fleet.journal(), applied != fleet.migrations())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_looking_changes_nothing(seen: dict[str, Seen], version: str) -> None:
    assert seen[version].pending, "the sample has no migrations to apply here"
    assert seen[version].looked == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_was_planned_is_what_ran(seen: dict[str, Seen], version: str) -> None:
    one = seen[version]
    assert [each["plan"] for each in one.events if each["event"] == "plan"] == one.printed["plans"]
    plans = [from_json(plan) for plan in one.printed["plans"]]
    stages = [(each["stage"]) for each in one.events if each["event"] == "stage"]
    assert stages == [stage.name for plan in plans for stage in plan.stages]
    assert "migrate" in stages
    assert by_stage_and_host(started(one.events)) == by_stage_and_host(promised(plans))
    rolled = [row for row in started(one.events) if row[0] in ("migrate", "roll")]
    assert rolled == [row for row in promised(plans) if row[0] in ("migrate", "roll")]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_plan_shows_every_command(seen: dict[str, Seen], version: str) -> None:
    """Hosts that do the same are shown together, with the commands of the first of them."""
    lines = {line.strip() for line in seen[version].full.splitlines()}
    ran = [row for row in started(seen[version].events) if row[2] == "web1"]
    assert len(ran) > 5
    for _, _, _, actions in ran:
        assert set(actions) <= lines


# --- what is left when it is ended ---------------------------------------------------------------


def scratches(fleet: Fleet) -> str:
    return fleet.on("web1", f"ls -d {SCRATCH}* 2>/dev/null || true").strip()


def processes(fleet: Fleet) -> str:
    """Those on the migration host that have a scratch folder in their command line."""
    return fleet.on("web1", "pgrep -af '[f]abfleet-dry-run-' || true")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["", "/releases/.staging-*", "/.fabfleet/releases/*/in-use"])
def test_an_interrupted_dry_run_leaves_nothing(
    seen: dict[str, Seen], three: Fleet, number: signal.Signals, moment: str
) -> None:
    """``moment`` is what lies in the scratch folder when the signal comes."""
    three.on("web1", f"rm -rf {SCRATCH}*")
    process = three.start("deploy", "--dry-run", "--ref=v6")
    try:
        wait_for("the scratch folder", lambda: three.on(
            "web1", f"ls -d {SCRATCH}*{moment} 2>/dev/null || true"), 30)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, f"{out}\n{err}"
    assert err.strip() == "interrupted"
    assert scratches(three) == ""
    assert processes(three) == ""


def test_a_killed_dry_run_leaves_the_deploy_root_alone(seen: dict[str, Seen], three: Fleet) -> None:
    before = three.lab.tree_digest("web1", [ROOT])
    process = three.start("deploy", "--dry-run", "--ref=v6")
    try:
        wait_for("the scratch folder", lambda: scratches(three), 30)
    finally:
        process.kill()
        process.communicate()
    wait_for("the end of what the dry run started",
             lambda: not processes(three), 60)
    assert three.lab.tree_digest("web1", [ROOT]) == before
    three.on("web1", f"rm -rf {SCRATCH}*")
