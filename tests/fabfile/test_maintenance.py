"""What is said of a closed site."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from fabfile.maintenance import lines
from roles.maintenance import Closed, MaintenanceSettings, Site

SITE = Site("shop-prod", MaintenanceSettings(driver="haproxy"), (), "https://shop.test/", "/up")
CLOSED = Closed(time.time() - 65, "new shelves", "eve@desk", by_run=False, secret="5ec3e7")


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_open() -> None:
    assert lines(SITE, None, "prod") == ["https://shop.test/ is open"]


def test_closed_by_hand() -> None:
    found = lines(SITE, CLOSED, "prod")
    assert "by hand of eve@desk: new shelves" in found[0]
    assert found[1:] == [
        "  to look past the page: https://shop.test/?shop_prod_maintenance=5ec3e7",
        "  to open it: fab maintenance.off --env=prod",
    ]


def test_closed_by_a_run_that_is_gone_and_not_everywhere() -> None:
    found = lines(SITE, replace(CLOSED, by_run=True, run="r1", until=moment("2027-01-01 06:00"),
                                everywhere=False), "prod")
    assert "by run r1 of eve@desk" in found[0]
    assert found[1] == "  expected to be open by 2027-01-01 06:00 UTC"
    assert found[2].startswith("  NOT ALL hosts in front show the page")
    assert found[-1] == ("    as it is: fab start --env=prod, look past the page, then "
                         "fab maintenance.off --env=prod")
