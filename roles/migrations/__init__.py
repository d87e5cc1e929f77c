"""Database migrations: once, on the one named host, with the service's own environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from roles.command import OnHost
from roles.launch import launch_as_service
from roles.role import Role, Step, Target
from roles.settings import Settings


class MigrationsSettings(Settings):
    """The mapping ``migrations`` in the inventory."""

    host: str | None = None
    """The one host on which migrations run, which also keeps the fleet's lock."""
    command: list[str] = ["python", "manage.py", "migrate", "--noinput"]
    """How they are run; an empty list means that the application has none."""
    timeout: Annotated[int, Field(gt=0)] = 4 * 3600
    """Seconds after which we stop waiting. A running migration is never killed."""


class Migrations(Role):
    """Only acts once a run, so it has no steps of its own for every host."""

    name = "migrations"
    settings = MigrationsSettings
    after = ("release", "python")


def apply(target: Target) -> Step:
    """Run what is pending, detached from the connection, at most once at any moment."""
    settings = target.of(MigrationsSettings, "migrations")
    job = OnHost(
        program="job",
        arguments={
            "root": target.paths.root,
            "name": "migrate",
            "key": target.release.id,
            "argv": list(map(str, launch_as_service(target, *settings.command).words)),
        },
    )
    return Step(
        "migrations.apply", target.name, (job,), timeout=settings.timeout, resumable=True
    )


def pending(target: Target) -> OnHost:
    """Ask the release which migrations its databases lack; reads only."""
    return OnHost(program="pending", interpreter=launch_as_service(target, "python"))


role = Migrations()
