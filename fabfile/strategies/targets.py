"""Everything a strategy sees of a fleet, put together from inventory, release and facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fabfile.environment import Environment
from inventories.model import Host
from roles.deploy import DeploySettings
from roles.hooks import HooksSettings
from roles.maintenance import Closed, Site
from roles.migrations import Portion
from roles.registry import roles
from roles.role import HostFacts, Release, Target, Wheelhouse


@dataclass(frozen=True)
class Fleet:
    """``targets`` are the hosts of this run; ``migration`` is the one that migrates and
    ``scheduler`` the one that runs the scheduler, if any (either may be outside of them).
    ``expand`` are the migrations that run before any host is switched, ``contract`` those that wait
    until no host runs the old code. ``skipped`` hosts did not answer and have to catch up.
    ``balancers`` are the balancer hosts of each host; ``rotating`` are the hosts that they all send
    requests to, where that was asked. ``site`` is what can be closed, and ``closed`` how it is
    closed now; ``who`` runs this, and ``until`` the end of the window that it is in (seconds since
    the epoch, 0: in none). ``left``: an earlier run has left it closed, or nobody serves; and
    ``outgrown``: the code that is there must not be started again, as the database has moved since.
    ``back``: it is on the way to an earlier release."""

    environment: str
    targets: tuple[Target, ...]
    migration: Target
    hooks: HooksSettings
    deploy: DeploySettings
    balancers: Mapping[str, tuple[Host, ...]]
    scheduler: Target | None = None
    skipped: tuple[str, ...] = ()
    rotating: frozenset[str] = frozenset()
    site: Site | None = None
    closed: Closed | None = None
    who: str = ""
    until: float = 0
    left: bool = False
    outgrown: bool = False
    back: bool = False
    expand: Portion | None = None
    contract: Portion | None = None

    @property
    def closed_by_run(self) -> bool:
        """Whether a run has closed the site, and did not open it again."""
        return self.closed is not None and self.closed.by_run

    @property
    def pending(self) -> tuple[str, ...]:
        """The names of all that is to be migrated."""
        return tuple(name for part in (self.expand, self.contract) if part for name in part.names)

    @property
    def scheduler_outside(self) -> tuple[Target, ...]:
        """The host of the scheduler where it is none of this run's, or nobody."""
        found = self.scheduler
        return () if found is None or found in self.targets else (found,)

    @property
    def release(self) -> Release:
        return self.targets[0].release

    def called(self, name: str) -> Target:
        return next(target for target in self.targets if target.name == name)


def bare_target(
    environment: Environment, facts: HostFacts, release: Release, wheels: Wheelhouse | None
) -> Target:
    host = environment.inventory.hosts[facts.host]
    # What a run that died, or `fab stop`, has noted as off before stays off, whoever goes on.
    off = None if facts.paused is None else frozenset(facts.paused["off"])
    return Target(
        host=host,
        paths=environment.paths(host),
        settings=environment.settings[host.name],
        facts=facts,
        release=release,
        venv=wheels.digest if wheels else None,
        wheelhouse=wheels,
        off=off,
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
    return target.facts.current == target.release.id and all(
        role.serves(target) for role in roles())
