"""``method: beside``: servers of two releases on one host, and a link that leads to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from roles import units
from roles.app import AppSettings
from roles.command import OnHost, as_user, command
from roles.instances import SERVERS, Instances
from roles.launch import service_user
from roles.role import Setup, Step, Target
from roles.wsgi.manager import Systemd, manager_of

if TYPE_CHECKING:
    from roles.wsgi import WsgiSettings


def _instances(wsgi: WsgiSettings, app: AppSettings) -> Instances:
    name = f"{app.name}-wsgi"
    return Instances(app, SERVERS, [name], f"{name}@*.service", wsgi.bind)


def _of(target: Target) -> tuple[WsgiSettings, AppSettings]:
    from roles.wsgi import WsgiSettings

    return target.of(WsgiSettings, "wsgi"), target.of(AppSettings, "app")


def setup(target: Target) -> Setup:
    wsgi, app = _of(target)
    found = manager_of(target)
    assert isinstance(found, Systemd)
    (service, text), (socket, _) = found.files.items()
    wanted = _instances(wsgi, app).setup({f"{app.name}-wsgi": text})
    # The unit of the other methods would serve the same link.
    return Setup({**wanted.files, service: "", socket: ""}, wanted.programs, wanted.rules,
                 wanted.units)


def probe(wsgi: WsgiSettings, app: AppSettings) -> dict[str, Any]:
    asked = _instances(wsgi, app).probe()
    gone = [units.path(f"{app.name}-wsgi.{kind}") for kind in ("service", "socket")]
    return {**asked, "files": [*asked["files"], *gone], "links": [wsgi.bind]}


def serves(target: Target) -> bool:
    """The link leads to a server of this release, which runs; others may stay up for a way back."""
    wsgi, app = _of(target)
    release, name = target.release.id, f"{app.name}-wsgi"
    live = target.facts.links.get(wsgi.bind, "")
    instance = live.removeprefix(f"{wsgi.bind.removesuffix('.sock')}-").removesuffix(".sock")
    return (instance.partition(":")[0] == release
            and target.facts.services.get(f"{name}@{instance}.service") == "active")


def step(target: Target, action: str) -> Step:
    """One of start, flip, retire, stop (``roles/onhost/instances/beside.py``)."""
    wsgi, app = _of(target)
    instances = _instances(wsgi, app)
    limit = wsgi.graceful_timeout + 30 if action == "stop" else 60
    act = OnHost("instances.beside", {
        "action": action, "template": instances.templates[0], "helper": instances.helper,
        "release": target.release.id, "afresh": target.afresh, "link": wsgi.bind,
        "keep": wsgi.keep, "deadline": limit,
        "as_service": list(as_user(service_user(target), command()).words),
    })
    log = units.log(f"{instances.templates[0]}@{target.release.id}*", 30)
    name = {"start": "wsgi.beside"}.get(action, f"wsgi.{action}")
    return Step(name, target.name, (act,), timeout=limit + 30,
                diagnose=(log,) if action == "start" else ())
