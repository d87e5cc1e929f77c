"""The release: a complete, verified tree of code in a folder of its own, and the switch to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from roles.command import Command, LocalFile, OnHost, Run, Upload, command, then
from roles.onhost import ship
from roles.role import Paths, Role, Step, Target
from roles.settings import Settings


class ReleaseSettings(Settings):
    """The mapping ``release`` in the inventory."""

    repository: str | None = None
    """A git repository: a local path or any URL that git understands."""
    folder: str | None = None
    """A plain folder instead of a repository."""
    ref: str = "HEAD"
    """What to deploy when --ref is not given."""
    subfolder: str = ""
    """Where in the repository the application lies."""
    exclude: list[str] = []
    """Patterns as in .gitignore of what is not shipped."""
    keep: Annotated[int, Field(ge=1)] = 5
    """How many good releases stay on a host."""
    groups: list[str] = ["web", "worker", "scheduler"]
    """The groups whose hosts get the code."""
    drain: Annotated[float, Field(ge=0)] = 30
    """Seconds to wait for the last processes of old releases, before migrations that those could
    not live with."""

    @model_validator(mode="after")
    def _one_source(self) -> ReleaseSettings:
        if (self.repository is None) == (self.folder is None):
            raise ValueError("expected either repository or folder")
        return self


def switch(paths: Paths, release_id: str) -> Command:
    """Point ``current`` to a release by rename(2), which no reader can see half done."""
    new = f"{paths.root}/.current-new"
    return then(
        command("test", "-d", paths.release(release_id)),
        command("ln", "-sfn", f"releases/{release_id}", new),
        command("mv", "-T", new, paths.current),
    )


def unset(paths: Paths) -> Command:
    """Back to before the first deploy: nothing is current."""
    return command("rm", "-f", paths.current)


class ReleaseRole(Role):
    """Uploads, verifies, switches, records and prunes."""

    name = "release"
    settings = ReleaseSettings
    after = ("app",)

    def stage(self, target: Target) -> Iterable[Step]:
        release, paths, facts = target.release, target.paths, target.facts
        if release.id in facts.releases:
            return
        staging = paths.staging(release.id)
        base = facts.current if facts.current in facts.releases else None
        previous = paths.release(base) if base else None
        upload = Upload(release.tree, staging, link_to=previous, digest=release.digest)
        yield Step("release.upload", target.name, (upload,), timeout=1800)
        publish = OnHost(
            program="publish",
            arguments={
                "root": paths.root,
                "release": release.id,
                "staging": staging,
                "previous": previous,
                "runtime": dict(target.runtime),
            },
            files={
                "manifest": LocalFile(release.manifest, release.digest),
                "launcher": LocalFile(str(ship.FOLDER / "launch.py"), ""),
            },
        )
        yield Step("release.publish", target.name, (publish,), timeout=600)

    def finish(self, target: Target) -> Iterable[Step]:
        record = {
            "release": target.release.id,
            "commit": target.release.commit,
            "ref": target.release.ref,
            "origin": target.release.origin,
            "back": not target.release.tree,
        }
        known = [each["release"] for each in target.facts.history]
        done = bool(known) and known[-1] == target.release.id
        arguments = {
            "root": target.paths.root,
            "record": None if done else record,
            "keep": target.of(ReleaseSettings, "release").keep,
        }
        yield Step("release.finish", target.name, (OnHost("finish", arguments),), timeout=600)

    def discard(self, target: Target) -> Iterable[Step]:
        if target.release.id not in target.facts.releases:
            arguments = {"root": target.paths.root, "release": target.release.id}
            yield Step("release.discard", target.name, (OnHost("discard", arguments),))


def prepare(target: Target) -> Step:
    """The folders that everything else needs; the first step on every host of every run."""
    paths = target.paths
    folders = (
        paths.releases, paths.venvs, f"{paths.root}/static", paths.shared, f"{paths.state}/releases"
    )
    return Step("release.prepare", target.name, (Run(command("mkdir", "-p", *folders)),))


def switch_step(target: Target, release_id: str | None) -> Step:
    """Make a release current, or none."""
    chosen = switch(target.paths, release_id) if release_id else unset(target.paths)
    return Step("release.switch", target.name, (Run(chosen),), timeout=30)


def owed(target: Target, skipped: Sequence[str], done: Sequence[str]) -> Step:
    """Remember on this host which hosts were skipped, and which have caught up."""
    arguments = {"root": target.paths.root, "release": target.release.id,
                 "ref": target.release.ref, "skipped": list(skipped), "done": list(done)}
    return Step("release.owed", target.name, (OnHost("owed", arguments),))


def drained(target: Target) -> Step:
    """Wait until no process of another release runs on the host."""
    seconds = target.of(ReleaseSettings, "release").drain
    arguments = {"root": target.paths.root, "release": target.release.id, "seconds": seconds}
    return Step("release.drained", target.name, (OnHost("drained", arguments),), seconds + 30)


role = ReleaseRole()
