"""What a deploy leaves on the hosts, looked at by means of our own."""

from __future__ import annotations

from tests.lab.fleet import Fleet


def test_try(fleet: Fleet) -> None:
    fleet.fab("deploy", "--ref=v1", check=0)
    assert len({fleet.current(host) for host in fleet.web}) == 1
    assert fleet.migrations() == ["0001_initial", "0002_auditentry", "0003_first_products"]
