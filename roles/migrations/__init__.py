"""Database migrations: once, on the one named host, with the service's own environment."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from roles.command import Command, OnHost
from roles.launch import launch_as_service
from roles.migrations.judged import Judged, Portion
from roles.role import Role, Step, Target
from roles.settings import Settings

MANAGE = ["python", "manage.py"]


class MigrationsSettings(Settings):
    """The mapping ``migrations`` in the inventory."""

    host: str | None = None
    """The one host on which migrations run, which also keeps the fleet's lock."""
    command: list[str] = [*MANAGE, "migrate", "--noinput"]
    """How they are run; an empty list means that the application has none. Any command of manage.py
    that uses Django's executor will do; of another command, only all of it can be run."""
    databases: list[str] = ["default"]
    """The databases that are migrated, by their names in the project's DATABASES; each has a plan
    and a lock of its own."""
    env: dict[str, str] = {}
    """Environment variables that only migrations get, such as those of a direct connection where
    the application's goes through a pooling proxy. $NAME stands for another variable's value, so
    that a secret stays in app.secrets."""
    phases: dict[str, Literal["any", "before", "after", "offline"]] = {}
    """What the authors of migrations say of them, as app.name: phase. before: safe while the old
    code serves. after: safe once no old code runs. Goes before what the files themselves say."""
    heavy_mb: Annotated[float, Field(gt=0)] = 50
    """From which size on a table is too big to be blocked while it is scanned or rewritten."""
    lock_timeout: Annotated[float, Field(gt=0)] = 2
    """Seconds that a migration waits for the lock on a table, while others queue behind it."""
    retries: Annotated[int, Field(ge=0)] = 5
    """How often a migration that got no lock is tried again, after 1, 2, 4, 8, 16, 16... seconds.
    Only those that are one transaction."""
    retry_python: bool = False
    """Whether that goes for migrations with RunPython or RunSQL too: they must do nothing outside
    of the database."""
    wait: Annotated[float, Field(ge=0)] = 30
    """Seconds to wait for another migration of the same database, before exit code 75."""
    timeout: Annotated[int, Field(gt=0)] = 4 * 3600
    """Seconds after which we stop waiting. A running migration is never killed."""


class Migrations(Role):
    """Only acts once a run, so it has no steps of its own for every host."""

    name = "migrations"
    settings = MigrationsSettings
    after = ("release", "python")


def apply(target: Target, portion: Portion) -> Step:
    """Run what was agreed on, detached from the connection, at most once at any moment."""
    settings = target.of(MigrationsSettings, "migrations")
    external = settings.command[:2] != MANAGE
    program = {
        "program": "migrating.apply",
        "arguments": {
            "env": settings.env,
            "command": settings.command if external else settings.command[2:],
            "external": external,
            "holder": f"fabfleet-{target.release.id}",
            **json.loads(json.dumps({
                "expected": portion.expected,
                "only": portion.only,
                "back": portion.back,
                "accepted": portion.accepted,
            })),
            "wait": settings.wait,
            "lock_timeout": settings.lock_timeout,
            "retries": settings.retries,
            "retry_python": settings.retry_python,
        },
    }
    job = OnHost(
        program="job",
        arguments={
            "root": target.paths.root,
            "name": "migrate",
            "key": f"{target.release.id} {portion.phase}",
            "argv": list(map(str, _python(target).words)),
            "ships": program,
        },
    )
    return Step(
        "migrations.apply", target.name, (job,), timeout=settings.timeout, resumable=True
    )


def untouched(target: Target, portion: Portion) -> tuple[Step, ...]:
    """Look whether a failed job has left the databases as they were. Nobody can tell that of a
    command that is not Django's own."""
    settings = target.of(MigrationsSettings, "migrations")
    if settings.command[:2] != MANAGE:
        return ()
    only = {alias: list(names) for alias, names in portion.only.items()}
    arguments = {"env": settings.env, "only": only, "back": bool(portion.back)}
    action = OnHost("migrating.untouched", arguments, interpreter=_python(target))
    return (Step("migrations.untouched", target.name, (action,), timeout=120),)


def ask(target: Target, **more: Any) -> OnHost:
    """Ask the release what its databases lack and what that means; reads only.

    ``more``: further arguments of ``roles/onhost/migrating/ask.py``.
    """
    settings = target.of(MigrationsSettings, "migrations")
    arguments = {"env": settings.env, "databases": settings.databases, "overrides": settings.phases,
                 "heavy_bytes": int(settings.heavy_mb * 1e6), **more}
    return OnHost("migrating.ask", arguments, interpreter=_python(target))


def _python(target: Target) -> Command:
    return launch_as_service(target, "python")


role = Migrations()

__all__ = ["Judged", "Migrations", "MigrationsSettings", "Portion", "apply", "ask", "role",
           "untouched"]
