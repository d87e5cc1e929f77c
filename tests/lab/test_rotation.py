"""Under load through the balancer: a roll loses nothing, and without it, it does."""

from __future__ import annotations

import pytest

from tests.lab.fleet import Fleet, wait_for
from tests.lab.load import Load, crowd, visited

BALANCER = {"driver": "haproxy", "backend": "web", "deadline": 20}


def rotating(fleet: Fleet, **balancer: object) -> None:
    """The inventory with HAProxy as its balancer, and HAProxy's host prepared for that."""
    fleet.write_inventory(balancer={**BALANCER, **balancer})
    fleet.fab("hosts.setup", "--yes", check=0)


def rolled(fleet: Fleet, *words: str) -> Load:
    """v1 to v2 and back, while people visit."""
    with visited(fleet.address["proxy1"], crowd()) as load:
        wait_for("somebody got an answer", lambda: load.asked > 20)
        fleet.fab("deploy", "--ref=v2", *words, check=0, timeout=300)
        fleet.fab("rollback", check=0, timeout=300)
    print(load)
    return load


@pytest.mark.timeout(600)
def test_a_roll_behind_haproxy_loses_nothing(on_v1: Fleet) -> None:
    rotating(on_v1)
    load = rolled(on_v1)
    assert load.lost == []
    assert len(load.answers) == 2
    assert load.asked > 1000


@pytest.mark.timeout(600)
def test_a_single_server_whose_socket_systemd_holds_loses_nothing(on_v1: Fleet) -> None:
    """Nobody stands in front of it: whoever comes during the restart waits for the new code."""
    alone = f"--env={on_v1.alone('web1', wsgi={'socket_activation': True})}"
    on_v1.fab("hosts.setup", alone, check=0)
    try:
        on_v1.fab("deploy", "--ref=v1", alone, check=0)
        quick = [each for each in crowd() if each.path == "/version"]
        with visited(f"{on_v1.address['web1']}:8000", quick) as load:
            wait_for("somebody got an answer", lambda: load.asked > 20)
            on_v1.fab("deploy", "--ref=v2", alone, check=0)
            on_v1.fab("rollback", alone, check=0)
        print(load)
        assert load.lost == []
        assert len(load.answers) == 2
        assert load.asked > 500
    finally:
        on_v1.fab("stop", alone, check=0)
        on_v1.fab("hosts.setup", f"--env={on_v1.alone('web1')}", check=0)


@pytest.mark.timeout(600)
def test_the_same_without_it_loses_some(on_v1: Fleet) -> None:
    """So that the one above is known to measure something."""
    load = rolled(on_v1)
    assert load.lost


def told_haproxy(fleet: Fleet, line: str) -> None:
    """A person at HAProxy's own socket."""
    fleet.on("proxy1", "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); "
                       f's.connect("/run/haproxy/admin.sock"); s.sendall(b"{line}\\n")\'')


def test_a_host_that_gets_no_requests_is_told_of(on_v1: Fleet) -> None:
    rotating(on_v1)
    on_v1.fab("status", check=0)
    on_v1.fab("stop", "--hosts=web2", check=0)
    told = on_v1.fab("status", check=4).stderr
    assert "web2: gets no requests (proxy1: " in told
    assert on_v1.behind_proxy() == {"web1", "web3"}
    on_v1.fab("start", "--hosts=web2", check=0)
    on_v1.fab("status", check=0)
    assert on_v1.behind_proxy() == {*on_v1.web}


def test_a_server_that_a_person_took_out_is_left_alone(on_v1: Fleet) -> None:
    rotating(on_v1)
    pid = on_v1.main_pid("web2")
    told_haproxy(on_v1, "set server web/web2 state maint")
    try:
        done = on_v1.fab("deploy", "--ref=v2", check=1)
        assert "web2: balancer.drain: web/web2 is in maintenance (MAINT)" in done.stderr
        assert "PUT BACK" not in done.stderr
        assert on_v1.main_pid("web2") == pid
        assert "web3  wsgi.restart" not in done.stdout
    finally:
        told_haproxy(on_v1, "set server web/web2 state ready")
    on_v1.fab("deploy", "--ref=v2", check=0)
    assert len(set(on_v1.serving().values())) == 1
