"""nginx's servers have many ways to keep the page from visitors (fab test --soak: see servers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.balancers import servers
from tests.balancers.conftest import entered
from tests.maintenance.front import PASS, Front

pytestmark = pytest.mark.soak
Serve = Callable[[str, str], Front]
CACHE = "open_file_cache max=1000 inactive=20s;"


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """nginx with what a team may have in its http { } and server { }; FOLDER is the test's."""
    with servers.backends("web1") as made, ExitStack() as stack:
        def begin(http: str, server: str) -> Front:
            front = Front("nginx", folder)
            front.prepare()
            first, _, second = front.config.partition("# --- second part")
            lines = server.replace("FOLDER", str(folder))
            opened = servers.nginx(folder, made, http + first, f"# {second}\n{lines}\n")
            front.served_at(entered(stack, opened).port)
            return front

        yield begin


@pytest.mark.parametrize("cache", [CACHE, f"{CACHE} open_file_cache_errors on;"])
def test_a_cache_of_files_does_not_hide_what_changes(serve: Serve, cache: str) -> None:
    """Each worker has its own, and they would tell different things."""
    front = serve(cache, "")
    for _ in range(2):
        assert {front.get().status for _ in range(8)} == {200}
        done = front.close("new shelves")
        assert (done.exit, done.err) == (0, "")
        assert {front.get().status for _ in range(8)} == {503}
        assert {front.get(cookie=PASS).status for _ in range(8)} == {200}
        done = front.open()
        assert (done.exit, done.err) == (0, "")


@pytest.mark.parametrize("server", [
    'auth_basic "staff"; auth_basic_user_file FOLDER/users;',
    "allow 192.0.2.0/24; deny all;",
    "satisfy all; deny all; auth_basic staff; auth_basic_user_file FOLDER/users;",
    "auth_request /who; location = /who { internal; return 401; }",
    "auth_request /who; location = /who { internal; proxy_pass http://127.0.0.1:1; }",
])
def test_the_page_asks_nobody_who_they_are(serve: Serve, server: str) -> None:
    front = serve("", server)
    before = front.get().status
    assert before in {401, 403, 500}
    done = front.close("new shelves")
    assert (done.exit, done.err) == (0, "")
    found = front.get("/anything")
    assert (found.status, found.headers["x-maintenance"]) == (503, "shop-prod")
    assert front.get("/api/").headers["content-type"] == "application/json"
    assert front.get(f"/?{front.site.cookie}={PASS}").status == 303
    assert front.get(cookie=PASS).status == before
    assert front.open().exit == 0
    assert front.get().status == before
