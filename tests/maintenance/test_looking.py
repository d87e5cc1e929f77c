"""What is told of a site whose server and files disagree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback import Loopback, Quiet
from tests.maintenance.front import Front


class Page(Quiet):
    def do_GET(self) -> None:  # noqa: N802 - its name is given
        self.say(503, b"closed", {"X-Maintenance": "shop-prod"})


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Front]:
    """The page, without anything that says so."""
    front = Front("nginx", tmp_path)
    front.prepare()
    with Loopback(Page) as server:
        front.served_at(server.port)
        yield front


def test_what_shows_the_page_is_closed(shown: Front) -> None:
    """Or it was said to be open, and nobody opened it."""
    assert shown.look().answer == {"closed": True, "record": None, "shown": True}


def test_what_still_shows_the_page_does_not_count_as_opened(shown: Front) -> None:
    done = shown.open()
    assert done.exit == 1
    assert "not open: 127.0.0.1:" in done.err
