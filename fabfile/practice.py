"""The lab as an environment: what the inventory names is what boots."""

from __future__ import annotations

import json
from dataclasses import asdict

from fabfile.engine.programs import build_sample
from fabfile.environment import CHECKOUT, inventories_root
from fabfile.errors import Failed, UsageError
from fabfile.lab import Lab, LabHost
from fabfile.preparation import prepare_hosts
from inventories.load import load

SITE = CHECKOUT / "tests" / "sites" / "history.py"


def lab_of(env: str, inventory: str) -> Lab:
    """The lab of an environment; its hosts' addresses have to be IP addresses of one /24."""
    found = load(env, inventories_root(inventory or None))
    hosts = [
        LabHost(host.name, host.connection.address, host.groups) for host in found.hosts.values()
    ]
    if not hosts:
        raise UsageError(f"{found.path}: no hosts; the lab boots the hosts of an inventory")
    return Lab(env, hosts)


def bring_up(env: str, inventory: str) -> None:
    """Images, hosts, the sample site, and ``fab hosts.setup`` as root over SSH."""
    lab = lab_of(env, inventory)
    lab.install_needs()
    lab.up(print)
    problem = build_sample(SITE, lab.directory / "site")
    if problem:
        raise Failed(f"lab {env}: the sample site cannot be built: {problem}")
    prepare_hosts(env, inventory, None, "root", dry_run=False, yes=True)
    print(f"next: fab deploy --env={env}")


def show(lab: Lab, as_json: bool) -> None:
    rows = lab.status()
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    for row in rows:
        cut = "  cut off" if row.cut else ""
        print(f"{row.name:10} {row.address:15} {row.state}{cut}  {', '.join(row.groups)}")
