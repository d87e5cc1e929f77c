from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roles.onhost import ship
from tests.roles.onhost.programs import run

# What an environment variable can hold at all.
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)

launcher = run_path(str(ship.FOLDER / "launch.py"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / ".fabfleet").mkdir()
    return tmp_path / ".fabfleet" / "secrets.env"


def write(path: Path, user: str | None = None, **secrets: str) -> Any:
    files = {name: value.encode() for name, value in secrets.items()}
    done = run("secrets", {"root": str(path.parent.parent), "user": user}, files)
    assert (done.exit, done.err) == (0, "")
    return done.answer


def test_written_for_nobody_else(path: Path) -> None:
    os.umask(os.umask(0o022))
    assert write(path, B="2", A="1") == {"secrets": 2}
    assert path.read_text() == 'A="1"\nB="2"\n'
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_service_may_read_what_is_another_user_s(path: Path) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    write(path, user, A="1")
    assert path.stat().st_mode & 0o777 == 0o640
    assert grp.getgrgid(path.stat().st_gid).gr_gid == pwd.getpwnam(user).pw_gid


def test_what_is_no_secret_any_more_is_gone(path: Path) -> None:
    write(path, A="1", B="2")
    write(path, B="3")
    assert path.read_text() == 'B="3"\n'
    assert os.listdir(path.parent) == ["secrets.env"]


AWKWARD = [
    "", " ", "a b", "it's", 'say "hi"', "\\", "\\n", "a\\", "\n", "a\nb\n", "\r\n", "\r", "\t",
    "$HOME `id`", "#no comment", "größe €", "\u2028\x85\x0b\x0c\x1c", "'quoted'", '"', "a=b",
]


def test_awkward_values_come_back_as_they_were(path: Path) -> None:
    secrets = {f"S{number}": value for number, value in enumerate(AWKWARD)}
    write(path, **secrets)
    assert launcher["read_environment"](str(path)) == secrets


@given(st.dictionaries(NAMES, VALUES, min_size=1))
@settings(max_examples=100, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_value_comes_back_as_it_was(path: Path, secrets: dict[str, str]) -> None:
    """The program's own ``quoted``, without a process for each example."""
    quoted = written_by_program()
    text = "".join(f"{name}={quoted(value)}\n" for name, value in secrets.items())
    path.write_text(text, encoding="utf-8", newline="")
    assert launcher["read_environment"](str(path)) == secrets


def written_by_program() -> Any:
    source = ship.text("secrets").decode().replace("\nmain()\n", "\n")
    names: dict[str, Any] = {"ARGUMENTS": {}, "FILES": {}}
    exec(compile(source, "secrets.py", "exec"), names)  # noqa: S102 - it is ours
    return names["quoted"]
