"""What keeps a server running: systemd, Apache's own unit, or supervisor where there is no root."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from roles import units
from roles.app import AppSettings
from roles.command import Action, OnHost, Run, as_root, command
from roles.role import Paths, Target
from roles.templates import render

if TYPE_CHECKING:
    from roles.wsgi import WsgiSettings

PROGRAM = "wsgi"


class Manager(Protocol):
    """What a process manager can be asked for; every answer is an action, nothing runs here."""

    def start(self) -> Action: ...
    def stop(self) -> Action: ...
    def renew(self) -> Action: ...
    def log(self, lines: int) -> Action: ...
    def probe(self) -> Mapping[str, Any]: ...
    @property
    def service(self) -> str: ...


def manager(
    wsgi: WsgiSettings, app: AppSettings, python: str = "python3", deploy: str = ""
) -> Manager:
    """The manager that the settings choose; ``deploy`` is the user who deploys."""
    if wsgi.server == "mod_wsgi":
        return Apache(wsgi, app, python, deploy)
    if wsgi.manager == "systemd":
        return Systemd(wsgi, app, python, deploy)
    return Supervisor(wsgi, app, python)


def manager_of(target: Target) -> Manager:
    from roles.launch import interpreter
    from roles.wsgi import WsgiSettings

    return manager(
        target.of(WsgiSettings, "wsgi"), target.of(AppSettings, "app"), interpreter(target),
        target.host.connection.user or target.facts.user,
    )


class Systemd:
    """A system unit, installed by ``fab hosts.setup``, and its socket where systemd listens; sudo
    allows exactly what is asked of them."""

    def __init__(self, wsgi: WsgiSettings, app: AppSettings, python: str, deploy: str) -> None:
        self.wsgi, self.app, self.python = wsgi, app, python
        self.user = app.user or deploy

    hint = ""

    @property
    def service(self) -> str:
        return f"{self.app.name}-wsgi.service"

    @property
    def socket(self) -> str:
        return f"{self.app.name}-wsgi.socket"

    @property
    def units(self) -> list[str]:
        """All that has to be on the host."""
        return [self.socket, self.service] if self.wsgi.socket_activation else [self.service]

    @property
    def files(self) -> dict[str, str]:
        """The unit files by path; an empty one must not be there. They name nothing of a release,
        so that no deploy has to change them."""
        told = {"app": self.app, "wsgi": self.wsgi, "paths": Paths(self.app.folder)}
        service = render("wsgi/templates/wsgi.service.j2", **told, user=self.user,
                         python=units.absolute(self.python),
                         socket_folder=self.wsgi.socket_path.rpartition("/")[0])
        socket = ""
        if self.wsgi.socket_activation:
            socket = render("wsgi/templates/wsgi.socket.j2", **told)
        return {units.path(self.service): service, units.path(self.socket): socket}

    @property
    def rules(self) -> list[str]:
        """The commands that sudo has to allow."""
        words = (self._start, self._stop, self._renew)
        return list(dict.fromkeys(" ".join((units.SYSTEMCTL, *each)) for each in words if each))

    @property
    def _start(self) -> tuple[str, ...]:
        return ("start", self.service)  # which needs its socket, and so starts it first

    @property
    def _stop(self) -> tuple[str, ...]:
        # A socket that still listened would start the service again at the next connection.
        return ("stop", *self.units)

    @property
    def _renew(self) -> tuple[str, ...]:
        return ("restart", self.service)

    def start(self) -> Action:
        return Run(as_root(command(units.SYSTEMCTL, *self._start)))

    def stop(self) -> Action:
        return Run(as_root(command(units.SYSTEMCTL, *self._stop)))

    def renew(self) -> Action:
        return Run(as_root(command(units.SYSTEMCTL, *self._renew)))

    def log(self, lines: int) -> Action:
        return units.log(self.service, lines)

    def probe(self) -> Mapping[str, Any]:
        return {"units": self.units, "files": list(self.files)}


class Apache(Systemd):
    """Apache with mod_wsgi: its unit is not ours, and neither is its configuration."""

    hint = "install Apache and mod_wsgi there, as docs/wsgi.md shows"

    @property
    def service(self) -> str:
        return self.wsgi.unit

    @property
    def units(self) -> list[str]:
        return [self.service]

    @property
    def files(self) -> dict[str, str]:
        return {}

    @property
    def _renew(self) -> tuple[str, ...]:
        return () if self.wsgi.method == "touch" else ("reload", self.service)

    def renew(self) -> Action:
        if self._renew:
            return super().renew()
        return Run(command("touch", Paths(self.app.folder).launcher))


class Supervisor:
    """A supervisord of our own below the deploy root, run by an ordinary user."""

    def __init__(self, wsgi: WsgiSettings, app: AppSettings, python: str) -> None:
        self.wsgi, self.app, self.python = wsgi, app, python

    @property
    def service(self) -> str:
        return PROGRAM

    @property
    def folder(self) -> str:
        return f"{Paths(self.app.folder).state}/supervisor"

    def _supervise(self, action: str) -> OnHost:
        return OnHost(
            program="supervise",
            arguments={
                "folder": self.folder,
                "launcher": Paths(self.app.folder).launcher,
                "python": self.python,
                "program": PROGRAM,
                "stop_seconds": self.wsgi.graceful_timeout + 5,
                "stop_signal": self.wsgi.how.stop_signal,
                "supervisord": self.wsgi.supervisord,
                "supervisorctl": self.wsgi.supervisorctl,
                "action": action,
            },
        )

    def start(self) -> Action:
        return self._supervise("start")

    def stop(self) -> Action:
        return self._supervise("stop")

    def renew(self) -> Action:
        return self._supervise("restart")

    def log(self, lines: int) -> Action:
        return Run(command("tail", "-n", str(lines), f"{self.folder}/{PROGRAM}.log"))

    def probe(self) -> Mapping[str, Any]:
        conf = {"conf": f"{self.folder}/supervisord.conf", "ctl": self.wsgi.supervisorctl,
                "program": PROGRAM}
        return {"supervisor": conf}
