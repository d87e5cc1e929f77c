"""Commands of a release, started through its launcher with its service's environment."""

from __future__ import annotations

from roles.app import AppSettings
from roles.command import Command, as_user, command
from roles.role import Target


def interpreter(target: Target) -> str:
    """The host's own Python, which runs the programs of ``roles/onhost``."""
    return target.host.connection.python or "python3"


def launch(target: Target, *argv: str, env: tuple[str, ...] = ()) -> Command:
    """``argv`` in the new release as the user who deploys."""
    options = [word for each in env for word in ("--env", each)]
    start = (interpreter(target), "-I", target.paths.launcher, "--release", target.release.id)
    return command(*start, *options, "--", *argv)


def launch_as_service(target: Target, *argv: str) -> Command:
    """``argv`` in the new release exactly as its service runs: its user, its environment."""
    return as_user(service_user(target), launch(target, *argv))


def service_user(target: Target) -> str | None:
    """The service's user where it is another one than the user who deploys."""
    user = target.of(AppSettings, "app").user
    return None if user == target.facts.user else user
