"""By which names a site is asked for."""

from __future__ import annotations

import pytest

from roles.maintenance.names import names_of


@pytest.mark.parametrize(("names", "urls", "expected"), [
    ([], ["https://Shop.Example:8443/x", "http://www.shop.example"],
     ("shop.example", "www.shop.example")),
    ([], ["http://10.88.0.31/", "http://[2001:db8::1]/", "http://localhost:8000/"], ()),
    ([], ["https://shop.example/", "http://10.88.0.31/"], ("shop.example", "10.88.0.31")),
    (["WWW.shop.example", "shop.example"], ["https://shop.example/", "https://admin.example/"],
     ("shop.example", "www.shop.example")),
    (["shop.example"], ["http://10.88.0.31/"], ("10.88.0.31", "shop.example")),
    ([], ["https://bücher.example/"], ("xn--bcher-kva.example",)),
    ([], ["nonsense"], ()),
    ([], ["https://shop.example/", f"https://{'ü' * 64}.example/"], ("shop.example",)),
])
def test_names(names: list[str], urls: list[str], expected: tuple[str, ...]) -> None:
    assert names_of(names, urls) == expected
