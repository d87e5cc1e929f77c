"""The two that keep a server running: systemd, and supervisor where there is no root."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

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
    def restart(self) -> Action: ...
    def log(self, lines: int) -> Action: ...
    def probe(self) -> Mapping[str, Any]: ...
    @property
    def service(self) -> str: ...


def manager(
    wsgi: WsgiSettings, app: AppSettings, python: str = "python3", deploy: str = ""
) -> Manager:
    """The manager that the settings choose; ``deploy`` is the user who deploys."""
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
    """A system unit, installed by ``fab hosts.setup``; sudo allows exactly its verbs."""

    VERBS = ("start", "stop", "restart")

    def __init__(self, wsgi: WsgiSettings, app: AppSettings, python: str, deploy: str) -> None:
        self.wsgi, self.app, self.python = wsgi, app, python
        self.user = app.user or deploy

    @property
    def service(self) -> str:
        return f"{self.app.name}-wsgi.service"

    @property
    def unit_path(self) -> str:
        return f"/etc/systemd/system/{self.service}"

    def unit(self) -> str:
        """The whole unit file. It names nothing of a release, so no deploy has to change it."""
        python = self.python if self.python.startswith("/") else f"/usr/bin/{self.python}"
        return render(
            "wsgi/templates/wsgi.service.j2",
            app=self.app, user=self.user, wsgi=self.wsgi, python=python,
            paths=Paths(self.app.folder),
            socket_folder=self.wsgi.bind.rpartition("/")[0] if "/" in self.wsgi.bind else "",
        )

    def _systemctl(self, verb: str) -> Run:
        return Run(as_root(command("/usr/bin/systemctl", verb, self.service)))

    def start(self) -> Action:
        return self._systemctl("start")

    def stop(self) -> Action:
        return self._systemctl("stop")

    def restart(self) -> Action:
        return self._systemctl("restart")

    def log(self, lines: int) -> Action:
        return Run(command("journalctl", "-q", "-u", self.service, "-n", str(lines), "--no-pager",
                           "-o", "cat"))

    def probe(self) -> Mapping[str, Any]:
        return {"units": [self.service], "files": [self.unit_path]}

    def drifted(self, files: Mapping[str, str]) -> bool:
        """Whether the unit on the host is another one than these settings make."""
        return files.get(self.unit_path) != hashlib.sha256(self.unit().encode()).hexdigest()


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
                "supervisord": self.wsgi.supervisord,
                "supervisorctl": self.wsgi.supervisorctl,
                "action": action,
            },
        )

    def start(self) -> Action:
        return self._supervise("start")

    def stop(self) -> Action:
        return self._supervise("stop")

    def restart(self) -> Action:
        return self._supervise("restart")

    def log(self, lines: int) -> Action:
        return Run(command("tail", "-n", str(lines), f"{self.folder}/{PROGRAM}.log"))

    def probe(self) -> Mapping[str, Any]:
        conf = {"conf": f"{self.folder}/supervisord.conf", "ctl": self.wsgi.supervisorctl,
                "program": PROGRAM}
        return {"supervisor": conf}
