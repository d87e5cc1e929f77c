"""A program of several modules, shipped whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.onhost import ship
from tests.roles.onhost.programs import run


@pytest.fixture
def greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a program made of two modules."""
    folder = tmp_path / "onhost" / "greetings"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "words.py").write_text("def hello(name):\n    return 'hello ' + name\n")
    (folder / "say.py").write_text(
        "from .words import hello\n\n\ndef main(arguments):\n    print(hello(arguments['to']))\n"
    )
    (folder.parent / "bundle.py").write_bytes((ship.FOLDER / "bundle.py").read_bytes())
    monkeypatch.setattr(ship, "FOLDER", folder.parent)
    ship.text.cache_clear()
    yield "greetings.say"
    ship.text.cache_clear()


def test_modules_find_each_other_and_nothing_of_the_host(greeting: str) -> None:
    done = run(greeting, {"to": "you"})
    assert (done.exit, done.out) == (0, "hello you\n")


def test_it_is_a_file_for_work_that_outlives_its_connection(greeting: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_bytes(ship.standalone(greeting, {"to": "it's \\ \"me\" \n é"}))
    done = subprocess.run([sys.executable, "-I", program], capture_output=True, check=True)
    assert done.stdout.decode() == "hello it's \\ \"me\" \n é\n"


def test_an_error_shows_the_module_and_its_line(greeting: str) -> None:
    done = run(greeting, {"to": None})
    assert done.exit == 1
    assert 'File "fabfleet_greetings.words.py", line 2, in hello' in done.err
