"""One site on each kind of database; SQLite's always, the others where their servers are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.backups.site import Site, databases
from tests.migrations import servers
from tests.migrations.matrix import Unable, python_with

VENDORS = ("sqlite", "postgresql", "mysql")


def built(vendor: str, folder: Path, stack: ExitStack) -> Site:
    try:
        python_with("5.2")
        return Site(folder, {"default": databases(vendor, folder, stack)}).build()
    except (servers.Missing, Unable) as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=[
    pytest.param(each, marks=() if each == "sqlite" else pytest.mark.soak) for each in VENDORS
])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with ExitStack() as stack:
        yield built(request.param, tmp_path_factory.mktemp(request.param) / "site", stack)


@pytest.fixture
def site(shared: Site) -> Site:
    """The site on its database, without backups, with only its first migration."""
    import shutil

    shutil.rmtree(shared.folder, ignore_errors=True)
    (shared.place / "shop" / "migrations" / "0002_note.py").unlink(missing_ok=True)
    shared.environment.clear()
    return shared
