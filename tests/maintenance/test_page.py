"""The page itself, as text; how it looks is for browsers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inventories.errors import UsageError
from roles.maintenance import MaintenanceSettings
from roles.maintenance.page import LONGEST, render_page, retry_after

NEW_YEAR = 1_798_761_600.0  # 2027-01-01 00:00 UTC


def settings(**changes: object) -> MaintenanceSettings:
    return MaintenanceSettings.model_validate({"driver": "haproxy", **changes})


def test_it_is_one_line_with_nothing_to_load() -> None:
    html, _ = render_page(settings(), "", 0)
    assert "\n" not in html
    assert len(html.encode()) < LONGEST
    for word in ("src=", "<link", "@import", "url(", "https://", "http://"):
        assert word not in html


def test_it_comes_back_through_a_redirect_and_to_a_fragment() -> None:
    """Without these a browser takes a redirect to https for a failure, and never leaves the page of
    an address with a fragment."""
    html, _ = render_page(settings(), "", 0)
    assert 'fetch(location.href, { method: "HEAD", cache: "no-store", redirect: "manual" })' in html
    assert ('if (location.href.indexOf("#") < 0) { location.replace(location.href); } '
            "else { location.reload(); }") in html


def test_what_people_type_is_escaped() -> None:
    html, data = render_page(settings(title="A & B", contact="<b>"), "<script>alert(1)</script>", 0)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "A &amp; B" in html
    assert "&lt;b&gt;" in html
    assert json.loads(data)["reason"] == "<script>alert(1)</script>"


def test_the_end_is_told_to_people_and_programs() -> None:
    html, data = render_page(settings(), "", NEW_YEAR)
    assert '<time id="until" datetime="2027-01-01T00:00:00+00:00">' in html
    assert "01 January 2027, 00:00 UTC" in html
    assert json.loads(data)["until"] == "2027-01-01T00:00:00+00:00"


def test_without_an_end_it_says_none() -> None:
    html, data = render_page(settings(retry_after=90), "", 0)
    assert "<time" not in html
    assert '<noscript><meta http-equiv="refresh" content="90"></noscript>' in html
    assert json.loads(data)["until"] is None


@pytest.mark.parametrize(("left", "expected"), [
    (-5, 60), (59, 60), (299, 120), (300, 300), (3_599, 1_800), (1e6, 3_600),
])
def test_nobody_is_told_to_wait_beyond_the_end(left: float, expected: int) -> None:
    """In seconds, as the end itself would stand there still when it is over."""
    assert retry_after(left) == expected


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "page.html"
    own.write_text("<!doctype html>\n<title>{{ title }}</title>\n  <p>{{ reason }}</p>\n")
    html, _ = render_page(settings(template=str(own), title="x < y"), "why", 0)
    assert html == "<!doctype html> <title>x &lt; y</title> <p>why</p>"


@pytest.mark.parametrize("driver", ["nginx", "apache", "stand-in"])
def test_what_is_no_line_of_a_map_stays_as_it_is(tmp_path: Path, driver: str) -> None:
    own = tmp_path / "page.html"
    own.write_text("<script>\n  // look\n  look()\n</script>\n<pre>{{ title }}\n\n  b</pre>\n")
    html, _ = render_page(settings(driver=driver, template=str(own), title="a"), "", 0)
    assert html == "<script>\n  // look\n  look()\n</script>\n<pre>a\n\n  b</pre>"


@pytest.mark.parametrize(("content", "said"), [
    ("{{ tittle }}", "'tittle' is undefined"),
    ("{% if %}", "Expected an expression"),
    ("x" * (LONGEST + 1), f"1 bytes too long: a page may have {LONGEST}"),
])
def test_a_template_that_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    own = tmp_path / "page.html"
    own.write_text(content)
    with pytest.raises(UsageError) as refused:
        render_page(settings(template=str(own)), "", 0)
    assert str(refused.value).startswith(f"maintenance.template: {own}: ")
    assert said in str(refused.value)


def test_what_programs_read_has_its_own_limit(tmp_path: Path) -> None:
    own = tmp_path / "page.html"
    own.write_text("soon")
    longest = settings(template=str(own), text="Ж" * 5_900)
    assert len(render_page(longest, "", 0)[1].encode()) <= LONGEST
    with pytest.raises(UsageError) as refused:
        render_page(settings(template=str(own), text="Ж" * 6_000), "", 0)
    assert str(refused.value) == (
        f"maintenance.text: 96 bytes too long: an answer in JSON may have {LONGEST}, as balancers "
        f"keep it in memory")


@pytest.mark.parametrize(("changes", "reason", "said"), [
    ({}, "x" * 13_000, "--reason: "), ({"text": "x" * 13_000}, "disks", "maintenance.text: "),
    ({}, 'a"' * 3_000, "--reason: "),
])
def test_what_is_too_long_is_named(changes: dict[str, object], reason: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"^\S+ \d+ bytes too long: a page") as refused:
        render_page(settings(**changes), reason, 0)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(("changes", "reason", "said"), [
    ({}, "Gr\udcf6\udcdfe", r"--reason: expected text in UTF-8, got 'Gr\udcf6\udcdfe'; "),
    ({"contact": "\ud83d"}, "", r"maintenance.contact: expected text in UTF-8, got '\ud83d'; "),
])
def test_letters_that_are_none(changes: dict[str, object], reason: str, said: str) -> None:
    """As typed in a terminal that writes Latin-1."""
    with pytest.raises(UsageError) as refused:
        render_page(settings(**changes), reason, 0)
    assert str(refused.value).startswith(said)


def test_a_template_in_latin_1(tmp_path: Path) -> None:
    own = tmp_path / "page.html"
    own.write_bytes(b"<p>Zur\xfcck</p>")
    with pytest.raises(UsageError) as refused:
        render_page(settings(template=str(own)), "", 0)
    assert str(refused.value) == (f"maintenance.template: {own}: expected a file in UTF-8, which "
                                  f"byte 6 is not; save it so")


def test_a_template_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"maintenance\.template: /no/such: No such file"):
        render_page(settings(template="/no/such"), "", 0)


@pytest.mark.parametrize(("changes", "said"), [
    ({"allow": ["office"]}, "expected addresses or networks such as 192.0.2.0/24, got 'office'"),
    ({"trusted_proxies": ["10.0.0.1/8"]}, "got '10.0.0.1/8'"),
    ({"ask": "lb1:80"}, "expected such as http://{address}:8080, got 'lb1:80'"),
    ({"ask": "http://{address}:http"}, "got 'http://{address}:http'"),
    ({"ask": "http://{address}:80800"}, "got 'http://{address}:80800'"),
    ({"ask": "http://[lb1]:8080"}, "got 'http://[lb1]:8080'"),
    ({"ask": "http://{adress}:8080"}, "got 'http://{adress}:8080'"),
    ({"ask": "http://:8080"}, "got 'http://:8080'"),
    ({"names": ["https://shop.test/"]}, "expected host names such as shop.example, got 'https:"),
    ({"names": ["a.*.test"]}, "expected host names such as shop.example, got 'a.*.test'"),
    ({"always": ["healthz"]}, "expected paths that begin with /, got 'healthz'"),
    ({"api": ['/x" }']}, "expected paths that begin with /"),
])
def test_settings_that_are_wrong(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match="validation error") as refused:
        settings(**changes)
    assert said in str(refused.value)
