"""The pieces of configuration, as text; what they do is for the real servers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from roles import maintenance
from roles.maintenance import Driver, MaintenanceSettings, Site

NAMES = {
    "haproxy": r"acl (\w+)|set-var\(txn\.(\w+)\)",
    "nginx": r"(?:set|map \S+|geo \S+) \$(\w+)|location (\S* ?\S+)",
    "apache": r"E=!?(\w+)|ErrorDocument 510 (\S+)",
}


def config(driver: Driver, key: str, scheme: str = "https", **more: list[str]) -> str:
    settings = MaintenanceSettings.model_validate({
        "driver": driver, "allow": ["192.0.2.0/24"], "trusted_proxies": ["10.0.0.0/8"], **more})
    return maintenance.config(Site(key, settings, (), f"{scheme}://{key}.test/", "/up"))


def names(driver: Driver, key: str) -> set[str]:
    found = re.findall(NAMES[driver], config(driver, key))
    return {name for names in found for name in names if name}


@pytest.mark.parametrize("driver", ["haproxy", "nginx", "apache"])
def test_two_sites_at_one_server_share_no_name(driver: Driver) -> None:
    shop, blog = names(driver, "shop-prod"), names(driver, "blog-prod")
    assert len(shop) == len(blog) > 1
    assert shop.isdisjoint(blog)


def test_paths_are_no_patterns_for_apache() -> None:
    found = config("apache", "shop-prod", api=["/v1.0/", "/c++/"], always=["/up.txt"])
    assert r"RewriteCond %{REQUEST_URI} ^/v1\.0/ [OR]" in found
    assert r"RewriteCond %{REQUEST_URI} ^/c\+\+/" in found
    assert "RewriteCond %{REQUEST_URI} =/up.txt" in found


@pytest.mark.parametrize("driver", ["haproxy", "nginx"])
def test_the_way_past_the_page_stays_inside_tls(driver: Driver) -> None:
    assert "; Path=/; HttpOnly; SameSite=Lax; Secure" in config(driver, "shop-prod")
    assert "; Path=/; HttpOnly; SameSite=Lax\"" in config(driver, "shop-prod", scheme="http")


@pytest.mark.parametrize("driver", ["haproxy", "nginx", "apache"])
def test_without_paths_and_networks_it_still_is_whole(driver: Driver) -> None:
    found = config(driver, "shop-prod", api=[], allow=[], trusted_proxies=[])
    assert found.endswith("# --- end of maintenance\n")
    assert "192.0.2.0" not in found


def test_haproxy_knows_an_address_of_ipv6_by_its_brackets() -> None:
    site = Site("shop", MaintenanceSettings(driver="haproxy"), (), "https://[2001:db8::1]:8443/",
                "/up", names=("2001:db8::1", "shop.test"))
    lines = maintenance.config(site).splitlines()
    assert [line.strip() for line in lines if "_named r" in line] == [
        "acl shop_named req.hdr(host) -i -m beg [2001:db8::1]",
        "acl shop_named req.hdr(host),field(1,:) -i shop.test"]


def test_haproxy_closes_every_site_only_where_it_knows_no_name_of_this_one() -> None:
    settings = MaintenanceSettings(driver="haproxy")
    site = Site("shop-prod", settings, (), "http://10.0.0.1/", "/up")
    nameless = maintenance.config(site)
    assert "every site of the frontend is closed with it: maintenance.names" in nameless
    assert "req.hdr(host)" not in nameless
    found = maintenance.config(replace(site, names=("shop.test", "www.shop.test")))
    assert "every site" not in found
    assert "    acl shop_prod_named req.hdr(host),field(1,:) -i www.shop.test\n" in found
    returned = [line for line in found.splitlines() if "http-request return" in line]
    assert len(returned) == 3
    assert all(" if shop_prod_named shop_prod_closed " in line for line in returned)
