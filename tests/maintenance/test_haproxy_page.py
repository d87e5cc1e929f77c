"""The page at a real HAProxy (fab test --soak: the package haproxy)."""

from __future__ import annotations

import json

import pytest

from tests.maintenance.front import PASS, Front

pytestmark = pytest.mark.soak


def test_closed_and_open_again(haproxy: Front) -> None:
    assert haproxy.get().body == "web1"
    closed = haproxy.close("new shelves")
    assert (closed.exit, closed.err) == (0, "")
    found = haproxy.get("/anything?x=1")
    assert found.status == 503
    assert found.headers["retry-after"] == "60"
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert found.body.startswith("<!doctype html>")
    assert found.body.endswith("</html>")
    assert "new shelves" in found.body
    assert haproxy.look().answer["closed"] is True
    assert haproxy.open().exit == 0
    assert haproxy.get().body == "web1"
    assert haproxy.look().answer == {"closed": False, "record": None, "shown": False}


def test_programs_get_json(haproxy: Front) -> None:
    haproxy.close("new shelves", until=1_800_000_000)
    for found in (haproxy.get("/api/things"), haproxy.get("/", Accept="application/json")):
        assert (found.status, found.headers["content-type"]) == (503, "application/json")
        assert found.headers["retry-after"] == "Fri, 15 Jan 2027 08:00:00 GMT"
        assert json.loads(found.body)["reason"] == "new shelves"
    html = haproxy.get("/", Accept="text/html,application/json;q=0.9")
    assert html.headers["content-type"].startswith("text/html")


def test_the_health_page_is_never_closed(haproxy: Front) -> None:
    haproxy.close()
    assert [haproxy.get(path).body for path in ("/check", "/ping")] == ["web1", "web1"]
    assert haproxy.get("/check/more").status == 503


def test_who_may_pass(haproxy: Front) -> None:
    """The client of these tests is a trusted proxy; who is behind it says its last address."""
    haproxy.close(allow=("198.51.100.7",))
    assert haproxy.get(X_Forwarded_For="192.0.2.9").status == 200
    assert haproxy.get(X_Forwarded_For="203.0.113.1, 198.51.100.7").status == 200
    assert haproxy.get(X_Forwarded_For="192.0.2.9, 203.0.113.1").status == 503
    assert haproxy.get(X_Forwarded_For="nonsense").status == 503
    assert haproxy.get(cookie=PASS).status == 200
    assert haproxy.get(cookie=PASS[:-1]).status == 503
    assert haproxy.get(cookie="").status == 503
    link = haproxy.get(f"/?{haproxy.site.cookie}={PASS}")
    assert (link.status, link.headers["location"]) == (303, "/")
    assert link.headers["set-cookie"] == (
        f"{haproxy.site.cookie}={PASS}; Path=/; HttpOnly; SameSite=Lax")
    assert haproxy.get(f"/?{haproxy.site.cookie}=x").status == 503


def test_closed_once_more_keeps_its_beginning_and_its_secret(haproxy: Front) -> None:
    first = haproxy.close("one").answer["record"]
    haproxy.close("two", run=False)
    second = haproxy.look().answer["record"]
    assert (second["since"], second["pass"]) == (first["since"], first["pass"])
    assert second["reason"] == "two"
    assert "two" in haproxy.get().body


def test_what_a_person_closed_stays_theirs(haproxy: Front) -> None:
    haproxy.close("by hand")
    haproxy.close("a release", run=True)
    record = haproxy.look().answer["record"]
    assert (record["reason"], record["by_run"]) == ("by hand", False)


def test_it_stays_closed_when_haproxy_starts_anew(haproxy: Front) -> None:
    haproxy.close("new shelves")
    lines = (haproxy.state / "closed.map").read_text().splitlines()
    assert lines[0] == "state closed"
    assert lines[-1].startswith("html <!doctype html>")
    assert (haproxy.state / "closed.map").stat().st_mode & 0o077 == 0


def test_the_smoke_test_goes_past_the_page(haproxy: Front) -> None:
    haproxy.close()
    assert haproxy.smoke().exit == 0


def test_nothing_is_closed_where_the_configuration_lacks_it(haproxy: Front) -> None:
    haproxy.site = type(haproxy.site)(**{**vars(haproxy.site), "key": "other"})
    done = haproxy.close()
    assert done.exit == 1
    assert "visitors do not see the page" in done.err
    assert "`fab maintenance.config`" in done.err
    assert haproxy.get().status == 200
    assert haproxy.look().answer["record"] is None
