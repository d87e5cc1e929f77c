"""Static files: collected beside the release while the old code serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from roles.command import Run, command, then
from roles.launch import launch
from roles.role import Role, Step, Target
from roles.settings import Settings


class StaticSettings(Settings):
    """The mapping ``static`` in the inventory."""

    command: list[str] = ["python", "manage.py", "collectstatic", "--noinput", "--verbosity", "0"]
    """How static files are collected; an empty list turns it off."""
    variable: str = "STATIC_ROOT"
    """The environment variable that tells the application where they lie."""
    groups: list[str] = ["web"]
    """The groups whose hosts need them."""


class Static(Role):
    """Each release has a folder of its own, so that old pages keep their old files."""

    name = "static"
    settings = StaticSettings
    after = ("release", "python")

    def environment(self, target: Target) -> Mapping[str, str]:
        settings = target.of(StaticSettings, "static")
        if not settings.command:
            return {}
        return {settings.variable: target.paths.static(target.release.id)}

    def stage(self, target: Target) -> Iterable[Step]:
        settings, release = target.of(StaticSettings, "static"), target.release.id
        wanted = set(settings.groups) & set(target.host.groups)
        if not settings.command or not wanted or release in target.facts.statics:
            return
        new = f"{target.paths.root}/static/.staging-{release}"
        collect = then(
            command("rm", "-rf", new),
            launch(target, *settings.command, env=(f"{settings.variable}={new}",)),
            command("mkdir", "-p", new),
            command("mv", "-T", new, target.paths.static(release)),
        )
        yield Step("static.collect", target.name, (Run(collect),), timeout=600, judges=True)


role = Static()
