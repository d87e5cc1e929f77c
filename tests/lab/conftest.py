"""Fleets of the lab for the stories told here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.desk import Desk
from tests.lab.fleet import Fleet

NUMBER = int(os.environ.get("FABFLEET_TEST_LAB", "0"))


def _fleet(folder: Path, web: int, number: int, **more: bool) -> Iterator[Fleet]:
    made = Fleet(folder, web, number, **more)
    needs = made.lab.needs()
    if needs and os.environ.get("CI"):
        pytest.fail("the lab cannot run: " + "; ".join(needs))
    if needs:
        pytest.skip("the lab cannot run here: " + "; ".join(needs))
    try:
        made.up()
        yield made
    finally:
        made.lab.down(lambda line: None)


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three web hosts; one boot for all stories."""
    yield from _fleet(tmp_path_factory.mktemp("three"), 3, NUMBER)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Ten web hosts, for the stories that are about many."""
    yield from _fleet(tmp_path_factory.mktemp("ten"), 10, NUMBER + 50)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three web hosts behind a host that has HAProxy and nginx."""
    yield from _fleet(tmp_path_factory.mktemp("edge"), 3, NUMBER + 25, edge=True)


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three web hosts with Apache and mod_wsgi."""
    yield from _fleet(tmp_path_factory.mktemp("apache"), 3, NUMBER + 35, apache=True)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Two web hosts that serve v1, and a host from which somebody works."""
    for fleet in _fleet(tmp_path_factory.mktemp("desk"), 2, NUMBER + 45, desk=True):
        yield Desk(fleet)


@pytest.fixture
def fleet(three: Fleet) -> Fleet:
    """Three web hosts on which nothing was deployed yet."""
    three.reset()
    return three


@pytest.fixture(scope="session")
def kept(three: Fleet) -> Fleet:
    three.reset()
    three.fab("deploy", "--ref=v1", check=0)
    three.remember()
    return three


@pytest.fixture
def on_v1(kept: Fleet) -> Iterator[Fleet]:
    """Three web hosts that serve v1."""
    kept.recall()
    yield kept
    kept.end_started()
