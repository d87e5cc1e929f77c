"""The page at a real HAProxy, nginx and Apache (fab test --soak: see balancers/servers.py)."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from roles.maintenance.page import LONGEST
from tests.balancers import servers
from tests.maintenance.front import PASS, Front
from tests.roles.onhost.programs import strict_umask

pytestmark = pytest.mark.soak


def test_closed_and_open_again(front: Front) -> None:
    assert front.get().body == "web1"
    closed = front.close("new shelves")
    assert (closed.exit, closed.err) == (0, "")
    found = front.get("/anything?x=1")
    assert found.status == 503
    assert found.headers["retry-after"] == "60"
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert found.body.startswith("<!doctype html>")
    assert found.body.endswith("</html>")
    assert "new shelves" in found.body
    assert front.look().answer["closed"] is True
    opened = front.open()
    assert opened.exit == 0
    assert 0 < opened.answer["closed_for"] < 60
    assert front.get().body == "web1"
    assert front.look().answer == {"closed": False, "record": None, "shown": False}


def test_programs_get_json(front: Front) -> None:
    front.close("new shelves", until=1_800_000_000)
    for found in (front.get("/api/things"), front.get("/", Accept="application/json")):
        assert (found.status, found.headers["content-type"]) == (503, "application/json")
        assert found.headers["retry-after"] == "3600"
        assert json.loads(found.body)["reason"] == "new shelves"
    html = front.get("/", Accept="text/html,application/json;q=0.9")
    assert html.headers["content-type"].startswith("text/html")


def test_a_strict_umask_hides_nothing_from_the_server(front: Front) -> None:
    with strict_umask():
        done = front.close("new shelves")
    assert (done.exit, done.err) == (0, "")
    assert "new shelves" in front.get().body
    assert front.get("/api/").headers["content-type"] == "application/json"
    assert front.get(cookie=PASS).status == 200
    modes = {each.name: each.stat().st_mode & 0o777 for each in front.state.iterdir()}
    assert modes.pop("record.json") == 0o600
    expected = 0o600 if front.site.settings.driver == "haproxy" else 0o644
    assert set(modes.values()) == {expected}


def test_when_to_come_back(front: Front) -> None:
    """A run is over long before its window is."""
    for until, run, expected in ((time.time() + 700, False, "600"), (time.time() + 9, False, "60"),
                                 (time.time() + 700, True, "60")):
        front.close("new shelves", until, run=run)
        assert front.get().headers["retry-after"] == expected
        front.open()


def test_the_health_page_is_never_closed(front: Front) -> None:
    front.close()
    assert [front.get(path).body for path in ("/check", "/ping")] == ["web1", "web1"]
    assert front.get("/check/more").status == 503


def test_who_may_pass(front: Front) -> None:
    """The client of these tests is a trusted proxy; who is behind it says its last address."""
    front.close(allow=("198.51.100.7",))
    assert front.get(X_Forwarded_For="192.0.2.9").status == 200
    assert front.get(X_Forwarded_For="203.0.113.1, 198.51.100.7").status == 200
    assert front.get(X_Forwarded_For="192.0.2.9, 203.0.113.1").status == 503
    assert front.get(X_Forwarded_For="nonsense").status == 503
    assert front.get(cookie=PASS).status == 200
    assert front.get(cookie=PASS[:-1]).status == 503
    assert front.get(cookie="").status == 503
    link = front.get(f"/?{front.site.cookie}={PASS}")
    assert (link.status, link.headers["location"]) == (303, "/")
    assert link.headers["set-cookie"] == (
        f"{front.site.cookie}={PASS}; Path=/; HttpOnly; SameSite=Lax")
    assert front.get(f"/?{front.site.cookie}=x").status == 503


def test_whom_a_trusted_proxy_does_not_name_is_not_the_proxy(front: Front) -> None:
    front.close(allow=("127.0.0.1",))
    assert front.get(X_Forwarded_For="127.0.0.1").status == 200
    for said in ("nonsense", "x127.0.0.1", "127.0.0.1, unknown", ""):
        assert front.get(X_Forwarded_For=said).status == 503
    assert front.get().status == 503


def test_who_is_no_trusted_proxy_says_nothing_of_others(front: Front) -> None:
    """Nor of itself: here 127.0.0.1 is the only one that is believed."""
    front.close(allow=("127.0.0.3",))
    assert front.get(source="127.0.0.2", X_Forwarded_For="192.0.2.9").status == 503
    assert front.get(source="127.0.0.2", X_Forwarded_For="127.0.0.3").status == 503
    assert front.get(source="127.0.0.3").status == 200
    assert front.get(source="127.0.0.3", X_Forwarded_For="203.0.113.1").status == 200


def test_a_secret_or_an_address_is_no_path(front: Front) -> None:
    front.close()
    for name in ("pass-", "address-"):
        (front.state / name).mkdir()
    for wrong in ("/../closed", f"/../pass-{PASS}", f"{PASS}/", PASS.upper(), ""):
        assert front.get(cookie=wrong or "/").status == 503
        assert front.get(f"/?{front.site.cookie}={wrong}").status == 503
        assert front.get(X_Forwarded_For=wrong).status == 503


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_whatever_is_asked_the_page_answers(front: Front, method: str) -> None:
    front.close("new shelves")
    found = front.get("/anything", method=method)
    assert (found.status, found.headers["x-maintenance"]) == (503, "shop-prod")
    assert ("new shelves" in found.body) == (method != "HEAD")


def test_closed_once_more_keeps_its_beginning_and_its_secret(front: Front) -> None:
    first = front.close("one").answer["record"]
    front.close("two", run=False)
    second = front.look().answer["record"]
    assert (second["since"], second["pass"]) == (first["since"], first["pass"])
    assert second["reason"] == "two"
    assert "two" in front.get().body


def test_what_a_person_closed_stays_theirs(front: Front) -> None:
    front.close("by hand")
    front.close("a release", run=True)
    record = front.look().answer["record"]
    assert (record["reason"], record["by_run"]) == ("by hand", False)
    assert "by hand" in front.get().body


def test_what_a_run_left_closed_stays_its_own_whatever_a_person_tells(front: Front) -> None:
    """Or the same deploy once more would take it for closed by hand, and not open it."""
    front.close("Release r2", run=True)
    first = front.look().answer["record"]
    front.close("back at six", until=1_800_000_000)
    record = front.look().answer["record"]
    assert record == {**first, "told": "back at six", "until": 1_800_000_000}
    assert (record["by_run"], record["reason"]) == (True, "Release r2")
    assert "back at six" in front.get().body
    assert json.loads(front.get("/api/").body)["reason"] == "back at six"
    assert "15 January 2027, 08:00 UTC" in front.get().body
    front.close("Release r3", run=True)
    record = front.look().answer["record"]
    assert (record["reason"], record["told"]) == ("Release r3", "")
    assert "back at six" not in front.get().body


def test_the_smoke_test_goes_past_the_page(front: Front) -> None:
    front.close()
    assert front.smoke().exit == 0


def test_nothing_is_closed_where_the_configuration_lacks_it(front: Front) -> None:
    front.site = type(front.site)(**{**vars(front.site), "key": "other"})
    done = front.close()
    assert done.exit == 1
    assert "visitors do not see the page" in done.err
    assert "`fab maintenance.config`" in done.err
    assert front.get().status == 200
    assert front.look().answer["record"] is None


def test_a_haproxy_that_knows_no_such_map_leaves_no_record(haproxy: Front, tmp_path: Path) -> None:
    """Or everybody took the site for closed by hand, and no deploy opened it again."""
    settings = haproxy.site.settings.model_copy(update={"folder": str(tmp_path)})
    haproxy.site = replace(haproxy.site, settings=settings)
    done = haproxy.close("new shelves")
    assert done.exit == 1
    assert "does HAProxy's configuration hold what" in done.err
    assert haproxy.look().answer == {"shown": False, "closed": False, "record": None}
    assert list(tmp_path.iterdir()) == []


def test_what_haproxy_refuses_leaves_its_files_as_they_were(
    haproxy: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its next reload closed the site, and nothing would tell why."""
    monkeypatch.setattr("roles.maintenance.page.LONGEST", 100_000)
    done = haproxy.close("x" * 20_000, allow=("198.51.100.7",))
    assert done.exit == 1
    assert "tune.bufsize" in done.err
    assert "fab hosts.setup" not in done.err
    maps = [haproxy.state / name for name in ("closed.map", "allowed.map")]
    assert [each.read_text() for each in maps] == ["", ""]
    assert haproxy.look().answer == {"shown": False, "closed": False, "record": None}
    haproxy.close("new shelves")
    before = [each.read_text() for each in maps]
    assert haproxy.close("x" * 20_000, allow=("198.51.100.7",)).exit == 1
    assert [each.read_text() for each in maps] == before
    assert haproxy.look().answer["record"]["reason"] == "new shelves"
    assert "new shelves" in haproxy.get().body


def test_a_socket_that_is_not_there(haproxy: Front, tmp_path: Path) -> None:
    settings = haproxy.site.settings.model_copy(update={"socket": str(tmp_path / "none")})
    haproxy.site = replace(haproxy.site, settings=settings)
    assert haproxy.close().err == (f"{tmp_path}/none: HAProxy's socket: No such file or directory "
                                   f"(`fab hosts.setup` lets this user in)\n")


def test_a_record_of_what_is_closed_no_more_tells_nothing_of_now(front: Front) -> None:
    """As where somebody opened, and the site was too slow to show it."""
    front.close("new shelves")
    stale = front.look().answer["record"]
    front.open()
    (front.state / "record.json").write_text(json.dumps({**stale, "since": 1.0}))
    done = front.close("Release r2", run=True)
    assert done.exit == 0
    record = done.answer["record"]
    assert (record["by_run"], record["reason"]) == (True, "Release r2")
    assert record["since"] > time.time() - 60
    assert front.open().answer["closed_for"] < 60
    assert front.look().answer["record"] is None


def test_a_503_of_nginx_itself_is_not_our_page(nginx: Front) -> None:
    """As of limit_req; the page's files stay where they were after the first maintenance."""
    nginx.close("new shelves")
    assert "x-maintenance" in nginx.get("/busy").headers
    nginx.open()
    found = nginx.get("/busy")
    assert (found.status, "x-maintenance" in found.headers) == (503, False)
    assert "new shelves" not in found.body


def test_another_site_of_the_same_frontend_stays_open(folder: Path) -> None:
    shop, blog = Front("haproxy", folder), Front("haproxy", folder, name="blog")
    for front in (shop, blog):
        front.prepare()
    with (servers.backends("web1") as made,
          servers.haproxy(folder, made, frontend=shop.config + blog.config) as opened):
        for front in (shop, blog):
            front.served_at(opened.port)
        done = shop.close("new shelves")
        assert (done.exit, done.err) == (0, "")
        link = f"/?{shop.site.cookie}={PASS}"
        assert [shop.get(path).status for path in ("/", "/api/", link)] == [503, 503, 303]
        assert shop.get(Host="SHOP.test").status == 503
        assert [blog.get(path).status for path in ("/", "/api/", link)] == [200, 200, 200]
        assert (shop.look().answer["shown"], blog.look().answer["shown"]) == (True, False)
        assert shop.smoke().exit == 0
        assert blog.close().exit == 0
        assert shop.open().exit == 0
        assert (shop.get().status, blog.get().status) == (200, 503)
        settings = shop.site.settings.model_copy(update={"ask": f"http://{{address}}:{shop.port}"})
        shop.site = replace(shop.site, url="https://shop.test/", settings=settings)
        assert shop.close().exit == 0


def test_all_names_below_one_are_closed_together(folder: Path) -> None:
    front = Front("haproxy", folder)
    front.prepare()
    front.site = replace(front.site, names=("shop.test", "*.Shop.test"))
    with (servers.backends("web1") as made,
          servers.haproxy(folder, made, frontend=front.config) as opened):
        front.served_at(opened.port)
        assert front.close().exit == 0
        hosts = ("shop.test", "a.shop.test:8080", "A.B.shop.test", "ashop.test", "shop.test.a")
        assert [front.get(Host=host).status for host in hosts] == [503, 503, 503, 200, 200]


def test_it_stays_closed_when_haproxy_starts_anew(haproxy: Front) -> None:
    haproxy.close("new shelves")
    lines = (haproxy.state / "closed.map").read_text().strip().split("\n")
    assert lines[0] == "state closed"
    assert lines[-1].startswith("html <!doctype html>")
    assert (haproxy.state / "closed.map").stat().st_mode & 0o077 == 0


def test_the_longest_page_there_may_be_and_letters_of_all_kinds(
    front: Front, tmp_path: Path
) -> None:
    own = tmp_path / "page.html"
    text = "é%[str(x)] \\ \"'; # <b>"
    own.write_text(f"{text}{'x' * (LONGEST - len(text.encode()))}")
    settings = front.site.settings.model_copy(update={"template": str(own)})
    front.site = replace(front.site, settings=settings)
    reason = f"a\nb %[str(x)] \\ \"'{'Ж' * 5_850}"
    assert (front.close(reason).exit, front.get().body) == (0, own.read_text())
    assert json.loads(front.get("/api/").body)["reason"] == reason


@pytest.mark.parametrize("more", [{"allow": ["127.0.0.0/8"], "trusted_proxies": []}])
def test_where_it_is_open_for_the_proxy_itself_others_get_the_page(
    front: Front, more: dict[str, list[str]]
) -> None:
    """We ask from its own address, and see what others do."""
    for allow in ((), ("127.0.0.1",)):
        done = front.close("new shelves", allow=allow)
        assert (done.exit, done.err) == (0, "")
        assert front.look().answer["shown"] is True
        assert front.get().body == "web1"
        assert front.get(X_Maintenance="show").status == 503
        assert front.get("/check", X_Maintenance="show").status == 200
        assert front.smoke().exit == 0
        assert front.open().exit == 0
        assert front.get(X_Maintenance="show").body == "web1"


def test_whom_a_trusted_proxy_names_gets_the_page_who_asks_for_it(front: Front) -> None:
    front.close(allow=("198.51.100.7",))
    for address in ("192.0.2.9", "198.51.100.7"):
        assert front.get(X_Forwarded_For=address).status == 200
        assert front.get(X_Forwarded_For=address, X_Maintenance="show").status == 503
        assert front.get(X_Forwarded_For=address, X_Maintenance="0").status == 200


def test_scripts_and_what_is_set_in_lines_keep_theirs(front: Front, tmp_path: Path) -> None:
    own = tmp_path / "page.html"
    own.write_text("<script>\n// look\nlook()\n</script>\n<pre>a\n\n  b</pre>\n")
    settings = front.site.settings.model_copy(update={"template": str(own)})
    front.site = replace(front.site, settings=settings)
    assert front.close().exit == 0
    found = front.get().body
    if settings.driver == "haproxy":
        assert found.count("\u2028") == 3
        assert (front.state / "closed.map").read_text().count("\n") == 5
    assert found.replace("\u2028", "\n").replace("&#10;", "\n").replace("> <", ">\n<") == (
        own.read_text().strip())
