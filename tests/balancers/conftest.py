"""A balancer in front of three servers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.balancers import servers


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path: a socket's may have 107 bytes."""
    where = Path(tempfile.mkdtemp(prefix="ff-", dir="/tmp"))
    yield where
    shutil.rmtree(where)


@pytest.fixture
def web() -> Iterator[dict[str, servers.Backend]]:
    with servers.backends("web1", "web2", "web3") as made:
        yield made


def entered(stack: ExitStack, opened: object) -> servers.Balancer:
    """The balancer; where it is not installed, a skip that says so (in CI a failure)."""
    try:
        balancer: servers.Balancer = stack.enter_context(opened)  # type: ignore[arg-type]
    except servers.Missing as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    return balancer


@pytest.fixture
def haproxy(short: Path, web: dict[str, servers.Backend]) -> Iterator[servers.Balancer]:
    with ExitStack() as stack:
        yield entered(stack, servers.haproxy(short, web))


@pytest.fixture
def nginx(short: Path, web: dict[str, servers.Backend]) -> Iterator[servers.Balancer]:
    with ExitStack() as stack:
        yield entered(stack, servers.nginx(short, web))
