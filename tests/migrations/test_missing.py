"""A server that is not installed is a skip that says what to install, and in CI a failure."""

from __future__ import annotations

import pytest

from tests.migrations import servers
from tests.migrations.conftest import there


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(servers.Missing, match="no-such-server is missing: install the package x"):
        servers.program("no-such-server", "x", "/nowhere/*/bin")


def test_a_skip_here_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install it"):
        there({"missing": "install it"})
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install it"):
        there({"missing": "install it"})
    assert there({"cases": []}) == {"cases": []}
