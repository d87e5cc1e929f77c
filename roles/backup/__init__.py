"""Backups of the databases: taken before what cannot be undone, and restored for practice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from inventories.model import Host
from roles.command import OnHost, as_user, command
from roles.launch import interpreter, launch_as_service, service_user
from roles.migrations import MigrationsSettings
from roles.role import Role, Step, Target
from roles.settings import Settings

# After these phases of a migration the old code cannot come back, so the old data has to.
NO_WAY_BACK = frozenset({"after", "offline", "unknown"})
# What has to be on the migration host, by Django's name of the vendor: one of each, and how it
# gets there.
TOOLS: Mapping[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "postgresql": ((("pg_dump",), "postgresql-client"), (("pg_restore",), "postgresql-client")),
    "mysql": ((("mysqldump", "mariadb-dump"), "mariadb-client or mysql-client"),),
}
# The program ends by itself first, and tidies up.
GRACE = 30


class BackupSettings(Settings):
    """The mapping ``backup`` in the inventory."""

    required: Literal["auto", "always", "never"] = "auto"
    """Whether a deploy backs up before it migrates. auto: when one of the migrations is after,
    offline or unknown, so that the old code alone would not bring the old state back."""
    folder: str = ""
    """Where backups lie on the migration host, for nobody but the service's user. Default:
    <root>/shared/backups."""
    keep: Annotated[int, Field(ge=1)] = 5
    """How many backups are kept there."""
    databases: list[str] = []
    """The databases to back up, by their names in the project's DATABASES. Default: those that are
    migrated."""
    command: str | list[str] | None = None
    """Your own command instead of ours (a shell line, or a list of words), such as one that makes a
    snapshot. It runs on the migration host as the service; the last line that it prints is kept as
    the reference."""
    env: dict[str, str] = {}
    """Environment variables that only our backups and drills get, such as the URL of a user who may
    create databases. No place for secrets: `$NAME` is the value of another variable of the
    service."""
    timeout: Annotated[int, Field(gt=0)] = 4 * 3600
    """Seconds after which a backup or a drill is ended."""
    drill_tables: list[str] = []
    """The tables whose rows a drill counts. Default: all."""

    @field_validator("folder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("expected an absolute path")
        return value

    @field_validator("command")
    @classmethod
    def _some_command(cls, value: str | list[str] | None) -> str | list[str] | None:
        if value is not None and not value:
            raise ValueError("expected a command, or null")
        return value


class Backup(Role):
    """Only acts once a run, on the migration host, so it has no steps of its own for every host."""

    name = "backup"
    settings = BackupSettings
    after = ("migrations",)

    def probe(self, host: Host, settings: Mapping[str, Settings]) -> Mapping[str, Any]:
        names = (name for wanted in TOOLS.values() for each, _ in wanted for name in each)
        return {"tools": list(names)}


def is_wanted(target: Target, phases: Iterable[str]) -> bool:
    """Whether migrations of these phases want a backup first; without migrations none does."""
    found, required = set(phases), target.of(BackupSettings, "backup").required
    if required == "auto":
        return bool(found & NO_WAY_BACK)
    return required == "always" and bool(found)


def missing_tools(target: Target, vendors: Iterable[str]) -> list[str]:
    """One line for each program that a backup of these vendors' databases lacks on the host."""
    if target.of(BackupSettings, "backup").command:
        return []
    lacking = {f"{' or '.join(names)} is not on this host, so no backup can be made; install it "
               f"there: apt install {package}": None
               for vendor in vendors for names, package in TOOLS.get(vendor, ())
               if not any(target.facts.tools.get(name) for name in names)}
    return [f"{target.name}: {line}" for line in lacking]


def folder(target: Target) -> str:
    return target.of(BackupSettings, "backup").folder or f"{target.paths.shared}/backups"


def dump(target: Target, key: str) -> Step:
    """Back up every database now; ``key`` tells this backup from others in the listing."""
    settings = target.of(BackupSettings, "backup")
    take = _program(target, "migrating.backup", **_what(target), key=key, check=False)
    return Step("backup.dump", target.name, (take,), timeout=settings.timeout + GRACE)


def check(target: Target) -> OnHost:
    """Ask what speaks against a backup; changes nothing."""
    return _program(target, "migrating.backup", **_what(target), key="", check=True)


def drill(target: Target, file: str | None) -> OnHost:
    """Restore the newest backup, or ``file``, into a scratch database and look at it."""
    settings = target.of(BackupSettings, "backup")
    return _program(target, "migrating.drill", file=file, tables=settings.drill_tables,
                    env=settings.env, seconds=settings.timeout)


def listing(target: Target) -> OnHost:
    """Ask which backups there are. Works without any release."""
    python = as_user(service_user(target), command(interpreter(target), "-I"))
    return OnHost("migrating.listing", {"folder": folder(target)}, interpreter=python)


def _what(target: Target) -> dict[str, Any]:
    settings = target.of(BackupSettings, "backup")
    migrated = target.of(MigrationsSettings, "migrations").databases
    return {
        "keep": settings.keep, "databases": settings.databases or migrated,
        "command": settings.command, "env": settings.env, "seconds": settings.timeout,
        "release": target.release.id,
    }


def _program(target: Target, program: str, **arguments: Any) -> OnHost:
    return OnHost(program, {"folder": folder(target), **arguments},
                  interpreter=launch_as_service(target, "python"))


role = Backup()
