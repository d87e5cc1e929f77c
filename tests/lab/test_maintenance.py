"""A maintenance behind HAProxy or Apache: the page, everything stopped, migrations, everything
started."""

from __future__ import annotations

import http.client
import json
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.lab import kill_at
from tests.lab.fleet import ROOT, Fleet, wait_for
from tests.lab.load import PAGE, Load, crowd, visited
from tests.lab.test_crash import KILL_AT, V2_MIGRATIONS, check_done

HAPROXY: dict[str, Any] = {"driver": "haproxy", "backend": "web", "deadline": 20}
DIFFERENCE, OVERHEAD = 0.3, 1.5
APACHE = """cat > /etc/apache2/sites-available/000-default.conf <<'E'
<VirtualHost *:80>
MAINTENANCE
ProxyPass / http://127.0.0.1:8000/ retry=0
</VirtualHost>
E
a2enmod --quiet rewrite headers asis proxy_http && systemctl restart apache2"""
BREAKS = "--accept-risk=catalog.0006_prices_in_cents"


def closable(fleet: Fleet, **more: Any) -> None:
    fleet.write_inventory(balancer=HAPROXY, maintenance={"driver": "haproxy", **more})
    fleet.fab("hosts.setup", check=0)


def status(fleet: Fleet, check: int = 0) -> Any:
    return json.loads(fleet.fab("maintenance.status", "--json", check=check).stdout)["closed"]


def sees_page(fleet: Fleet) -> bool:
    return fleet.status_of("proxy1", "/version") == 503


def until_asked(load: Load, more: int = 50) -> None:
    so_far = load.asked
    wait_for("somebody got an answer", lambda: load.asked > so_far + more)


def stages_took(fleet: Fleet, *names: str) -> float:
    """Seconds of these stages of the newest run."""
    events = fleet.journal()
    starts = [(each["at"], each["stage"]) for each in events if each["event"] == "stage"]
    ends = [at for at, _ in starts[1:]] + [events[-1]["at"]]
    return float(sum(end - at for (at, name), end in zip(starts, ends, strict=True)
                     if name in names))


def deploy_closed(fleet: Fleet) -> tuple[Load, float, float, float]:
    """v2 in a maintenance, under load. Seconds: how long it says that it was closed; how long it
    was, as somebody sees it who asks anew every 20 ms and never waits behind the others; and how
    long the work behind the page took."""
    def look() -> int:
        return fleet.status_of("proxy1", "/version", timeout=0.1)

    with visited(fleet.address["proxy1"], crowd()) as load, fleet.sampled(look, 0.02) as samples:
        until_asked(load)
        printed = fleet.fab("deploy", "--ref=v2", "--maintenance", check=0, timeout=300).stdout
        until_asked(load)
    pages = [at for at, status in samples if status == 503]
    seen = pages[-1] - pages[0]
    found = re.search(r"closed for (\d+\.\d) s", printed)
    assert found, printed
    work = stages_took(fleet, "stop", "migrate", "switch", "start")
    print(f"{load}; printed {found[1]} s, seen {seen:.2f} s, "
          f"stop + migrate + switch + start {work:.2f} s")
    assert load.lost == []
    return load, float(found[1]), seen, work


@pytest.mark.timeout(600)
def test_a_whole_maintenance_under_load(on_v1: Fleet) -> None:
    closable(on_v1)
    old, new = on_v1.current("web1"), on_v1.release_id("--ref=v2")
    load, _, _, _ = deploy_closed(on_v1)
    assert set(load.answers) == {old, PAGE, new}
    assert status(on_v1) is None
    names = [each["stage"] for each in on_v1.journal() if each["event"] == "stage"]
    assert names == ["stage", "stop-tasks", "close", "stop", "migrate", "switch", "start", "timers",
                     "open", "finish"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_hosts(ten: Fleet) -> None:
    ten.reset()
    closable(ten)
    ten.fab("deploy", "--ref=v1", check=0, timeout=300)
    _, printed, seen, work = deploy_closed(ten)
    assert abs(printed - seen) < DIFFERENCE
    assert seen < work + OVERHEAD


@pytest.mark.timeout(600)
def test_where_nothing_was_migrated_the_old_code_comes_back(on_v1: Fleet) -> None:
    """v7's own migration fails, and it is one transaction."""
    on_v1.fab("deploy", "--ref=v2", check=0)
    closable(on_v1)
    old = on_v1.current("web1")
    with visited(on_v1.address["proxy1"], crowd(quick=4, slow=0)) as load:
        until_asked(load)
        failed = on_v1.fab("deploy", "--ref=v7", "--maintenance", BREAKS, check=1)
        until_asked(load)
    assert load.lost == []
    assert set(load.answers) == {old, PAGE}
    assert "web1: put back on the release it had" in failed.stderr
    assert status(on_v1) is None
    assert set(on_v1.serving().values()) == {old}


@pytest.mark.timeout(600)
def test_where_something_was_migrated_it_stays_closed_and_says_the_ways_out(on_v1: Fleet) -> None:
    closable(on_v1)
    old = on_v1.current("web1")
    failed = on_v1.fab("deploy", "--ref=v7", "--maintenance", BREAKS, check=1)
    assert ("the database is not as it was (applied in default: catalog.0004_product_stock, "
            "catalog.0005_note_stock)") in failed.stdout
    for line in ("is closed since", "to look past the page: http://", "  ways out:",
                 f"fab maintenance.off --env={on_v1.env}"):
        assert line in failed.stderr
    assert sees_page(on_v1)
    assert set(on_v1.serving().values()) == {""}
    shown = status(on_v1, check=4)
    assert shown["by_run"]
    assert shown["everywhere"]
    on_v1.fab("deploy", "--ref=v2", "--maintenance", check=0)
    assert status(on_v1) is None
    assert not sees_page(on_v1)
    assert old not in on_v1.serving().values()


MIGRATION = '''
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("catalog", "{before}")]
    operations = [migrations.RunSQL("{forward}", "select 1")]
'''


@pytest.mark.timeout(600)
def test_the_way_back_leads_to_what_served_before_the_window(on_v1: Fleet) -> None:
    """Which is current still, as nothing was switched; and no release further."""
    on_v1.fab("deploy", "--ref=v2", check=0)
    closable(on_v1)
    good, before = on_v1.current("web1"), on_v1.migrations()
    on_v1.commit("half", {
        "catalog/migrations/0006_well.py": MIGRATION.format(
            before="0005_note_stock", forward="select 1"),
        "catalog/migrations/0007_badly.py": MIGRATION.format(
            before="0006_well", forward="select no_such_function()")}, parent="v2")
    risks = [f"--accept-risk=catalog.{name}" for name in ("0006_well", "0007_badly")]
    alone = on_v1.fab("deploy", "--ref=half", "--maintenance", "--hosts=web1", *risks, check=3)
    assert "--hosts: web2, web3 would serve on meanwhile" in alone.stderr
    failed = on_v1.fab("deploy", "--ref=half", "--maintenance", *risks, check=1).stderr
    assert f"fab deploy --ref=half --maintenance {' '.join(risks)} --env={on_v1.env}" in failed
    assert len(on_v1.migrations()) == len(before) + 1
    assert sees_page(on_v1)
    # Once more: what is left is untouched, but the old code does not know what is not.
    on_v1.fab("deploy", "--ref=half", "--maintenance", *risks, check=1)
    assert sees_page(on_v1)
    back = on_v1.fab("rollback", "--reverse", "--maintenance", check=0).stdout
    assert f"every host is back on {good}" in back
    assert on_v1.migrations() == before
    assert set(on_v1.serving().values()) == {good}
    assert status(on_v1) is None


@pytest.mark.timeout(600)
def test_a_way_back_that_fails_leads_on_to_the_same_release(on_v1: Fleet) -> None:
    """And not to the newer one, on a database that lacks what that needs."""
    on_v1.fab("deploy", "--ref=v2", check=0)
    closable(on_v1)
    good = on_v1.current("web1")
    stuck = MIGRATION.format(before="0005_note_stock", forward="select 1").replace(
        '"select 1")', '"select no_such_function()")')
    on_v1.commit("stuck", {"catalog/migrations/0006_stuck.py": stuck}, parent="v2")
    on_v1.fab("deploy", "--ref=stuck", "--maintenance", "--accept-risk=catalog.0006_stuck", check=0)
    for _ in range(2):
        failed = on_v1.fab("rollback", "--reverse", "--maintenance", check=1).stderr
        assert "no_such_function" in failed
        (go_on,) = {line for line in failed.splitlines() if "the same rollback once more" in line}
        assert go_on.endswith(f"--to={good}")
        assert sees_page(on_v1)
    on_v1.fab("start", check=0)
    on_v1.fab("maintenance.off", check=0)
    assert status(on_v1) is None


@pytest.mark.timeout(600)
def test_what_would_not_be_over_in_time_does_not_begin_and_the_old_code_comes_back(
    on_v1: Fleet
) -> None:
    """Migrating took 40 minutes the last time, as the journal says; of the hour that is left, half
    belongs to going back."""
    began = datetime.now(UTC) - timedelta(minutes=10)
    window = {"name": "now", "at": f"{began:%H:%M}", "day": f"{began:%Y-%m-%d}", "length": "70m",
              "reserve": "30m"}
    closable(on_v1, windows=[window])
    old = on_v1.current("web1")
    last = [("stop-tasks", 0), ("migrate", 1), ("start", 2400), ("", 7200)]
    lines = [json.dumps({"at": at, "event": "stage", "stage": name} if name else
                        {"at": at, "event": "plan-ended"}) for name, at in last]
    # The newest, as only so many are remembered, and other stories had windows, too.
    known = on_v1.journals()[0].parent / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-000000.jsonl"
    known.write_text("\n".join(lines) + "\n")
    refused = on_v1.fab("deploy", "--ref=v2", "--maintenance", check=3).stderr
    assert " are left, and earlier ones took up to 2 h" in refused
    known.write_text(known.read_text().replace("7200", "2500"))
    with visited(on_v1.address["proxy1"], crowd(quick=4, slow=0)) as load:
        until_asked(load)
        late = on_v1.fab("deploy", "--ref=v2", "--maintenance", check=1)
        until_asked(load)
    known.unlink()
    assert "and migrate took up to 40 min in earlier runs; it is" in late.stderr
    assert set(load.answers) == {old, PAGE}
    assert load.lost == []
    assert status(on_v1) is None
    assert set(on_v1.serving().values()) == {old}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", [
    "finished/maintenance.close/proxy1", "finished/wsgi.stop/web2",
    "finished/migrations.apply/web1", "started/wsgi.start/web2", "started/maintenance.open/proxy1",
])
def test_killed_in_the_window_it_stays_closed_and_the_same_command_opens(
    on_v1: Fleet, where: str
) -> None:
    closable(on_v1)
    new = on_v1.release_id("--ref=v2")
    process = on_v1.begin("deploy", "--ref=v2", "--maintenance", at=where)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    on_v1.until_quiet()
    if not where.startswith("started/maintenance.open"):  # which may have reached the host
        assert sees_page(on_v1)
        told = on_v1.fab("maintenance.status", check=4).stdout
        assert "by run " in told
        assert "the site is closed by a run that did not open it again" in on_v1.fab(
            "status", check=4).stderr
        assert f"fab deploy --ref=v2 --maintenance --env={on_v1.env}" in told
    on_v1.fab("deploy", "--ref=v2", "--maintenance", check=0)
    assert status(on_v1) is None
    assert set(on_v1.serving().values()) == {new}
    assert not sees_page(on_v1)


@pytest.fixture
def stand_in(on_v1: Fleet) -> Iterator[Fleet]:
    """Where nothing stands in front, the page is where the server was."""
    on_v1.write_inventory(maintenance={"driver": "stand-in"})
    yield on_v1
    for host in on_v1.web:
        on_v1.on(host, f"kill $(cat {ROOT}/.fabfleet/stand-in.pid)", check=False)


@pytest.mark.timeout(300)
def test_a_stand_in_by_hand_and_after_a_run_that_died(stand_in: Fleet) -> None:
    on_v1 = stand_in

    def pages() -> set[int]:
        return {on_v1.status_of(host, "/version") for host in on_v1.web}

    old = on_v1.current("web1")
    told = on_v1.fab("maintenance.on", "--reason=new shelves", check=0).stdout
    assert "by hand of " in told
    assert pages() == {503}
    shown = status(on_v1)
    assert (shown["reason"], shown["by_run"], shown["everywhere"]) == ("new shelves", False, True)
    for command in (("deploy", "--ref=v2"), ("start",), ("restart",)):
        refused = on_v1.fab(*command, check=3).stderr
        assert f"open it first: fab maintenance.off --env={on_v1.env}" in refused
    on_v1.fab("maintenance.off", check=0)
    assert set(on_v1.serving().values()) == {old}
    assert status(on_v1) is None
    for command in (("start",), ("deploy", "--ref=v1")):
        process = on_v1.begin("deploy", "--ref=v2", "--maintenance",
                              at="finished/maintenance.stand-in/web2")
        process.kill()
        process.communicate(timeout=30)
        wait_for("web2 shows the page", lambda: 503 in pages())  # others may not have got so far
        assert status(on_v1, check=4)["by_run"]
        on_v1.fab(*command, check=0)
        assert set(on_v1.serving().values()) == {old}
        assert status(on_v1) is None


def check_killed(fleet: Fleet, where: str, new: str) -> str:
    """Kill the deploy there. What is told then is what visitors see, and one of three states: as
    it was, done, or held closed, with its ways out. The same command then finishes. Returns the
    state."""
    fleet.recall()
    closable(fleet)
    old = fleet.current("web1")
    dead = fleet.fab(where, "deploy", "--ref=v2", "--maintenance", driver=KILL_AT, timeout=200)
    assert dead.returncode == -signal.SIGKILL, dead.stdout + dead.stderr
    fleet.until_quiet()
    told = fleet.fab("maintenance.status", "--json")
    closed = json.loads(told.stdout)["closed"]
    assert sees_page(fleet) == (closed is not None)
    assert told.returncode == (4 if closed else 0)
    if closed:
        state = "held closed"
        assert closed["by_run"]
        assert closed["everywhere"]
        assert "ways out:" in fleet.fab("maintenance.status", check=4).stdout
    else:
        serving = {*fleet.serving().values()}
        state = "done" if serving == {new} else "as it was"
        assert serving in ({new}, {old})
    fleet.fab("deploy", "--ref=v2", "--maintenance", check=0, timeout=200)
    assert status(fleet) is None
    assert not sees_page(fleet)
    check_done(fleet, new, V2_MIGRATIONS)
    paused = fleet.everywhere(lambda host: fleet.on(host, f"ls {ROOT}/.fabfleet | grep paused ||:"))
    assert set(paused.values()) == {""}
    fleet.fab("status", check=0)
    return state


@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_killed_at_every_boundary_of_the_window(on_v1: Fleet) -> None:
    closable(on_v1)
    on_v1.fab("deploy", "--ref=v2", "--maintenance", check=0, timeout=200)
    new, events = on_v1.current("web1"), on_v1.journal()
    (first,) = [number for number, event in enumerate(events, 1)
                if event["event"] == "plan" and event["plan"]["name"] == "release"]
    states: dict[str, int] = {}
    failed = {}
    for number in range(first, len(events) + 1):
        what = f"{number}/{len(events)} {kill_at.name(events[number - 1])}"
        try:
            state = check_killed(on_v1, str(number), new)
            states[state] = states.get(state, 0) + 1
            print(f"{what}: {state}", flush=True)
        except AssertionError as error:
            failed[what] = str(error)
            print(f"{what}: FAILED {error}", flush=True)
    print(states)
    assert not failed
    assert set(states) == {"as it was", "done", "held closed"}


def test_one_dead_host_in_front_keeps_no_other_closed(on_v1: Fleet) -> None:
    """And nobody says that all is well."""
    closable(on_v1)
    on_v1.fab("maintenance.on", "--reason=disks", check=0)
    path = on_v1.write_inventory(balancer=HAPROXY, maintenance={"driver": "haproxy"}) / "hosts.yml"
    hosts = yaml.safe_load(path.read_text())
    hosts["proxy"]["hosts"]["proxy2"] = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    path.write_text(yaml.safe_dump(hosts))
    told = on_v1.fab("maintenance.status", check=4).stdout
    assert "NOT ALL hosts in front show the page" in told
    assert "proxy2: cannot be asked whether the site is closed" in told
    off = on_v1.fab("maintenance.off", check=1)
    assert "proxy2" in off.stdout + off.stderr
    assert f"next: fab maintenance.off --env={on_v1.env}" in off.stderr
    assert not sees_page(on_v1)
    assert "is open, as far as" in on_v1.fab("maintenance.status", check=69).stdout
    refused = on_v1.fab("deploy", "--ref=v2", "--maintenance", check=69).stderr
    assert "take it out of maintenance.hosts" in refused
    assert set(on_v1.currents().values()) == {on_v1.current("web1")}
    assert not sees_page(on_v1)


def test_by_hand(on_v1: Fleet) -> None:
    closable(on_v1)
    told = on_v1.fab("maintenance.on", "--reason=new <shelves>", "--until=2h", check=0).stdout
    assert sees_page(on_v1)
    assert on_v1.status_of("proxy1", "/healthz") == 200
    shown = status(on_v1)
    assert (shown["reason"], shown["by_run"], shown["everywhere"]) == ("new <shelves>", False, True)
    (link,) = re.findall(r"past the page: (\S+)", told)
    assert link.endswith(shown["secret"])
    # A deploy goes on behind the page, and leaves what a person closed to that person.
    on_v1.fab("deploy", "--ref=v2", "--maintenance", check=0)
    assert sees_page(on_v1)
    on_v1.fab("maintenance.off", check=0)
    assert not sees_page(on_v1)
    assert "was open already" in on_v1.fab("maintenance.off", check=0).stdout
    journals = [path.read_text() for path in on_v1.journals()]
    assert not any(shown["secret"] in text for text in journals)


def test_outside_of_all_windows_nothing_is_touched(on_v1: Fleet) -> None:
    past = {"name": "past", "at": "02:00", "length": "1h", "day": "2001-01-01"}
    closable(on_v1, windows=[past])
    known = len(on_v1.journals())
    refused = on_v1.fab("deploy", "--ref=v2", "--maintenance", check=3)
    assert "it is outside of every maintenance window" in refused.stderr
    assert "--outside-window" in refused.stderr
    assert len(on_v1.journals()) == known
    on_v1.fab("deploy", "--ref=v2", "--maintenance", "--outside-window", check=0)


def test_the_page_survives_a_restart_of_haproxy(on_v1: Fleet) -> None:
    closable(on_v1)
    on_v1.fab("maintenance.on", check=0)
    on_v1.on("proxy1", "systemctl restart haproxy")
    wait_for("HAProxy answers", lambda: on_v1.status_of("proxy1", "/version"))
    assert sees_page(on_v1)
    on_v1.fab("maintenance.off", check=0)
    assert not sees_page(on_v1)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_apache_on_each_host(apache: Fleet) -> None:
    """Somebody asks for the health page all the while, as monitors do: Apache meets a server that
    is not there, and has to forget that when it is."""
    apache.reset()
    apache.write_inventory(maintenance={
        "driver": "apache", "hosts": ["web"], "ask": "http://{address}:80"})
    apache.fab("hosts.setup", check=0)
    script = APACHE.replace("MAINTENANCE", apache.fab("maintenance.config", check=0).stdout)
    apache.everywhere(lambda host: apache.on(host, script))
    apache.fab("deploy", "--ref=v1", check=0, timeout=300)
    old, address = apache.current("web1"), apache.address["web1"]

    def health() -> bool:
        with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
            connection.request("GET", "/healthz")
            found = connection.getresponse()
            assert "X-Maintenance" not in found.headers
            return found.status == 200

    with visited(address, crowd(quick=4, slow=2)) as load, apache.sampled(health) as samples:
        until_asked(load)
        apache.fab("deploy", "--ref=v2", "--maintenance", check=0, timeout=300)
        until_asked(load)
    print(load)
    assert load.lost == []
    assert set(load.answers) == {old, PAGE, apache.current("web1")}
    well = [answer for _, answer in samples]
    assert (well[0], False in well, well[-1]) == (True, True, True)
