"""Small fleets, made as the product makes them: an inventory folder, an environment, facts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fabfile.environment import Environment, open_environment
from fabfile.strategies.preflight import digest
from fabfile.strategies.targets import Fleet, bare_target, with_runtime
from roles.command import Action, OnHost
from roles.deploy import DeploySettings
from roles.migrations import Portion
from roles.registry import roles
from roles.role import HostFacts, Release, Step, Target, Wheelhouse

OLD, NEW = "20260101-080000-aaaaaaa-111111", "20260102-080000-bbbbbbb-222222"
UNIT = "shop-wsgi.service"

RELEASE = Release(
    id=NEW, tree="/cache/trees/b/tree", manifest="/cache/trees/b/manifest.json",
    digest="d" * 64, files=200, size=5_000_000, commit="b" * 40, ref="main", origin="/src/shop",
)
WHEELS = Wheelhouse("/cache/wheels/cafe", "requirements.txt", "cafe", "/cache/uv/1")

SETTINGS: Mapping[str, Any] = {
    "app": {"name": "shop"},
    "release": {"folder": "/src/shop"},
    "migrations": {"host": "web1"},
    "wsgi": {"application": "config.wsgi:application"},
}


def open_fleet(
    folder: Path,
    hosts: Iterable[str] = ("web1", "web2", "web3"),
    own: Mapping[str, Mapping[str, Any]] | None = None,
    proxies: Iterable[str] = (),
    groups: Mapping[str, Iterable[str]] | None = None,
    **changes: Mapping[str, Any],
) -> Environment:
    """An environment ``prod`` in ``folder``. ``changes`` go into the roles' settings, ``own`` are
    variables of single hosts; ``proxies`` are hosts of the group proxy, without settings;
    ``groups`` are more groups of the hosts."""
    variables = dict(SETTINGS)
    for role, values in changes.items():
        variables[role] = {**SETTINGS.get(role, {}), **values}
    web = {"hosts": {host: dict((own or {}).get(host, {})) for host in hosts}, "vars": variables}
    (folder / "prod").mkdir(exist_ok=True)
    # JSON is YAML, and needs no thought about quoting.
    proxy: dict[str, Any] = {"hosts": {host: {} for host in proxies}}
    listing = {"web": web, **({"proxy": proxy} if proxy["hosts"] else {})}
    for name, members in (groups or {}).items():
        listing[name] = {"hosts": {host: {} for host in members}}
    (folder / "prod" / "hosts.yml").write_text(json.dumps(listing))
    return open_environment("prod", str(folder))


def ready(host: str, **changes: Any) -> HostFacts:
    """A host on which nothing speaks against a deploy; it serves OLD."""
    facts = HostFacts(
        host, user="deploy", python="3.11.2", venv_python="3.11.2", machine="x86_64",
        libc="glibc-2.36", tools={"rsync": "/usr/bin/rsync", "uv": "/usr/bin/uv"},
        root_exists=True, writable=True, free_bytes=10**10, free_inodes=10**6, clock=1000.0,
        current=OLD, releases=(OLD,), running=(OLD,), services={UNIT: "active"},
    )
    return replace(facts, **changes)


def live(host: str, **changes: Any) -> HostFacts:
    """A host that serves NEW already."""
    return ready(host, **{"current": NEW, "releases": (OLD, NEW), "running": (NEW,), **changes})


def fresh(host: str, **changes: Any) -> HostFacts:
    """A host that was never deployed to."""
    nothing = {"current": None, "releases": (), "running": (), "services": {UNIT: "inactive"}}
    return ready(host, **{**nothing, **changes})


def make_fleet(
    environment: Environment,
    *facts: HostFacts,
    pending: Sequence[str] = (),
    release: Release = RELEASE,
    wheels: Wheelhouse | None = WHEELS,
    chosen: Iterable[str] | None = None,
) -> Fleet:
    """The fleet that a session would make; without facts every host serves OLD."""
    known = {each.host: each for each in facts or [ready(host.name) for host in environment.hosts]}
    targets = {
        name: _installed(with_runtime(bare_target(environment, each, release, wheels), ""))
        for name, each in known.items()
    }
    names = [host.name for host in environment.hosts if host.name in (chosen or targets)]
    only = {"default": tuple(pending)}
    expand = Portion("expand", only, {"default": tuple((name, "0" * 64) for name in pending)})
    return Fleet(
        environment.name, tuple(targets[name] for name in names),
        targets[environment.migration_host.name], environment.hooks,
        environment.of(DeploySettings, "deploy"),
        {host.name: environment.balancers(host) for host in environment.hosts},
        expand=expand if pending else None,
    )


def _installed(target: Target) -> Target:
    """The host has what ``hosts.setup`` brings, unless the facts say otherwise."""
    if target.facts.files:
        return target
    wanted = [role.setup(target) for role in roles()]
    files = {path: digest(text)
             for each in wanted for path, text in {**each.files, **each.programs}.items()}
    return replace(target, facts=replace(target.facts, files=files))


def one_target(environment: Environment, facts: HostFacts | None = None) -> Target:
    """The first host alone."""
    first = environment.hosts[0].name
    rest = [ready(host.name) for host in environment.hosts[1:]]
    return make_fleet(environment, facts or ready(first), *rest).called(first)


def told(steps: Iterable[Step]) -> list[str]:
    """``step: line`` for every action, as a plan shows it and a host sees it."""
    return [f"{step.name}: {action.shown}" for step in steps for action in step.actions]


def arguments(action: Action) -> Mapping[str, Any]:
    assert isinstance(action, OnHost)
    return action.arguments
