"""A release's id, and whether a host serves it already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile.environment import Environment
from fabfile.strategies.targets import is_live, named
from roles.role import HostFacts
from tests.fabfile.fleets import (
    NEW,
    OLD,
    RELEASE,
    UNIT,
    live,
    make_fleet,
    one_target,
    open_fleet,
    ready,
)


def name_of(environment: Environment, **changes: Any) -> str:
    lock = changes.pop("lock", "django==5.2\n")
    subfolder = changes.pop("subfolder", "")
    release = replace(RELEASE, id="", **changes)
    return named(environment, release, lock, subfolder, "20260102-080000-bbbbbbb").id


def test_an_id_is_the_name_of_the_source_and_a_digest(prod: Environment) -> None:
    assert re.fullmatch(r"20260102-080000-bbbbbbb-[0-9a-f]{6}", name_of(prod))


def test_equal_content_and_settings_have_equal_ids(tmp_path: Path) -> None:
    first = name_of(open_fleet(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    again = open_fleet(tmp_path / "elsewhere")
    # Where the tree lies on this controller, and by which name it was asked for, is no part of it.
    assert name_of(again, tree="/other", manifest="/other.json", ref="v1", origin="x") == first


@pytest.mark.parametrize("changes", [
    {"digest": "e" * 64}, {"lock": "django==5.3\n"}, {"subfolder": "site"},
])
def test_other_content_is_another_release(prod: Environment, changes: dict[str, str]) -> None:
    assert name_of(prod, **changes) != name_of(prod)


@pytest.mark.parametrize("changes", [
    {"app": {"env": {"DEBUG": True}}},
    {"app": {"root": "/srv/other"}},
    {"wsgi": {"workers": 9}},
    {"static": {"variable": "STATIC"}},
])
def test_other_settings_are_another_release(
    tmp_path: Path, changes: Mapping[str, Mapping[str, Any]]
) -> None:
    assert name_of(open_fleet(tmp_path, **changes)) != name_of(open_fleet(tmp_path))


def test_another_host_s_settings_count_too(tmp_path: Path) -> None:
    own: dict[str, Any] = {"web3": {"static": {"command": []}}}
    assert name_of(open_fleet(tmp_path, own=own)) != name_of(open_fleet(tmp_path))


@pytest.mark.parametrize("changes", [
    {"release": {"keep": 2}}, {"deploy": {"strategy": "together"}},
    {"wsgi": {"health": {"deadline": 5}}}, {"hooks": {"before": {"roll": [{"run": "x"}]}}},
    {"app": {"urls": ["http://shop.test/"]}},
])
def test_what_no_process_of_a_release_sees_makes_no_other_one(
    tmp_path: Path, changes: Mapping[str, Mapping[str, Any]]
) -> None:
    assert name_of(open_fleet(tmp_path, **changes)) == name_of(open_fleet(tmp_path))


def test_the_id_does_not_hang_on_the_hosts_of_a_run(prod: Environment) -> None:
    """``named`` is given the environment alone, never the chosen hosts or their facts."""
    whole, part = make_fleet(prod), make_fleet(prod, chosen=["web2"])
    assert whole.release == part.release
    assert [target.name for target in part.targets] == ["web2"]
    assert part.migration.name == "web1"


@pytest.mark.parametrize(("facts", "answer"), [
    (live("web1"), True),
    (ready("web1"), False),
    (live("web1", current=OLD), False),
    (live("web1", current=None), False),
    (live("web1", running=()), False),
    (live("web1", running=(OLD,)), False),
    (live("web1", running=(OLD, NEW)), False),
    (live("web1", services={UNIT: "inactive"}), False),
    (live("web1", services={UNIT: "failed"}), False),
    (live("web1", services={}), False),
])
def test_is_live(prod: Environment, facts: HostFacts, answer: bool) -> None:
    assert is_live(one_target(prod, facts)) is answer


def test_a_host_without_a_service_is_live_by_its_link(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, wsgi={"groups": ["other"]})
    idle: dict[str, Any] = {"running": (), "services": {}}
    assert is_live(one_target(environment, live("web1", **idle)))
    assert not is_live(one_target(environment, ready("web1", **idle)))
