"""What speaks against a deploy: the exact words and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.environment import Environment
from fabfile.strategies.preflight import clock_notes, problems
from roles.role import HostFacts
from tests.fabfile.fleets import NEW, UNIT, fresh, live, make_fleet, open_fleet, ready

# What RELEASE takes with the room that has to stay, to the byte and to the inode.
BYTES, INODES = 5_000_000 + 64 * 1024 * 1024, 200 + 1000


def said(environment: Environment, facts: HostFacts) -> list[str]:
    rest = [ready(host.name) for host in environment.hosts if host.name != facts.host]
    return problems(make_fleet(environment, facts, *rest))


def test_nothing_speaks_against_it(prod: Environment) -> None:
    assert problems(make_fleet(prod)) == []
    assert problems(make_fleet(prod, fresh("web1"), live("web2"), ready("web3"))) == []


@pytest.mark.parametrize(("changes", "problem"), [
    ({"tools": {"uv": "/usr/bin/uv", "rsync": ""}},
     "rsync is not on this host; install it there: apt install rsync"),
    ({"writable": False},
     "/srv/shop is not writable for deploy; prepare the host once as root: "
     "fab hosts.setup --env=prod --hosts=web2"),
    ({"venv_python": ""}, "the Python of python.interpreter is not on this host"),
    ({"free_bytes": BYTES - 1},
     "the disk of /srv/shop is too full: 72.1 MB are needed (5.0 MB release, 67.1 MB spare), "
     "72.1 MB are free"),
    ({"free_bytes": 1_250_000},
     "the disk of /srv/shop is too full: 72.1 MB are needed (5.0 MB release, 67.1 MB spare), "
     "1.2 MB are free"),
    ({"free_inodes": INODES - 1},
     "the disk of /srv/shop has too few inodes: 1200 are needed, 1199 are free"),
    ({"services": {UNIT: "missing"}},
     "the unit shop-wsgi.service is not installed; prepare the host once as root: "
     "fab hosts.setup --env=prod --hosts=web2"),
    ({"files": {"/etc/systemd/system/shop-wsgi.service": "0" * 64}},
     "/etc/systemd/system/shop-wsgi.service is not what these settings make of it; somebody "
     "changed it, or the settings changed. Write it anew: fab hosts.setup --env=prod --hosts=web2"),
])
def test_a_problem(prod: Environment, changes: dict[str, object], problem: str) -> None:
    assert said(prod, ready("web2", **changes)) == [f"web2: {problem}"]


@pytest.mark.parametrize("changes", [
    {"free_bytes": BYTES},
    {"free_inodes": INODES},
    {"free_inodes": 0},  # btrfs has no number of inodes, and says 0
    {"free_bytes": 0, "releases": (NEW,)},  # it is there already
    {"services": {UNIT: "failed"}},
])
def test_just_enough(prod: Environment, changes: dict[str, object]) -> None:
    assert said(prod, ready("web2", **changes)) == []


def test_a_host_that_serves_it_needs_no_room(prod: Environment) -> None:
    assert said(prod, live("web2", free_bytes=0, free_inodes=1)) == []


def test_everything_is_said_at_once_host_by_host(prod: Environment) -> None:
    facts = [ready("web1", tools={}, writable=False), ready("web2"), ready("web3", venv_python="")]
    assert [line.partition(";")[0] for line in problems(make_fleet(prod, *facts))] == [
        "web1: rsync is not on this host",
        "web1: /srv/shop is not writable for deploy",
        "web3: the Python of python.interpreter is not on this host",
    ]


def test_no_python_is_needed_where_there_is_no_lock(prod: Environment) -> None:
    facts = [ready(host, venv_python="") for host in ("web1", "web2", "web3")]
    assert problems(make_fleet(prod, *facts, wheels=None)) == []


def test_supervisor_needs_no_unit(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, ["web1"], wsgi={"manager": "supervisor"})
    assert said(environment, fresh("web1", services={"wsgi": "missing"})) == []


def test_clocks_that_are_off(prod: Environment) -> None:
    facts = [ready("web1", clock=1060.0), ready("web2", clock=1061.2), ready("web3", clock=900.0)]
    assert clock_notes(make_fleet(prod, *facts), 1000.0) == [
        "web2: its clock is +61 s off", "web3: its clock is -100 s off"
    ]
