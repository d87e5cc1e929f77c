"""What the databases and the stories answered, asked once a session."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.migrations import matrix


def shared(factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of pytest-xdist."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "migrations"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> matrix.Answers:
    return matrix.measured(shared(tmp_path_factory))


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> matrix.Answers:
    return matrix.told(shared(tmp_path_factory))


def there(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer; where something is not installed, a skip that says what (in CI a failure)."""
    missing = answer.get("missing")
    if missing and os.environ.get("CI"):
        pytest.fail(str(missing))
    if missing:
        pytest.skip(str(missing))
    return answer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They need PostgreSQL and MariaDB on this machine, and some minutes: fab test --soak."""
    for item in items:
        # What is tested with SQLite alone needs no server; that file says itself what needs one.
        if item.path.parent == Path(__file__).parent and item.path.stem != "test_applying":
            item.add_marker(pytest.mark.soak)
