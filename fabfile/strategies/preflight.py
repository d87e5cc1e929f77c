"""What speaks against a deploy, from facts alone; all of it is said at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fabfile.strategies.targets import Fleet, is_live
from roles.registry import roles
from roles.role import Target

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
    yield from _units(target, setup)


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


def _units(target: Target, setup: str) -> Iterable[str]:
    for role in roles():
        wanted = role.setup(target)
        missing = [unit for unit in wanted.units if target.facts.services.get(unit) == "missing"]
        if wanted.hint:
            yield from (f"the unit {unit} is not on this host; {wanted.hint}" for unit in missing)
            continue
        yield from (f"the unit {unit} is not installed; prepare the host once as root: {setup}"
                    for unit in missing)
        for path, text in {**wanted.files, **wanted.programs}.items():
            is_there = target.facts.files.get(path, "")
            if path.rpartition("/")[2] in missing or is_there == digest(text):
                continue
            if not text:
                yield (f"{path} must not be there with these settings; remove it, and stop what "
                       f"it started: {setup}")
            elif not is_there:
                yield f"{path} is not installed; prepare the host once as root: {setup}"
            else:
                yield (f"{path} is not what these settings make of it; somebody changed it, or the "
                       f"settings changed. Write it anew: {setup}")


def digest(text: str) -> str:
    """As the probe tells it of a file; "" of one that is not there."""
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def clock_notes(fleet: Fleet, now: float) -> list[str]:
    """Hosts whose clock is off, as notes: it spoils logs, not the deploy."""
    return [
        f"{target.name}: its clock is {target.facts.clock - now:+.0f} s off"
        for target in fleet.targets
        if abs(target.facts.clock - now) > CLOCK_LIMIT
    ]
