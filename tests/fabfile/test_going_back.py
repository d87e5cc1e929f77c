"""Which release a rollback means after a run that has left the site closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabfile import going_back
from fabfile.environment import Environment
from fabfile.going_back import Wish
from roles.maintenance import Closed
from tests.fabfile.fleets import NEW, OLD, make_fleet, ready

FORTH = Closed(1.0, f"Release {NEW}", "eve@desk", by_run=True)
BACK = replace(FORTH, reason=f"Back to release {OLD}")
BY_HAND = replace(FORTH, by_run=False)


@pytest.mark.parametrize(("closed", "current", "expected"), [
    (None, OLD, None), (BY_HAND, OLD, None), (FORTH, OLD, OLD), (FORTH, NEW, None),
    (BACK, NEW, OLD), (BACK, OLD, OLD),
])
def test_it_is_where_things_were_good(
    prod: Environment, closed: Closed | None, current: str, expected: str | None
) -> None:
    """Or where the run was going that was on its way back, however far it came."""
    hosts = [ready(host, current=current) for host in ("web1", "web2")]
    fleet = replace(make_fleet(prod, *hosts), closed=closed)
    assert going_back._before_the_window(fleet) == expected


def test_the_same_command_once_more() -> None:
    wish = Wish("prod", "", None, None, reverse=True, maintenance=True, accept_risk=("shop.a",),
                yes=True, json=False)
    base = "fab rollback --env=prod --to=r1"
    assert wish.again(base) == f"{base} --reverse --maintenance --accept-risk=shop.a"
    plain = replace(wish, reverse=False, maintenance=False, accept_risk=(), inventory="my inv")
    assert plain.again(base) == f"{base} '--inventory=my inv'"
