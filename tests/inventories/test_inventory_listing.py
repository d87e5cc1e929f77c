"""``listing()`` against the oracle, ``ansible-inventory --list``."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from inventories.load import load
from tests.inventories.cases import CASES
from tests.inventories.oracle import listings

NAMES = list(CASES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inventories")
    for number, name in enumerate(NAMES):
        for file, text in CASES[name].items():
            path = root / f"case{number}" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def oracle(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    paths = [root / f"case{number}" for number in range(len(NAMES))]
    return listings(paths, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_listing_is_that_of_ansible_inventory(
    number: int, root: Path, oracle: list[dict[str, object]]
) -> None:
    listing = load(f"case{number}", root).listing()
    assert json.loads(json.dumps(listing)) == oracle[number]


def test_the_cases_are_worth_asking_about(oracle: list[dict[str, object]]) -> None:
    assert len(NAMES) >= 25
    assert all(len(listing) > 1 for listing in oracle)
