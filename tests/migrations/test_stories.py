"""The stories of stories.py, each a test, on each Django."""

from __future__ import annotations

import re

import pytest

from tests.migrations.conftest import there
from tests.migrations.matrix import DJANGOS, HERE, Answers

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("migrations")]

STORIES = re.findall(r"^def (story_\w+)", (HERE / "stories.py").read_text(), re.MULTILINE)


@pytest.mark.parametrize("django", DJANGOS)
@pytest.mark.parametrize("story", STORIES)
def test_story(told: Answers, story: str, django: str) -> None:
    trouble = there(told[django])[story]
    assert not trouble, trouble
