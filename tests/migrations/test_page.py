"""docs/migrations.md says what was measured, and nothing else."""

from __future__ import annotations

import pytest

from tests.migrations import page
from tests.migrations.conftest import there
from tests.migrations.matrix import Answers

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("migrations")]


def test_the_page_has_what_was_measured(measured: Answers) -> None:
    """After a change: python -m tests.migrations.page"""
    for run in page.COUNTED:
        there(measured[run])
    text = page.PAGE.read_text()
    assert page.filled(text, measured) == text
