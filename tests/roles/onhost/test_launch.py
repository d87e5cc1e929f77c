from __future__ import annotations

import fcntl
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from roles.onhost import ship
from tests.roles.onhost.programs import make_current, put_release

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHOW = [sys.executable, "-I", "-c", "import os,json; print(json.dumps(dict(os.environ)))"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two releases with a launcher; r2 is current."""
    (tmp_path / ".fabfleet").mkdir()
    (tmp_path / ".fabfleet" / "launch.py").write_bytes(ship.text("launch"))
    (tmp_path / "shared").mkdir()
    for name in ("r1", "r2"):
        put_release(tmp_path, name, environment={"RELEASE_ID": name, "A": "release"},
                    commands={"wsgi": SHOW, "say": ["echo", "it's", "$A"]})
    make_current(tmp_path, "r2")
    return tmp_path


def launch(
    root: Path, *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(root / ".fabfleet" / "launch.py"), *words],
        capture_output=True, text=True, check=False, cwd="/",
        env=dict(environment if environment is not None else {"STRAY": "1", "PATH": "/stray"}),
    )


def environment_of(root: Path, *words: str, **given: str) -> dict[str, str]:
    done = launch(root, *words, "wsgi", environment=given or None)
    assert done.stderr == ""
    found: dict[str, str] = json.loads(done.stdout)
    found.pop("LC_CTYPE", None)  # Python's own, where the locale is C
    return found


def refusal(root: Path, *words: str) -> str:
    done = launch(root, *words)
    assert (done.returncode, done.stdout) == (78, "")
    return done.stderr


def base(root: Path, release: str = "r2") -> dict[str, str]:
    user = pwd.getpwuid(os.getuid())
    return {
        "HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "PATH": PATH,
        "PWD": str(root / "releases" / release),
    }


def test_exactly_the_environment_that_is_meant(root: Path) -> None:
    assert environment_of(root) == {**base(root), "RELEASE_ID": "r2", "A": "release"}


def test_what_systemd_hands_over_is_passed_on(root: Path) -> None:
    given = {
        "NOTIFY_SOCKET": "/run/n", "LISTEN_FDS": "1", "LISTEN_PID": "7", "LISTEN_FDNAMES": "web",
        "WATCHDOG_PID": "7", "WATCHDOG_USEC": "9", "INVOCATION_ID": "i", "JOURNAL_STREAM": "8:9",
        "RUNTIME_DIRECTORY": "/run/shop", "TZ": "UTC",
    }
    stray = {"LD_PRELOAD": "", "DJANGO_SETTINGS_MODULE": "evil", "LC_ALL": "de_DE.UTF-8"}
    assert environment_of(root, **given, **stray) == {
        **base(root), **given, "RELEASE_ID": "r2", "A": "release"
    }


def test_the_venv_comes_first(root: Path) -> None:
    put_release(root, "r3", venv="cafe", commands={"wsgi": SHOW})
    venv = f"{root}/venvs/cafe"
    assert environment_of(root, "--release", "r3") == {
        **base(root, "r3"), "VIRTUAL_ENV": venv, "PATH": f"{venv}/bin:{PATH}"
    }


def test_programs_of_the_venv_are_found(root: Path) -> None:
    put_release(root, "r3", venv="cafe", commands={"wsgi": ["shop-server", "x"]})
    program = root / "venvs" / "cafe" / "bin" / "shop-server"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "served $1"\n')
    program.chmod(0o755)
    assert launch(root, "--release", "r3", "wsgi").stdout == "served x\n"


def test_the_nearer_word_wins(root: Path) -> None:
    shared, secrets = root / "shared" / ".env", root / ".fabfleet" / "secrets.env"
    shared.write_text("A=shared\nB=shared\n")
    assert environment_of(root)["A"] == "shared"
    secrets.write_text('A="secret"\n')
    found = environment_of(root)
    assert (found["A"], found["B"]) == ("secret", "shared")
    found = environment_of(root, "--env", "A=typed=x", "--env", "C=")
    assert (found["A"], found["B"], found["C"]) == ("typed=x", "shared", "")


def test_what_an_env_file_may_hold(root: Path) -> None:
    (root / "shared" / ".env").write_text(
        "# a comment\n; another\n\n  PLAIN = a b \nexport EXPORTED=1\nEMPTY=\n"
        'DOUBLE="a \\"b\\" \\\\ \\n$HOME"\n'
        "SINGLE='a \\n $HOME'\nHASH=a#b # c\nEQUALS=a=b\nLONE=\"\r\nUNICODE=größe\n"
    )
    found = environment_of(root)
    others = found.keys() - base(root).keys() - {"A", "RELEASE_ID"}
    assert {name: found[name] for name in others} == {
        "PLAIN": "a b", "EXPORTED": "1", "EMPTY": "", "DOUBLE": 'a "b" \\ \n$HOME',
        "SINGLE": "a \\n $HOME", "HASH": "a#b # c", "EQUALS": "a=b", "LONE": '"',
        "UNICODE": "größe",
    }


@pytest.mark.parametrize("line", ["no equals sign", "=value", "a b=c", "A-B=1", "1A=1"])
def test_an_env_file_that_cannot_be_read(root: Path, line: str) -> None:
    path = root / "shared" / ".env"
    path.write_text(f"A=1\n\n{line}\n")
    assert refusal(root, "wsgi") == f"launch.py: {path}: line 3: expected NAME=VALUE\n"


def test_a_broken_secret_is_not_shown(root: Path) -> None:
    (root / ".fabfleet" / "secrets.env").write_text("hunter2\n")
    assert "hunter2" not in refusal(root, "wsgi")


def test_a_command_by_name_takes_more_words(root: Path) -> None:
    assert launch(root, "say", "a b", "--", "--env").stdout == "it's $A a b -- --env\n"


def test_any_other_command(root: Path) -> None:
    assert launch(root, "--", "printf", "%s|", "a b", "it's", "").stdout == "a b|it's||"
    assert launch(root, "--", "pwd").stdout == f"{root}/releases/r2\n"
    assert launch(root, "--release", "r1", "--", "pwd").stdout == f"{root}/releases/r1\n"
    assert launch(root, "--", "sh", "-c", "exit 7").returncode == 7


def test_it_becomes_the_command(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-I", str(root / ".fabfleet" / "launch.py"), "--", "sh", "-c", "echo $$"],
        stdout=subprocess.PIPE, text=True,
    )
    out, _ = process.communicate(timeout=20)
    assert out == f"{process.pid}\n"


def test_the_release_is_held_while_a_process_of_it_lives(root: Path) -> None:
    with (root / ".fabfleet/releases/r2/in-use").open() as lock:
        process = subprocess.Popen(
            [sys.executable, "-I", str(root / ".fabfleet" / "launch.py"), "--", "sh", "-c",
             "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.communicate(timeout=20)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_nothing_was_deployed_yet(root: Path) -> None:
    (root / "current").unlink()
    assert refusal(root, "wsgi") == (
        f"launch.py: {root}/current does not exist: nothing was deployed yet\n"
    )
    assert launch(root, "--release", "r1", "--", "true").returncode == 0


def test_a_release_that_is_not_there(root: Path) -> None:
    assert refusal(root, "--release", "r9", "wsgi") == (
        f"launch.py: release r9 is not complete: [Errno 2] No such file or directory: "
        f"'{root}/.fabfleet/releases/r9/in-use'\n"
    )


@pytest.mark.parametrize("words", [[], ["other"], ["--"], ["--release"], ["--env"]])
def test_nothing_that_it_knows(root: Path, words: list[str]) -> None:
    assert refusal(root, *words) == (
        "launch.py: expected one of say, wsgi, or -- and a command\n"
    )


def test_a_command_that_cannot_be_started(root: Path) -> None:
    assert refusal(root, "--", "no-such-program") == (
        "launch.py: cannot start no-such-program: No such file or directory\n"
    )


def test_the_launcher_finds_its_root_by_where_it_lies(root: Path, tmp_path: Path) -> None:
    moved: Any = tmp_path / "moved root"
    moved.mkdir()
    for name in (".fabfleet", "releases", "shared", "current"):
        (root / name).rename(moved / name)
    assert launch(moved, "say").stdout == ""  # its folder is gone, and that is said
    assert "releases/r2" in launch(moved, "say").stderr
