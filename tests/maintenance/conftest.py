"""A balancer in front of one server, with the piece of configuration that can close it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.balancers import servers
from tests.balancers.conftest import entered
from tests.maintenance.front import Front


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: a socket's may have 107 bytes."""
    where = Path(tempfile.mkdtemp(prefix="ff-", dir="/tmp"))
    where.chmod(0o755)
    yield where
    shutil.rmtree(where)


@pytest.fixture
def haproxy(folder: Path) -> Iterator[Front]:
    front = Front("haproxy", folder)
    front.prepare()
    with servers.backends("web1") as made, ExitStack() as stack:
        opened = servers.haproxy(folder, made, frontend=front.config)
        front.served_at(entered(stack, opened).port)
        yield front


@pytest.fixture
def nginx(folder: Path) -> Iterator[Front]:
    front = Front("nginx", folder)
    front.prepare()
    http, _, server = front.config.partition("# --- second part")
    with servers.backends("web1") as made, ExitStack() as stack:
        opened = servers.nginx(folder, made, http, f"# {server}")
        front.served_at(entered(stack, opened).port)
        yield front


@pytest.fixture(params=["haproxy", "nginx"])
def front(request: pytest.FixtureRequest) -> Front:
    found: Front = request.getfixturevalue(request.param)
    return found
