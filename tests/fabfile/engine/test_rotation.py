"""Balancers that are asked from this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.engine import rotation
from fabfile.errors import Unavailable
from tests.fabfile.fleets import make_fleet, open_fleet


def ask(folder: Path, state: str, on: str = "controller") -> None:
    command = {"drain": "true", "undrain": "true", "state": state, "on": on}
    environment = open_fleet(folder, ("web1", "web2"),
                             balancer={"driver": "command", "command": command})
    rotation.refuse_silent(environment, make_fleet(environment).targets)


def test_who_has_no_credentials_learns_it_before_anything_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = 'test "$LB_TOKEN" || { echo no token >&2; exit 1; }; echo up'
    monkeypatch.setenv("LB_TOKEN", "t")
    ask(tmp_path, line)
    monkeypatch.delenv("LB_TOKEN")
    with pytest.raises(Unavailable, match=r"balancer of web1, .* gives no answer: .*no token"):
        ask(tmp_path, line)


def test_it_is_asked_once(tmp_path: Path) -> None:
    ask(tmp_path, f"echo asked >>{tmp_path}/log; echo up")
    assert (tmp_path / "log").read_text() == "asked\n"


def test_one_on_the_hosts_is_not_asked_here(tmp_path: Path) -> None:
    ask(tmp_path, "false", on="host")
