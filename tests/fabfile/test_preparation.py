"""What `fab hosts.setup` brings to hosts of balancers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from fabfile.environment import Environment, open_environment
from fabfile.errors import InventoryError, UsageError
from fabfile.preparation import arguments, balancer_hosts
from tests.fabfile.fleets import SETTINGS

HEAD = "# Written by `fab hosts.setup`: what deploy may do for shop's balancer, and nothing more.\n"
NGINX = {"driver": "nginx", "backend": "shop", "nginx": {"config": "/etc/nginx/conf.d/shop.conf"}}


def environment(
    folder: Path, settings: dict[str, Any], user: str = "deploy"
) -> Environment:
    variables = {**SETTINGS, "ansible_user": user, "balancer": settings}
    inventory = {"all": {"vars": variables}, "web": {"hosts": {"web1": None, "web2": None}},
                 "proxy": {"hosts": {"lb1": None}}}
    (folder / "prod").mkdir(exist_ok=True)
    (folder / "prod" / "hosts.yml").write_text(json.dumps(inventory))
    return open_environment("prod", str(folder))


def test_a_balancer_gets_a_user_and_rules_and_no_deploy_root(tmp_path: Path) -> None:
    found = environment(tmp_path, {"driver": "haproxy", "backend": "web"})
    (host,) = balancer_hosts(found)
    assert (host.name, arguments(found, host)) == ("lb1", {
        "root": "", "deploy": "deploy", "service": None, "packages": ["python3", "sudo"],
        "programs": {}, "units": {}, "gone": [], "private": [],
        "sudoers": ["/etc/sudoers.d/fabfleet-shop", HEAD],
        "sockets": ["/run/haproxy/admin.sock"], "page": None,
    })
    assert arguments(found, found.hosts[0])["sockets"] == []


def test_nginx_needs_rules(tmp_path: Path) -> None:
    found = environment(tmp_path, NGINX)
    told = arguments(found, balancer_hosts(found)[0])
    _, rules = cast(list[str], told["sudoers"])
    assert rules.startswith(f"{HEAD}# For nginx's upstream. ")
    assert rules.count("NOPASSWD") == 4
    assert told["sockets"] == []
    if visudo := shutil.which("visudo", path="/usr/sbin:/usr/bin"):
        file = tmp_path / "rules"
        file.write_text(rules)
        subprocess.run([visudo, "-c", "-q", "-f", file], check=True)


def test_a_host_with_code_may_be_a_balancer_too(tmp_path: Path) -> None:
    found = environment(tmp_path, {**NGINX, "hosts": ["web1"]})
    assert balancer_hosts(found) == []
    texts = [str(arguments(found, host)["sudoers"]) for host in found.hosts]
    assert [("tee" in text, "shop-wsgi.service" in text) for text in texts] == [
        (True, True), (False, True)]


@pytest.mark.parametrize("driver", ["none", "health-file"])
def test_drivers_without_hosts_prepare_none(tmp_path: Path, driver: str) -> None:
    assert balancer_hosts(environment(tmp_path, {"driver": driver, "hosts": ["x"]})) == []


def test_a_balancer_wants_an_ordinary_user(tmp_path: Path) -> None:
    found = environment(tmp_path, NGINX, user="root")
    with pytest.raises(UsageError, match=r"ansible_user: root; name an ordinary user who deploys"):
        arguments(found, balancer_hosts(found)[0])


def test_a_group_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InventoryError) as error:
        environment(tmp_path, {**NGINX, "hosts": ["lbs"]})
    assert str(error.value).endswith(
        "balancer.hosts: no host or group lbs; name those that it runs on")
