"""The WSGI server: gunicorn or another one, under systemd, supervisor or Apache."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from inventories.model import Host
from roles.app import AppSettings
from roles.command import OnHost
from roles.launch import launch_as_service
from roles.role import Role, Setup, Step, Target
from roles.settings import Settings
from roles.wsgi import beside
from roles.wsgi.manager import Systemd, manager, manager_of
from roles.wsgi.servers import NO_RESTART, SERVERS, Server, refused_method

# Addresses that mean every address of the host.
EVERYWHERE = ("0.0.0.0", "*", "[::]")  # noqa: S104 - they are recognised, not bound
BESIDE = re.compile(r"/run/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+\.sock")
UNIT = re.compile(r"[A-Za-z0-9_.@-]+\.service")


def is_address(bind: str) -> bool:
    """Whether this host:port has an IP address (or ``*``) for its host."""
    host = bind.rpartition(":")[0]
    try:
        return host == "*" or bool(ip_address(host.strip("[]")))
    except ValueError:
        return False


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

    server: Literal["gunicorn", "uwsgi", "granian", "waitress", "mod_wsgi"] = "gunicorn"
    """Which server. All but mod_wsgi have to be among the release's packages (uwsgi: pyuwsgi)."""
    application: str = ""
    """module:name of the WSGI application."""
    manager: Literal["systemd", "supervisor"] = "systemd"
    """systemd: a system unit. supervisor: a supervisord of our own, where there is no root."""
    method: Literal["restart", "beside", "reload", "touch"] = "restart"
    """How new code comes. restart: the server ends and starts. beside: the new one starts beside
    the old on a socket of its own, and when it is healthy `bind`, a link, is turned to it. For
    mod_wsgi, reload is Apache's graceful, and touch tells each process at its next request."""
    keep: Annotated[int, Field(ge=0)] = 600
    """beside: seconds for which the server that served before stays up, for a way back that takes
    no time."""
    unit: str = "apache2.service"
    """mod_wsgi: Apache's own unit."""
    bind: str = "127.0.0.1:8000"
    """host:port or the absolute path of a socket."""
    socket_activation: bool = False
    """systemd itself listens, so that connections wait while the server restarts: for gunicorn and
    uwsgi."""
    workers: Annotated[int, Field(ge=1)] = 2
    """The server's worker processes."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of each worker."""
    timeout: Annotated[int, Field(ge=0)] = 30
    """Seconds after which the server ends a worker that does not answer."""
    graceful_timeout: Annotated[int, Field(ge=0)] = 30
    """Seconds that running requests get to finish when the server stops."""
    options: list[str] = []
    """More options for the server."""
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

    @field_validator("application")
    @classmethod
    def _called(cls, value: str, info: ValidationInfo) -> str:
        if "(" in value and info.data.get("server", "gunicorn") != "gunicorn":
            raise ValueError("expected module:name, as only gunicorn calls a function for it")
        return value

    @field_validator("manager")
    @classmethod
    def _manager(cls, value: str, info: ValidationInfo) -> str:
        if value == "supervisor" and info.data.get("server") == "mod_wsgi":
            raise ValueError("expected systemd for mod_wsgi, as Apache is the service")
        return value

    @field_validator("method")
    @classmethod
    def _method(cls, value: str, info: ValidationInfo) -> str:
        problem = refused_method(info.data["server"], value) if "server" in info.data else ""
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("unit")
    @classmethod
    def _unit(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("server", "mod_wsgi") != "mod_wsgi":
            raise ValueError("expected nothing here: only mod_wsgi runs in a unit that is not ours")
        if not UNIT.fullmatch(value):
            raise ValueError("expected the name of a service, as in apache2.service")
        return value

    @field_validator("workers", "threads", "timeout", "graceful_timeout", "options")
    @classmethod
    def _lacking(cls, value: Any, info: ValidationInfo) -> Any:
        server = info.data.get("server")
        lacking = SERVERS[server].lacks.get(info.field_name or "") if server else ""
        if lacking:
            raise ValueError(lacking)
        return value

    @field_validator("options")
    @classmethod
    def _harmful(cls, value: list[str], info: ValidationInfo) -> list[str]:
        server = info.data.get("server")
        problem = SERVERS[server].refused_option(value) if server else ""
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("socket_activation")
    @classmethod
    def _activation(cls, value: bool, info: ValidationInfo) -> bool:
        server, bind = info.data.get("server"), info.data.get("bind", "/")
        if not value or not server:
            return value
        if not SERVERS[server].takes_socket:
            raise ValueError(f"expected false: {server} takes no socket from systemd; gunicorn and "
                             f"uwsgi do")
        if info.data.get("manager") == "supervisor":
            raise ValueError("expected false: supervisor opens no sockets; systemd does")
        if not bind.startswith("/") and not is_address(bind):
            raise ValueError("expected false: systemd listens on IP addresses only, so give "
                             "wsgi.bind one")
        return value

    @model_validator(mode="after")
    def _apache_never_restarts(self) -> WsgiSettings:
        if self.server == "mod_wsgi" and self.method == "restart":
            raise ValueError(f"method: {NO_RESTART}")
        return self

    @model_validator(mode="after")
    def _beside_by_a_link(self) -> WsgiSettings:
        if self.method != "beside":
            return self
        if not BESIDE.fullmatch(self.bind):
            raise ValueError("method: beside turns a link from one socket to another, so bind has "
                             "to be a socket in a folder of its own, as in /run/shop/wsgi.sock")
        if self.manager != "systemd":
            raise ValueError("method: beside needs systemd: supervisor runs one server")
        if self.socket_activation:
            raise ValueError("socket_activation: expected false with method: beside, where the "
                             "old server listens until the new one does")
        return self

    @property
    def is_beside(self) -> bool:
        return self.method == "beside"

    @property
    def next_link(self) -> str:
        """beside: leads to the server that is to serve next."""
        return f"{self.bind}.next"

    @property
    def how(self) -> Server:
        """What is known of the chosen server."""
        return SERVERS[self.server]

    @property
    def command(self) -> list[str]:
        """The server's command line, found on the virtual environment's PATH."""
        if not self.is_beside:
            return self.how.command(self)
        # As roles/onhost/instances/beside.py names it; the launcher knows which instance it is.
        base = self.bind.removesuffix(".sock")
        return self.how.command(self.model_copy(update={"bind": f"{base}-@INSTANCE@.sock"}))

    @property
    def socket_path(self) -> str:
        """The path of the UNIX socket, where it is one."""
        return self.bind if self.bind.startswith("/") else ""

    @property
    def address(self) -> str:
        """``bind`` for those who do not know that ``*`` is every address."""
        return "0.0.0.0" + self.bind[1:] if self.bind.startswith("*:") else self.bind  # noqa: S104

    @property
    def local_address(self) -> str:
        """Where the service answers on its own host."""
        host, _, port = self.bind.rpartition(":")
        return f"127.0.0.1:{port}" if host in EVERYWHERE else self.bind


__all__ = ["HealthSettings", "Wsgi", "WsgiSettings", "applies", "health", "manager_of", "role"]


def applies(target: Target) -> bool:
    return runs_on(target.of(WsgiSettings, "wsgi"), target.host)


def runs_on(settings: WsgiSettings, host: Host) -> bool:
    return bool(settings.application) and bool(set(settings.groups) & set(host.groups))


def is_beside(target: Target) -> bool:
    return applies(target) and target.of(WsgiSettings, "wsgi").is_beside


def health(
    target: Target, release_id: str | None, watch: float = 0, address: str = ""
) -> Step:
    """Wait on the host until the service is healthy and answers with this release, and with
    ``watch`` see for so many seconds that it stays so. ``address``: where it is asked, if not where
    it serves."""
    settings = target.of(WsgiSettings, "wsgi")
    wanted = settings.health
    ask = OnHost(
        program="health",
        arguments={
            "address": address or settings.local_address,
            "path": wanted.path,
            "host": wanted.host,
            "status": wanted.status,
            "body": wanted.body,
            "release": release_id if wanted.release else None,
            "in_a_row": wanted.in_a_row,
            "deadline": wanted.deadline,
            "timeout": wanted.timeout,
            "watch": watch,
        },
    )
    log = (manager_of(target).log(30),)
    limit = wanted.deadline + wanted.timeout * wanted.in_a_row + 10 + watch * (1 + wanted.timeout)
    name = "wsgi.watch" if watch else "wsgi.health"
    return Step(name, target.name, (ask,), timeout=limit, diagnose=log)


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
            arguments={
                "application": settings.application,
                "arguments": settings.check,
                "server": None if settings.server == "mod_wsgi" else settings.command[0],
            },
            interpreter=launch_as_service(target, "python"),
        )
        yield Step("wsgi.check", target.name, (look,), timeout=120, judges=True)

    def stop(self, target: Target) -> Iterable[Step]:
        if is_beside(target):
            yield beside.step(target, "stop")
        elif applies(target):
            limit = target.of(WsgiSettings, "wsgi").graceful_timeout + 30
            yield Step("wsgi.stop", target.name, (manager_of(target).stop(),), timeout=limit)

    def start(self, target: Target) -> Iterable[Step]:
        if is_beside(target):
            yield from self.restart(target)
        elif applies(target):
            yield Step("wsgi.start", target.name, (manager_of(target).start(),), timeout=60)
            yield health(target, target.release.id)

    def restart(self, target: Target) -> Iterable[Step]:
        if is_beside(target):
            settings = target.of(WsgiSettings, "wsgi")
            yield beside.step(target, "start")
            yield health(target, target.release.id, address=settings.next_link)
            yield beside.step(target, "flip")
        elif applies(target):
            limit = target.of(WsgiSettings, "wsgi").graceful_timeout + 60
            again = manager_of(target).renew()
            yield Step("wsgi.restart", target.name, (again,), timeout=limit)
            yield health(target, target.release.id)

    def confirm(self, target: Target) -> Iterable[Step]:
        if applies(target):
            yield health(target, target.release.id)

    def retire(self, target: Target) -> Iterable[Step]:
        if is_beside(target):
            yield beside.step(target, "retire")

    def setup(self, target: Target) -> Setup:
        if is_beside(target):
            return beside.setup(target)
        found = manager_of(target) if applies(target) else None
        if not isinstance(found, Systemd):
            return Setup()
        return Setup(files=found.files, rules=tuple(found.rules), units=tuple(found.units),
                     hint=found.hint)

    def serves(self, target: Target) -> bool:
        if not applies(target):
            return True
        facts = target.facts
        if is_beside(target):
            return beside.serves(target)
        return (facts.services.get(manager_of(target).service) == "active"
                and facts.working == (target.release.id,))

    def probe(self, host: Host, settings: Mapping[str, Settings]) -> Mapping[str, Any]:
        wsgi, app = settings["wsgi"], settings["app"]
        assert isinstance(wsgi, WsgiSettings) and isinstance(app, AppSettings)
        if not wsgi.application or not set(wsgi.groups) & set(host.groups):
            return {}
        return beside.probe(wsgi, app) if wsgi.is_beside else manager(wsgi, app).probe()


role = Wsgi()
