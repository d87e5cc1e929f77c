"""``method: beside``: command lines, unit files, the steps of a turn, and what is refused."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile.preparation import arguments as setup_arguments
from fabfile.strategies import contracting, rolling
from fabfile.strategies.targets import is_live
from inventories.errors import InventoryError
from roles.migrations import Portion
from roles.role import Target
from tests.fabfile.fleets import (
    NEW,
    OLD,
    UNIT,
    arguments,
    live,
    make_fleet,
    one_target,
    open_fleet,
)
from tests.fabfile.strategies.outline import stage_of

LINK = "/run/shop/wsgi.sock"
BESIDE: dict[str, Any] = {"method": "beside", "bind": LINK}
HELPER = "/usr/local/sbin/fabfleet-shop-servers"
SERVER = f"shop-wsgi@{NEW}.service"


def beside(folder: Path, **wsgi: Any) -> Target:
    return one_target(open_fleet(folder, ["web1"], {"web1": {"ansible_user": "deploy"}},
                                 wsgi={**BESIDE, **wsgi}, app={"user": "shop"}))


@pytest.mark.parametrize(("server", "words"), [
    ("gunicorn", "--bind unix:/run/shop/wsgi-@INSTANCE@.sock"),
    ("uwsgi", "--http-socket /run/shop/wsgi-@INSTANCE@.sock"),
    ("granian", "--uds /run/shop/wsgi-@INSTANCE@.sock"),
    ("waitress", "--unix-socket /run/shop/wsgi-@INSTANCE@.sock"),
])
def test_each_server_has_a_socket_of_its_own(tmp_path: Path, server: str, words: str) -> None:
    target = beside(tmp_path, server=server)
    assert words in " ".join(target.runtime["commands"]["wsgi"])


def test_what_setup_brings(tmp_path: Path) -> None:
    beside(tmp_path)
    environment = open_fleet(tmp_path, ["web1"], {"web1": {"ansible_user": "deploy"}},
                             wsgi=BESIDE, app={"user": "shop"})
    found: Any = setup_arguments(environment, environment.hosts[0])
    folder = "/etc/systemd/system"
    unit = found["units"][f"{folder}/shop-wsgi@.service"]
    for line in ("ExecStart=/usr/bin/python3 -I /srv/shop/.fabfleet/launch.py --release %i wsgi",
                 "Description=shop WSGI server of release %i", "RuntimeDirectory=shop",
                 "RuntimeDirectoryPreserve=yes", "User=shop"):
        assert f"\n{line}\n" in unit
    assert "[Install]" not in unit
    assert found["gone"] == [f"{folder}/{UNIT}", f"{folder}/shop-wsgi.socket"]
    assert f"deploy ALL=(root) NOPASSWD: {HELPER}\n" in found["sudoers"][1]


def test_after_a_boot_the_link_leads_to_the_current_release(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, ["web1"], {"web1": {"ansible_user": "deploy"}},
                             wsgi=BESIDE)
    found: Any = setup_arguments(environment, environment.hosts[0])
    path, run = tmp_path / "helper", tmp_path / "run"
    path.write_text(found["programs"][HELPER].replace("/usr/bin/system", "echo system")
                    .replace("/srv/shop", str(tmp_path)).replace("/run/shop", str(run)))
    (tmp_path / "current").symlink_to("releases/v1-abc")
    done = subprocess.run(["sh", path, "boot"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "systemctl --no-block start shop-wsgi@v1-abc.service"
    assert (run / "wsgi.sock").readlink() == run / "wsgi-v1-abc.sock"


def test_the_steps_of_a_turn(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, ["web1"], wsgi=BESIDE)
    turn = stage_of(rolling.plan(make_fleet(environment)), "roll").turns[0]
    assert [step.name for step in turn.steps] == [
        "release.switch", "wsgi.beside", "wsgi.health", "wsgi.flip"]
    begin, asked, flip = (arguments(step.actions[0]) for step in turn.steps[1:])
    assert (begin["action"], begin["template"], begin["release"]) == ("start", "shop-wsgi", NEW)
    assert (asked["address"], asked["release"]) == (f"{LINK}.next", NEW)
    assert (flip["action"], flip["link"], flip["keep"]) == ("flip", LINK, 600)
    assert [arguments(step.actions[0]).get("release") for step in turn.recover[1:]] == [OLD] * 3


def test_a_contract_ends_what_is_kept_first(tmp_path: Path) -> None:
    portion = Portion("contract", {"default": ("shop.2",)}, {"default": (("shop.2", "0"),)})
    environment = open_fleet(tmp_path, ["web1"], wsgi=BESIDE)
    plan = contracting.plan(replace(make_fleet(environment), contract=portion))
    assert [step.name for _, step in plan.steps()][:2] == ["wsgi.retire", "release.drained"]


@pytest.mark.parametrize(("changes", "answer"), [
    ({}, True),
    ({"services": {SERVER: "active", f"shop-wsgi@{OLD}.service": "active"},
      "running": (OLD, NEW), "draining": (OLD,)}, True),
    ({"links": {LINK: f"/run/shop/wsgi-{NEW}:2.sock"},
      "services": {f"shop-wsgi@{NEW}:2.service": "active"}}, True),
    ({"links": {LINK: f"/run/shop/wsgi-{OLD}.sock"}}, False),
    ({"links": {LINK: ""}}, False),
    ({"services": {SERVER: "deactivating"}}, False),
    ({"services": {}}, False),
])
def test_what_is_live(tmp_path: Path, changes: dict[str, Any], answer: bool) -> None:
    facts = live("web1", services={SERVER: "active"},
                 links={LINK: f"/run/shop/wsgi-{NEW}.sock"})
    target = replace(beside(tmp_path), facts=replace(facts, **changes))
    assert is_live(target) is answer


@pytest.mark.parametrize(("wsgi", "said"), [
    ({"bind": "127.0.0.1:8000"}, "method: beside turns a link from one socket to another"),
    ({"bind": "/run/wsgi.sock"}, "method: beside turns a link from one socket to another"),
    ({"bind": "/run/shop/wsgi"}, "method: beside turns a link from one socket to another"),
    ({"manager": "supervisor"}, "method: beside needs systemd"),
    ({"socket_activation": True}, "socket_activation: expected false with method: beside"),
    ({"server": "mod_wsgi"}, "wsgi.method: expected reload or touch for mod_wsgi"),
])
def test_what_is_refused(tmp_path: Path, wsgi: dict[str, Any], said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        beside(tmp_path, **wsgi)
    assert said in str(caught.value)
