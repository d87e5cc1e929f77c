"""The WSGI server: gunicorn under systemd or supervisor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from inventories.model import Host
from roles.app import AppSettings
from roles.command import OnHost
from roles.launch import launch_as_service
from roles.role import Role, Step, Target
from roles.settings import Settings
from roles.wsgi.manager import manager, manager_of

# Addresses that mean every address of the host.
EVERYWHERE = ("0.0.0.0", "*", "[::]")  # noqa: S104 - they are recognised, not bound


class HealthSettings(Settings):
    """How a healthy host is told from a sick one: asked over HTTP, on the host itself."""

    path: str = "/healthz"
    """What is asked for."""
    host: str = "localhost"
    """The Host header to send."""
    status: int = 200
    """The status of a healthy answer."""
    body: str | None = None
    """Text that has to be in the answer."""
    release: bool = True
    """Whether the answer has to name the release (in its body or in a header): only that proves
    that the new code answered."""
    in_a_row: Annotated[int, Field(ge=1)] = 2
    """Healthy answers in a row that are wanted."""
    deadline: Annotated[float, Field(gt=0)] = 30
    """Seconds until a host counts as sick."""
    timeout: Annotated[float, Field(gt=0)] = 5
    """Seconds for one answer."""


class WsgiSettings(Settings):
    """The mapping ``wsgi`` in the inventory."""

    application: str = ""
    """module:name of the WSGI application, as gunicorn takes it."""
    manager: Literal["systemd", "supervisor"] = "systemd"
    """systemd: a system unit. supervisor: a supervisord of our own, where there is no root."""
    bind: str = "127.0.0.1:8000"
    """host:port or the absolute path of a socket."""
    workers: Annotated[int, Field(ge=1)] = 2
    """gunicorn's worker processes."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of each worker."""
    timeout: Annotated[int, Field(ge=0)] = 30
    """Seconds after which gunicorn ends a worker that does not answer."""
    graceful_timeout: Annotated[int, Field(ge=0)] = 30
    """Seconds that running requests get to finish when the server stops."""
    options: list[str] = []
    """More options for gunicorn."""
    groups: list[str] = ["web"]
    """The groups whose hosts run the server."""
    supervisorctl: str = "supervisorctl"
    """supervisor's control program on the host."""
    supervisord: str = "supervisord"
    """supervisor itself on the host."""
    check: list[str] | None = ["--deploy", "--fail-level", "ERROR"]
    """Options for ``manage.py check`` before a release may serve; null turns it off."""
    health: HealthSettings = HealthSettings()
    """When a host counts as healthy."""

    @field_validator("application")
    @classmethod
    def _application(cls, value: str) -> str:
        if value and ":" not in value:
            raise ValueError("expected module:name, as in config.wsgi:application")
        return value

    @field_validator("bind")
    @classmethod
    def _bind(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not value.startswith("/") and not (host and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError("expected host:port or the absolute path of a socket")
        return value

    @property
    def command(self) -> list[str]:
        """gunicorn's command line, found on the virtual environment's PATH."""
        bind = f"unix:{self.bind}" if self.bind.startswith("/") else self.bind
        return [
            "gunicorn", "--bind", bind, "--workers", str(self.workers),
            "--threads", str(self.threads), "--timeout", str(self.timeout),
            "--graceful-timeout", str(self.graceful_timeout), *self.options, self.application,
        ]

    @property
    def local_address(self) -> str:
        """Where the service answers on its own host."""
        host, _, port = self.bind.rpartition(":")
        return f"127.0.0.1:{port}" if host in EVERYWHERE else self.bind


__all__ = ["HealthSettings", "Wsgi", "WsgiSettings", "applies", "health", "manager_of", "role"]


def applies(target: Target) -> bool:
    settings = target.of(WsgiSettings, "wsgi")
    return bool(settings.application) and bool(set(settings.groups) & set(target.host.groups))


def health(target: Target, release_id: str | None) -> Step:
    """Wait on the host until the service is healthy and answers with this release."""
    settings = target.of(WsgiSettings, "wsgi")
    wanted = settings.health
    ask = OnHost(
        program="health",
        arguments={
            "address": settings.local_address,
            "path": wanted.path,
            "host": wanted.host,
            "status": wanted.status,
            "body": wanted.body,
            "release": release_id if wanted.release else None,
            "in_a_row": wanted.in_a_row,
            "deadline": wanted.deadline,
            "timeout": wanted.timeout,
        },
    )
    log = (manager_of(target).log(30),)
    limit = wanted.deadline + wanted.timeout * wanted.in_a_row + 10
    return Step("wsgi.health", target.name, (ask,), timeout=limit, diagnose=log)


class Wsgi(Role):
    """Checks, stops, starts and restarts the server, and asks it over HTTP."""

    name = "wsgi"
    settings = WsgiSettings
    after = ("release", "python", "static")

    def commands(self, target: Target) -> Mapping[str, list[str]]:
        return {"wsgi": target.of(WsgiSettings, "wsgi").command} if applies(target) else {}

    def stage(self, target: Target) -> Iterable[Step]:
        if not applies(target):
            return
        settings = target.of(WsgiSettings, "wsgi")
        look = OnHost(
            program="check",
            arguments={"application": settings.application, "arguments": settings.check},
            interpreter=launch_as_service(target, "python"),
        )
        yield Step("wsgi.check", target.name, (look,), timeout=120, judges=True)

    def stop(self, target: Target) -> Iterable[Step]:
        if applies(target):
            limit = target.of(WsgiSettings, "wsgi").graceful_timeout + 30
            yield Step("wsgi.stop", target.name, (manager_of(target).stop(),), timeout=limit)

    def start(self, target: Target) -> Iterable[Step]:
        if applies(target):
            yield Step("wsgi.start", target.name, (manager_of(target).start(),), timeout=60)
            yield health(target, target.release.id)

    def restart(self, target: Target) -> Iterable[Step]:
        if applies(target):
            limit = target.of(WsgiSettings, "wsgi").graceful_timeout + 60
            again = manager_of(target).restart()
            yield Step("wsgi.restart", target.name, (again,), timeout=limit)
            yield health(target, target.release.id)

    def confirm(self, target: Target) -> Iterable[Step]:
        if applies(target):
            yield health(target, target.release.id)

    def probe(self, host: Host, settings: Mapping[str, Settings]) -> Mapping[str, Any]:
        wsgi, app = settings["wsgi"], settings["app"]
        assert isinstance(wsgi, WsgiSettings) and isinstance(app, AppSettings)
        if not wsgi.application or not set(wsgi.groups) & set(host.groups):
            return {}
        return manager(wsgi, app).probe()


role = Wsgi()
