"""What goes to hosts runs there: Python 3.8, nothing but its standard library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from roles.onhost import ship
from tests.roles.onhost.programs import run

PROGRAMS = sorted(path for path in ship.FOLDER.rglob("*.py")
                  if path.name not in ("__init__.py", "ship.py"))
# Run by the release's own interpreter, beside its Django.
BESIDE_DJANGO = {"check"}
FOLDERS_BESIDE_DJANGO = {"migrating"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_python_3_8_reads_it(program: Path) -> None:
    ast.parse(program.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_only_the_standard_library(program: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            inside = program.parent != ship.FOLDER
            assert node.level == 0 or (inside and node.level == 1)
            if node.level:
                continue
            found.add((node.module or "").split(".")[0])
    beside = program.stem in BESIDE_DJANGO or program.parent.name in FOLDERS_BESIDE_DJANGO
    allowed = {"django"} if beside else set()
    assert found - sys.stdlib_module_names <= allowed


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_every_name_of_the_standard_library_was_there_in_3_8(program: Path) -> None:
    """What is newer and easily slips in; syntax alone does not show it."""
    newer = ("removeprefix", "removesuffix", "file_digest", "is_relative_to", "readlink()",
             "pairwise", "batched", "StrEnum", "tomllib", "zoneinfo", "math.lcm", "cache(")
    text = program.read_text()
    assert [each for each in newer if each in text] == []


def test_a_program_that_fails_says_in_which_line(tmp_path: Path) -> None:
    done = run("finish", {"root": str(tmp_path), "record": None, "keep": 1})
    assert done.exit == 1
    assert 'File "finish.py", line ' in done.err
