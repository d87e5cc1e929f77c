"""Everything a strategy sees of a fleet, put together from inventory, release and facts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from fabfile.environment import Environment
from roles.hooks import HooksSettings
from roles.registry import roles
from roles.role import HostFacts, Release, Target, Wheelhouse
from roles.wsgi import applies, manager_of


@dataclass(frozen=True)
class Fleet:
    """``targets`` are the hosts of this run, ``migration`` the one that migrates (it may be
    outside of them), ``pending`` the migrations Django named as ``app.name`` per database."""

    environment: str
    targets: tuple[Target, ...]
    migration: Target
    hooks: HooksSettings
    pending: tuple[str, ...] = ()

    @property
    def release(self) -> Release:
        return self.targets[0].release

    def called(self, name: str) -> Target:
        return next(target for target in self.targets if target.name == name)


def bare_target(
    environment: Environment, facts: HostFacts, release: Release, wheels: Wheelhouse | None
) -> Target:
    host = environment.inventory.hosts[facts.host]
    return Target(
        host=host,
        paths=environment.paths(host),
        settings=environment.settings[host.name],
        facts=facts,
        release=release,
        venv=wheels.digest if wheels else None,
        wheelhouse=wheels,
    )


def with_runtime(target: Target, subfolder: str) -> Target:
    """The target with what the launcher has to know of the release (``roles/onhost/launch.py``)."""
    tree = target.paths.release(target.release.id)
    env: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    for role in roles():
        env.update(role.environment(target))
        commands.update(role.commands(target))
    return replace(target, runtime={
        "release": target.release.id,
        "directory": f"{tree}/{subfolder}".rstrip("/"),
        "venv": target.paths.venv(target.venv) if target.venv else None,
        "environment": env,
        "commands": commands,
    })


def named(
    environment: Environment, unnamed: Release, dependencies: str, subfolder: str, name: str
) -> Release:
    """The release with its id: ``name`` and a digest of everything that makes it what it is.

    Content, dependencies and settings of *all* hosts count, so the id is the same whichever hosts
    a run chooses, and other settings make another release.
    """
    summed = hashlib.sha256(f"{unnamed.digest} {dependencies}".encode())
    for host in environment.hosts:
        target = bare_target(environment, HostFacts(host.name), unnamed, None)
        runtime = with_runtime(target, subfolder).runtime
        summed.update(json.dumps([host.name, runtime], sort_keys=True).encode())
    return replace(unnamed, id=f"{name}-{summed.hexdigest()[:6]}")


def is_live(target: Target) -> bool:
    """Whether this host already serves this release, and nothing else."""
    facts, release = target.facts, target.release.id
    if facts.current != release:
        return False
    if not applies(target):
        return True
    service = manager_of(target).service
    return facts.services.get(service) == "active" and facts.running == (release,)


