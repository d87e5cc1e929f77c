"""What speaks against a deploy, from facts alone; all of it is said at once."""

from __future__ import annotations

from collections.abc import Iterable

from fabfile.strategies.targets import Fleet, is_live
from roles.role import Target
from roles.wsgi import applies, manager_of
from roles.wsgi.manager import Systemd

# A release takes its files, and some room has to stay for everything else.
SPARE_BYTES = 64 * 1024 * 1024
SPARE_INODES = 1000
CLOCK_LIMIT = 60.0


def problems(fleet: Fleet) -> list[str]:
    """One line a problem, each starting with the host."""
    return [f"{target.name}: {line}" for target in fleet.targets
            for line in _of(target, f"fab hosts.setup --env={fleet.environment}")]


def _of(target: Target, setup: str) -> Iterable[str]:
    facts, root = target.facts, target.paths.root
    setup = f"{setup} --hosts={target.name}"
    if not facts.tools.get("rsync"):
        yield "rsync is not on this host; install it there: apt install rsync"
    if not facts.writable:
        yield (f"{root} is not writable for {facts.user}; prepare the host once as root: "
               f"{setup}")
    if not facts.venv_python and target.wheelhouse:
        yield "the Python of python.interpreter is not on this host"
    if not is_live(target):
        yield from _space(target)
    if applies(target):
        yield from _unit(target, setup)


def _space(target: Target) -> Iterable[str]:
    facts, release = target.facts, target.release
    if release.id in facts.releases:
        return
    needed = release.size + SPARE_BYTES
    if facts.free_bytes < needed:
        yield (f"the disk of {target.paths.root} is too full: {megabytes(needed)} MB are needed "
               f"({megabytes(release.size)} MB release, {megabytes(SPARE_BYTES)} MB spare), "
               f"{megabytes(facts.free_bytes)} MB are free")
    inodes = release.files + SPARE_INODES
    if 0 < facts.free_inodes < inodes:
        yield (f"the disk of {target.paths.root} has too few inodes: {inodes} are needed, "
               f"{facts.free_inodes} are free")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _unit(target: Target, setup: str) -> Iterable[str]:
    found = manager_of(target)
    if not isinstance(found, Systemd):
        return
    if target.facts.services.get(found.service) == "missing":
        yield f"the unit {found.service} is not installed; prepare the host once as root: {setup}"
    elif found.drifted(target.facts.files):
        yield (f"{found.unit_path} is not what these settings make of it; somebody changed it, or "
               f"the settings changed. Write it anew: {setup}")


def clock_notes(fleet: Fleet, now: float) -> list[str]:
    """Hosts whose clock is off, as notes: it spoils logs, not the deploy."""
    return [
        f"{target.name}: its clock is {target.facts.clock - now:+.0f} s off"
        for target in fleet.targets
        if abs(target.facts.clock - now) > CLOCK_LIMIT
    ]
