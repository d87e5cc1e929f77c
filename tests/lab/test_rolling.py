"""Migrations once, then one host after the other, watched from outside and by the database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import pytest

from tests.lab.fleet import ROOT, Fleet, wait_for
from tests.lab.watch import Watch, watched

pytestmark = pytest.mark.timeout(300)  # one deploy, or ten hosts, on a busy machine

LOG = "/var/log/postgresql/postgresql-15-main.log"
DDL = re.compile(r"pid=(\d+) user=shop .* host=(\S+) .*\b(?:CREATE|ALTER|DROP) (?:TABLE|INDEX)")
V2_MIGRATIONS = ["0001_initial", "0002_auditentry", "0003_first_products", "0004_product_stock",
                 "0005_note_stock"]


def log_size(fleet: Fleet) -> int:
    return int(fleet.on("db1", f"stat -c %s {LOG}"))


def log_since(fleet: Fleet, size: int) -> str:
    return fleet.on("db1", f"tail -c +{size + 1} {LOG}")


def schema_changes(log: str) -> set[tuple[str, str]]:
    """(process of the database, address of its client) of everything that changed the schema."""
    return {(found[1], found[2]) for found in map(DDL.search, log.splitlines()) if found}


@dataclass(frozen=True)
class Roll:
    """v1, then v2 while every host is watched."""

    fleet: Fleet
    v1: str
    v2: str
    logs: dict[str, str]
    watch: Watch
    output: str


@pytest.fixture(scope="module")
def roll(three: Fleet) -> Roll:
    three.reset()
    logs = {}
    size = log_size(three)
    three.fab("deploy", "--ref=v1", check=0)
    logs["v1"], v1 = log_since(three, size), three.current("web1")
    size = log_size(three)
    with watched(three) as watch:
        done = three.fab("deploy", "--ref=v2", check=0)
    logs["v2"] = log_since(three, size)
    return Roll(three, v1, three.current("web1"), logs, watch, done.stdout)


@pytest.fixture
def on_v2(roll: Roll) -> Roll:
    """The same fleet, on v2 again in case a story before this one failed."""
    if roll.fleet.serving() != dict.fromkeys(roll.fleet.web, roll.v2):
        roll.fleet.write_inventory()
        roll.fleet.reset()
        roll.fleet.fab("deploy", "--ref=v1", check=0)
        roll.fleet.fab("deploy", "--ref=v2", check=0)
    return roll


# --- the good case -------------------------------------------------------------------------------


def test_migrations_run_in_one_process_on_the_migration_host(roll: Roll) -> None:
    for version, log in roll.logs.items():
        changes = schema_changes(log)
        assert [client for _, client in changes] == [roll.fleet.address["web1"]], version
    assert roll.fleet.migrations() == V2_MIGRATIONS


def test_migrations_append_their_rows_once(roll: Roll) -> None:
    assert roll.fleet.sql("select count(*) from catalog_product") == [["5"]]
    assert roll.fleet.sql("select what from catalog_auditentry") == [
        ["The catalogue knows its stock"]
    ]


def test_never_two_hosts_are_down(roll: Roll) -> None:
    for host, samples in roll.watch.samples.items():
        assert len(samples) > 20, f"{host} was hardly looked at"
        assert {each.release for each in samples} <= {"", roll.v1, roll.v2}
    assert roll.watch.down_at_once() == []


def test_the_canary_goes_first_and_the_others_follow(roll: Roll) -> None:
    seen = {host: roll.watch.first_seen(host, roll.v2) for host in roll.fleet.web}
    assert sorted(seen, key=lambda host: seen[host]) == roll.fleet.web
    for before, after in pairwise(roll.fleet.web):
        old = [each.ended for each in roll.watch.samples[after] if each.release == roll.v1]
        assert max(old) >= seen[before], f"{after} was restarted before {before} served v2"


def test_ten_hosts_migrate_in_one_process(ten: Fleet) -> None:
    size = log_size(ten)
    ten.fab("deploy", "--ref=v2", check=0)
    assert [client for _, client in schema_changes(log_since(ten, size))] == [ten.address["web1"]]
    assert ten.migrations() == V2_MIGRATIONS
    assert ten.sql("select count(*) from catalog_product") == [["5"]]
    assert ten.sql("select count(*) from catalog_auditentry") == [["1"]]
    assert len(set(ten.serving().values())) == 1
    assert ten.serving() == ten.currents()


# --- what fails ----------------------------------------------------------------------------------


def content(fleet: Fleet) -> dict[str, dict[str, list[str]]]:
    """Everything below the deploy roots but what a run writes about itself; without the times of
    folders, in which something came and went again."""
    own = tuple(f"{ROOT}/.fabfleet/{name}" for name in ("runs", "lock", "busy", "launch.py"))
    return {
        host: {path: entry.split()[: 2 if entry[0] == "d" else None]
               for path, entry in fleet.lab.tree_digest(host, [ROOT]).items()
               if not path.startswith(own)}
        for host in fleet.web
    }


def test_v3_is_refused_before_anything_changes(on_v2: Roll) -> None:
    """It cannot be imported, which its check on every host finds."""
    fleet = on_v2.fleet
    before, pids, dump = content(fleet), fleet.main_pids(), fleet.dump()
    done = fleet.fab("deploy", "--ref=v3", check=3)
    assert "a_module_that_is_not_there" in done.stderr
    assert "nothing was changed" in done.stderr
    assert content(fleet) == before
    assert fleet.main_pids() == pids
    assert fleet.dump() == dump


def test_v4_stops_at_the_canary(on_v2: Roll) -> None:
    """It starts and answers with an error."""
    fleet = on_v2.fleet
    pids = fleet.main_pids()
    with watched(fleet) as watch:
        done = fleet.fab("deploy", "--ref=v4", check=1)
    assert fleet.currents() == dict.fromkeys(fleet.web, on_v2.v2)
    assert fleet.serving() == dict.fromkeys(fleet.web, on_v2.v2)
    after = fleet.main_pids()
    assert after["web1"] != pids.pop("web1"), "the canary was never restarted"
    assert {host: after[host] for host in pids} == pids
    assert [host for host in fleet.web if watch.outages(host)] in ([], ["web1"])

    said = done.stderr
    answer = r"^web1: wsgi\.health: not healthy after .*status 503 .*ProgrammingError"
    assert re.search(answer, said, re.MULTILINE)
    log = said.partition("web1: the last lines of its log:\n")[2].partition("web1: put back")[0]
    assert "/healthz" in log, f"the log of the service should tell of the failed answers: {log}"
    assert "web1: put back on the release it had" in said
    for host in fleet.web:
        assert re.search(rf"^  {host}  {on_v2.v2} \(old\); shop-wsgi\.service active$", said,
                         re.MULTILINE)
    assert f"next: fab deploy --env={fleet.env} --ref=v4" in said


def test_v7_fails_in_its_migration_and_nothing_is_switched(on_v2: Roll) -> None:
    fleet = on_v2.fleet
    pids, dump = fleet.main_pids(), without_sequences(fleet.dump())
    done = fleet.fab("deploy", "--ref=v7", check=1)
    assert "This migration stops half way." in done.stderr
    assert "web1: migrations.apply: " in done.stderr
    assert without_sequences(fleet.dump()) == dump
    assert fleet.currents() == dict.fromkeys(fleet.web, on_v2.v2)
    assert fleet.serving() == dict.fromkeys(fleet.web, on_v2.v2)
    assert fleet.main_pids() == pids


def without_sequences(dump: str) -> list[str]:
    """No transaction takes back that a sequence was asked."""
    return [line for line in dump.splitlines() if "pg_catalog.setval(" not in line]


def test_a_host_that_dies_in_the_roll(on_v2: Roll) -> None:
    """Another setting makes another release of v2, so this is a roll like any other."""
    fleet = on_v2.fleet
    fleet.write_inventory(wsgi={"workers": 1})
    runs = len(fleet.journals())
    process = fleet.start("deploy", "--ref=v2")
    try:
        wait_for("the run", lambda: len(fleet.journals()) > runs, 60)
        wait_for("the canary", lambda: finished(fleet, "roll", "wsgi.health", "web1"), 60)
        fleet.lab.kill("web3")
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    try:
        new = fleet.current("web1")
        assert new != on_v2.v2
        assert process.returncode == 1, f"{out}\n{err}"
        assert re.search(rf"^  web1  {new} \(new\); shop-wsgi\.service active$", err, re.MULTILINE)
        assert re.search(r"^  web2  \S+ \(new\); shop-wsgi\.service active$", err, re.MULTILINE)
        assert re.search(r"^  web3  did not answer: ", err, re.MULTILINE)
        assert f"next: fab deploy --env={fleet.env} --ref=v2" in err
        assert {host: fleet.answer(host).get("release") for host in ("web1", "web2")} == {
            "web1": new, "web2": new
        }
    finally:
        fleet.lab.boot("web3")
    fleet.fab("deploy", "--ref=v2", check=0)
    assert fleet.currents() == fleet.serving() == dict.fromkeys(fleet.web, new)


def finished(fleet: Fleet, stage: str, step: str, host: str) -> bool:
    """Whether the newest run, which is still going on, has told of that step's end."""
    return any(
        event["event"] == "finished"
        and (event["stage"], event["step"], event["host"]) == (stage, step, host)
        for event in fleet.journal()
    )
