"""Something else breaks in the middle of a roll behind HAProxy: what visitors see of it, where each
host is then, and that the same command finishes when it is mended."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.fleet import Fleet, wait_for
from tests.lab.load import Load, crowd, visited
from tests.lab.test_roll_options import add_sick
from tests.lab.test_rotation import rotating

SHOW = ("python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); "
        's.connect("/run/haproxy/admin.sock"); s.sendall(b"show stat\\n"); '
        "print(s.makefile().read())'")


@pytest.fixture
def behind(on_v1: Fleet) -> Iterator[Fleet]:
    """Three hosts on v1 behind HAProxy, all of them in rotation."""
    rotating(on_v1)
    yield on_v1
    for host in (*on_v1.web, "proxy1"):
        on_v1.lab.heal(host)
    rotating(on_v1)
    wait_for("all are up", lambda: in_rotation(on_v1) == {*on_v1.web})


def in_rotation(fleet: Fleet) -> set[str]:
    """The servers that HAProxy sends requests to, by its own account."""
    text = fleet.on("proxy1", SHOW).lstrip("# ")
    return {row["svname"] for row in csv.DictReader(io.StringIO(text))
            if row["pxname"] == "web" and row["svname"] in fleet.web and row["status"] == "UP"}


@contextmanager
def busy(fleet: Fleet) -> Iterator[Load]:
    with visited(fleet.address["proxy1"], crowd(quick=4, slow=1)) as load:
        wait_for("somebody got an answer", lambda: load.asked > 20)
        yield load
    print(load)


def finishes(fleet: Fleet) -> None:
    """The same command again."""
    fleet.fab("deploy", "--ref=v2", check=0)
    assert len(set(fleet.serving().values())) == 1
    wait_for("all are in rotation", lambda: in_rotation(fleet) == {*fleet.web})
    fleet.fab("status", check=0)


@pytest.mark.timeout(600)
def test_power_fails_while_a_host_is_drained(behind: Fleet) -> None:
    old = behind.current("web1")
    with busy(behind) as load:
        deploy = behind.begin("deploy", "--ref=v2", at="started/wsgi.restart/web2")
        behind.lab.kill("web2")
        _, err = deploy.communicate(timeout=300)
    assert load.lost == []
    assert deploy.returncode == 1, err
    assert "web2: wsgi.restart: " in err
    assert "web2  did not answer: " in err
    assert "next: fab deploy" in err
    assert behind.current("web3") == old
    assert behind.current("web1") != old
    behind.lab.boot("web2")
    told = behind.fab("status", check=4).stderr
    assert "web2: gets no requests" in told
    assert in_rotation(behind) == {"web1", "web3"}
    finishes(behind)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_host_freezes_while_it_is_drained(behind: Fleet) -> None:
    old = behind.current("web1")
    with busy(behind) as load:
        deploy = behind.begin("deploy", "--ref=v2", at="started/wsgi.restart/web2")
        behind.lab.freeze("web2")
        try:
            _, err = deploy.communicate(timeout=400)
        finally:
            behind.lab.thaw("web2")
    assert load.lost == []
    assert deploy.returncode == 1, err
    assert "web2: wsgi.restart: " in err
    assert behind.current("web3") == old
    assert in_rotation(behind) == {"web1", "web3"}
    finishes(behind)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_balancer_does_not_answer(behind: Fleet) -> None:
    """Nobody knows what it does, so no host is touched."""
    pids = behind.main_pids()
    behind.lab.cut("proxy1")
    try:
        failed = behind.fab("deploy", "--ref=v2", check=1)
    finally:
        behind.lab.heal("proxy1")
    assert "web1: balancer.drain: unreachable: " in failed.stderr
    assert behind.main_pids() == pids
    wait_for("it sees them again", lambda: in_rotation(behind) == {*behind.web})
    with busy(behind) as load:
        finishes(behind)
    assert load.lost == []


def test_the_balancer_answers_an_error(behind: Fleet) -> None:
    pids = behind.main_pids()
    rotating(behind, backend="shop")
    failed = behind.fab("deploy", "--ref=v2", check=1)
    assert "web1: balancer.drain: " in failed.stderr
    assert "shop" in failed.stderr
    assert behind.main_pids() == pids
    assert in_rotation(behind) == {*behind.web}
    rotating(behind)
    finishes(behind)


@pytest.mark.timeout(600)
def test_another_host_dies_and_the_floor_holds(behind: Fleet) -> None:
    """The roll waits for it, then stops; what it does itself never costs more than is allowed."""
    rotating(behind, min_up=2, up_deadline=4)
    behind.write_inventory(balancer={"driver": "haproxy", "backend": "web", "min_up": 2,
                                     "up_deadline": 4}, deploy={"pause": 3})
    seen: list[int] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.05):
            seen.append(len(in_rotation(behind)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        deploy = behind.begin("deploy", "--ref=v2", at="finished/balancer.undrain/proxy1")
        behind.on("web3", "systemctl stop shop-wsgi.service")
        _, err = deploy.communicate(timeout=200)
    finally:
        over.set()
        thread.join()
    assert deploy.returncode == 1, err
    assert "web2: balancer.drain: " in err
    assert min(seen) == 2
    assert in_rotation(behind) == {"web1", "web2"}
    behind.on("web3", "systemctl start shop-wsgi.service")
    finishes(behind)


@pytest.mark.timeout(600)
def test_going_back_loses_nothing(behind: Fleet) -> None:
    old = behind.current("web1")
    add_sick(behind, "sick3", "settings.HOST_NAME == 'web3'")
    behind.write_inventory(balancer={"driver": "haproxy", "backend": "web"},
                           wsgi={"health": {"deadline": 3}})
    with busy(behind) as load:
        behind.fab("deploy", "--ref=sick3", "--on-failure=revert", check=1)
    assert load.lost == []
    assert set(behind.currents().values()) == {old}
    assert set(behind.serving().values()) == {old}
    wait_for("all are in rotation", lambda: in_rotation(behind) == {*behind.web})
