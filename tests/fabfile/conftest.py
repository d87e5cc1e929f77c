from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.environment import Environment
from tests.fabfile.fleets import open_fleet


@pytest.fixture
def prod(tmp_path: Path) -> Environment:
    """Three web hosts under systemd; web1 migrates."""
    return open_fleet(tmp_path)
