"""The pytest plugin of ``fab verify``: a testinfra ``host`` and our ``target`` for each check."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest

from fabfile.engine.fleet import FleetTransport
from fabfile.engine.probe import look_or_refuse
from fabfile.environment import Environment, open_environment
from fabfile.strategies.targets import bare_target
from roles.role import HostFacts, Release, Target


@cache
def _environment() -> Environment:
    return open_environment(os.environ["FABFLEET_ENV"], os.environ.get("FABFLEET_INVENTORY"))


@cache
def _facts() -> dict[str, HostFacts]:
    environment = _environment()
    transport = FleetTransport(environment.known_hosts, environment.name)
    try:
        chosen = [environment.inventory.hosts[name] for name in _names()]
        return look_or_refuse(transport, environment, chosen)
    finally:
        transport.close()


def _names() -> list[str]:
    return os.environ["FABFLEET_VERIFY_HOSTS"].split(",")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", _names(), indirect=True, scope="session")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The host as roles see it, with the release that is current there."""
    facts = _facts()[request.param]
    release = Release(facts.current or "", "", "", "", 0, 0)
    return bare_target(_environment(), facts, release, None)


@pytest.fixture(scope="session")
def host(target: Target) -> Any:
    """testinfra's host, over OpenSSH with the inventory's own rules."""
    import testinfra

    if target.host.connection.kind == "local":
        return testinfra.get_host("local://")
    config = os.environ["FABFLEET_VERIFY_SSH_CONFIG"]
    return testinfra.get_host(f"ssh://{target.name}?ssh_config={config}&controlpersist=10")
