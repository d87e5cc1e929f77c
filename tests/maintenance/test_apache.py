"""Apache's VirtualHosts have many ways to say what answers (fab test --soak: see servers.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.balancers import servers
from tests.balancers.conftest import entered
from tests.maintenance.conftest import NEEDED
from tests.maintenance.front import PASS, Front

pytestmark = pytest.mark.soak
Serve = Callable[[str], Front]


@pytest.fixture
def backend() -> Iterator[servers.Backend]:
    with servers.backends("web1") as made:
        yield made["web1"]


@pytest.fixture
def serve(folder: Path, backend: servers.Backend) -> Iterator[Serve]:
    """Apache with what a team may have in its VirtualHost; ``BEHIND`` is the application."""
    with ExitStack() as stack:
        def begin(site: str) -> Front:
            front = Front("apache", folder)
            front.prepare()
            lines = site.replace("BEHIND", f"http://127.0.0.1:{backend.port}")
            opened = servers.apache(folder, f"{front.config}{lines}\n",
                                    [*NEEDED, "proxy", "proxy_http", "alias"])
            front.served_at(entered(stack, opened).port)
            return front

        yield begin


@pytest.mark.parametrize("site", [
    'ProxyPass / BEHIND/\n<Location "/">\nRequire all denied\n</Location>',
    '<Location "/">\nProxyPass BEHIND/\n</Location>',
    '<Location "/">\nSetHandler "proxy:BEHIND"\n</Location>',
    "RewriteRule ^/(.*) BEHIND/$1 [P]",
    "Alias / /usr/share/none/",
    "ErrorDocument 503 /sorry.html\nProxyPass / BEHIND/",
])
def test_nothing_of_the_site_swallows_the_page(serve: Serve, site: str) -> None:
    front = serve(site)
    before = front.get()
    done = front.close("new shelves")
    assert (done.exit, done.err) == (0, "")
    found = front.get("/anything")
    assert (found.status, found.headers["retry-after"]) == (503, "60")
    assert "new shelves" in found.body
    assert front.get(f"/?{front.site.cookie}={PASS}").status == 303
    past = front.get(cookie=PASS)
    assert (past.status, past.body) == (before.status, before.body)
    assert front.open().exit == 0


def test_the_way_past_the_page_stays_inside_tls(serve: Serve) -> None:
    """Which ends in front of this Apache."""
    front = serve("ProxyPass / BEHIND/")
    settings = front.site.settings.model_copy(update={"ask": f"http://{{address}}:{front.port}"})
    front.site = replace(front.site, settings=settings, url="https://shop.test/")
    assert front.close().exit == 0
    link = front.get(f"/?{front.site.cookie}={PASS}")
    assert link.headers["set-cookie"] == (
        f"{front.site.cookie}={PASS}; Path=/; HttpOnly; SameSite=Lax; Secure")


def test_an_application_that_is_down_does_not_look_closed(
    serve: Serve, backend: servers.Backend
) -> None:
    """Nor does the page hide it from those who may pass."""
    front = serve("ProxyPass / BEHIND/")
    backend.server.close()
    down = [front.get()]
    assert front.close().exit == 0
    down += [front.get("/check"), front.get(cookie=PASS)]
    assert [(each.status, "x-maintenance" in each.headers) for each in down] == [(503, False)] * 3


def test_nothing_of_ours_can_be_asked_for(serve: Serve) -> None:
    front = serve("ProxyPass / BEHIND/")
    assert front.get("/.shop_prod_maintenance").body == "web1"
    front.close("new shelves")
    found = front.get("/.shop_prod_maintenance", REDIRECT_shop_prod_answer="record.json")
    assert (found.status, found.headers["x-maintenance"]) == (503, "shop-prod")
    assert "new shelves" in found.body


def test_without_mod_asis_apache_says_what_it_lacks(folder: Path) -> None:
    front = Front("apache", folder)
    with ExitStack() as stack, pytest.raises(AssertionError, match="needs mod_asis: a2enmod asis"):
        entered(stack, servers.apache(folder, front.config, ["rewrite", "headers"]))
