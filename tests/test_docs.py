"""What the documentation says is what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile import ns
from fabfile.display.reference import page
from fabfile.errors import (
    Failed,
    Interrupted,
    LockHeld,
    Pending,
    Refused,
    Unavailable,
    UsageError,
)

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


def test_settings_page_is_made_from_the_models() -> None:
    assert (CHECKOUT / "docs" / "settings.md").read_text() == page()


def test_every_setting_is_explained() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_every_command_in_the_documents_is_a_task(document: Path) -> None:
    known = set(ns.task_names) | {alias for names in ns.task_names.values() for alias in names}
    typed = re.findall(r"(?:\./|`|^|\s)fab ([a-z][a-z.]*)", document.read_text(), re.MULTILINE)
    assert [word for word in typed if word not in known] == []


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_every_option_in_the_documents_is_known(document: Path) -> None:
    lines = re.findall(r"(?:\./)?fab ([a-z.]+)((?: [^`\n#;]+)?)", document.read_text())
    for task, rest in lines:
        known = {arg.name.replace("_", "-") for arg in ns[task].get_arguments()}
        for option in re.findall(r"--([a-z-]+)", rest.partition(" -- ")[0]):
            assert option in known, f"{document.name}: fab {task} --{option}"


def test_links_lead_somewhere() -> None:
    for document in DOCS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_exit_codes_of_the_readme() -> None:
    text = (CHECKOUT / "README.md").read_text()
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE))
    errors = (Failed, UsageError, Refused, Pending, Unavailable, LockHeld, Interrupted)
    assert {int(code) for code in table} == {0, *(error.exit_code for error in errors)}


def test_the_role_of_the_documentation_takes_part(tmp_path: Path) -> None:
    """The example is copied into a copy of ``roles/`` and shows up in a plan's steps."""
    example = re.search(r"```python\n(# roles/cachewarm.*?)```",
                        (CHECKOUT / "docs" / "roles.md").read_text(), re.DOTALL)
    assert example is not None
    for folder in ("roles", "inventories", "fabfile"):
        subprocess.run(["cp", "-r", str(CHECKOUT / folder), str(tmp_path / folder)], check=True)
    (tmp_path / "roles" / "cachewarm").mkdir()
    (tmp_path / "roles" / "cachewarm" / "__init__.py").write_text(example.group(1))
    asked = (
        "from roles.registry import roles; names = [r.name for r in roles()];"
        "print(names.index('cachewarm') > names.index('wsgi'))"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, capture_output=True,
                          text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
