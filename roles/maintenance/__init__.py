"""The site closed for everybody but us: a page in its place, and a way past it.

What closes it stands in front of the application, because that is stopped for a part of the time:
HAProxy, nginx or Apache, whose configuration holds a piece of ours once
(``fab maintenance.config``) and then looks at files that we write. Nothing is reloaded, so no
connection is lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from inventories.model import Host
from roles.command import OnHost, SecretRef, command
from roles.maintenance import address, page
from roles.maintenance.windows import WindowSettings
from roles.role import Role, Step, Target
from roles.settings import Settings
from roles.templates import render
from roles.wsgi import WsgiSettings
from roles.wsgi import applies as wsgi_applies

Driver = Literal["none", "haproxy", "nginx", "apache", "stand-in"]
# Beyond what a program waits for by its own account.
SLACK = 30


class MaintenanceSettings(Settings):
    """The mapping ``maintenance`` in the inventory."""

    driver: Driver = "none"
    """What shows the page. none: there is none, and visitors see refused connections or whatever
    your balancer says. stand-in: a small server of ours in the place of the stopped one, where
    nothing stands in front of it."""
    hosts: list[str] = ["proxy"]
    """The hosts or groups where it stands; all are closed and opened together."""
    ask: str = ""
    """Where each of them is asked what visitors get, as http://{address}:8080, where that is not
    how the site's own address says: behind something that ends TLS, for example."""
    names: list[str] = []
    """The host names that are closed at HAProxy, where one frontend may serve several sites,
    besides that of the first of app.urls; *.shop.example is every name below that. Default: the
    hosts of app.urls."""
    folder: str = ""
    """Where its files lie there. Default: /var/lib/fabfleet/<app>-<environment>."""
    title: str = "Back in a moment"
    """The page's heading."""
    text: str = "We are updating this site. Nothing is lost; please come back a little later."
    """What it says."""
    contact: str = ""
    """Where to turn meanwhile, shown below."""
    language: str = "en"
    """The page's language, as in HTML's lang."""
    template: str = ""
    """A Jinja template of your own instead; the path of the file."""
    api: list[str] = ["/api/"]
    """Beginnings of paths that are answered in JSON, as are requests that accept JSON only."""
    always: list[str] = []
    """Paths that are never closed, besides wsgi.health.path."""
    allow: list[str] = []
    """Addresses and networks for which the site is open all the time."""
    trusted_proxies: list[str] = []
    """Networks of proxies in front of this one: only of them the last address in X-Forwarded-For
    is believed."""
    socket: str = "/run/haproxy/admin.sock"
    """HAProxy's runtime socket, at level admin; a pattern where several processes have one each."""
    retry_after: Annotated[int, Field(gt=0)] = 60
    """Seconds after which to come back, where no end is known."""
    settle: Annotated[float, Field(ge=0)] = 5
    """Seconds that those who came before the page get for their answers, where nothing counts them
    (HAProxy as the balancer does, and is asked: balancer.deadline)."""
    windows: list[WindowSettings] = []
    """When a maintenance may be; where none is named, at any time."""
    smoke: str = "/"
    """The path that is asked for past the page before the site is opened; its status has to be
    below 400. Empty: nothing is asked."""
    smoke_deadline: Annotated[float, Field(gt=0)] = 30
    """Seconds until it has to answer so."""

    @field_validator("ask")
    @classmethod
    def _asked(cls, value: str) -> str:
        sample = address.filled(value, "host")
        if value and not (re.fullmatch(r"https?://[^/\s{}]+", sample) and address.is_one(sample)):
            raise ValueError(f"expected such as http://{{address}}:8080, got {value!r}")
        return value

    @field_validator("names")
    @classmethod
    def _host_names(cls, value: list[str]) -> list[str]:
        for each in value:
            if not re.fullmatch(r"(\*\.)?\w[\w.-]*", each, re.ASCII):
                raise ValueError(f"expected host names such as shop.example, got {each!r}")
        return value

    @field_validator("allow", "trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for each in value:
            try:
                ip_network(each)
            except ValueError:
                raise ValueError(f"expected addresses or networks such as 192.0.2.0/24, got "
                                 f"{each!r}") from None
        return value

    @field_validator("api", "always")
    @classmethod
    def _paths(cls, value: list[str]) -> list[str]:
        for each in value:
            if not each.startswith("/") or set(each) & set("\"' {};\\\n"):
                raise ValueError(f"expected paths that begin with /, got {each!r}")
        return value


@dataclass(frozen=True)
class Site:
    """What is closed: the application, by the hosts in front of it. ``url`` is its address,
    ``health`` the path of its health page, ``key`` names it in files and configuration. Where
    nothing is in front, ``stands`` are (the hosts on which our stand-in shows the page, the folder
    of our state there). ``names`` are the hosts by which visitors ask for it, () where nobody knows
    any."""

    key: str
    settings: MaintenanceSettings
    hosts: tuple[Host, ...]
    url: str
    health: str
    stands: tuple[tuple[Host, str], ...] = ()
    names: tuple[str, ...] = ()
    secret: SecretRef = field(default=SecretRef("file", ""))

    @property
    def folder(self) -> str:
        """Where its state lies on each of the hosts."""
        return self.settings.folder or f"/var/lib/fabfleet/{self.key}"

    @property
    def cookie(self) -> str:
        return f"{self.key.replace('-', '_')}_maintenance"

    @property
    def cookie_attributes(self) -> str:
        """Where the site is at https, browsers send the secret by nothing else."""
        secure = "; Secure" if urlsplit(self.url).scheme == "https" else ""
        return f"Path=/; HttpOnly; SameSite=Lax{secure}"

    @property
    def always(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.health, *self.settings.always)))

    @property
    def link(self) -> str:
        """The address of the way past the page, without the secret."""
        return f"{self.url.rstrip('/')}/?{self.cookie}="


@dataclass(frozen=True)
class Reason:
    """Why it is closed. ``until`` is in seconds since the epoch, 0: nobody knows. ``run`` says that
    a deploy closed it, which opens it again."""

    reason: str
    who: str
    until: float = 0
    run: bool = False
    allow: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What visitors read of it: the name of a release would tell them nothing."""
        return "" if self.run else self.reason


@dataclass(frozen=True)
class Closed:
    """How the hosts in front are closed: ``since`` in seconds since the epoch; ``by_run``: a deploy
    did it, which opens it again; ``told``: what a person has told visitors since; ``everywhere``:
    all of them are, and show the page."""

    since: float
    reason: str
    who: str
    by_run: bool
    until: float = 0
    run: str = ""
    secret: str = ""
    everywhere: bool = True
    told: str = ""


def close(site: Site, why: Reason) -> tuple[Step, ...]:
    """Close it on every host; where it is closed already, its beginning and its secret stay.

    Each host shows that it answers with the page, or nothing was closed there.
    """
    html, data = page.render_page(site.settings, why.told, why.until)
    told = {
        **_told(site, "close"), "html": html, "json": data,
        "retry": _retry(site, why), "record": _record(why),
        "allow": [*site.settings.allow, *why.allow], "cookie_attributes": site.cookie_attributes,
    }
    return _steps(site, "close", told, {"pass": site.secret})


def open_again(site: Site) -> tuple[Step, ...]:
    return _steps(site, "open", _told(site, "open"), {})


def smoke(site: Site) -> tuple[Step, ...]:
    """Ask each host for the site, past the page, until it answers well."""
    if not site.settings.smoke:
        return ()
    told = {**_told(site, "smoke"), "path": site.settings.smoke,
            "deadline": site.settings.smoke_deadline}
    return _steps(site, "smoke", told, {}, site.settings.smoke_deadline)


def look(site: Site) -> tuple[Step, ...]:
    """{"closed": bool, "shown": whether visitors get the page, "record"} is the last line of each
    answer."""
    if site.stands:
        return tuple(_standin("look", host, folder, {"action": "look"})
                     for host, folder in site.stands)
    return _steps(site, "look", _told(site, "look"), {})


def settle(site: Site, target: Target) -> tuple[Step, ...]:
    """Wait a little until nobody is connected to this host's server: visitors get the page now, and
    who came before it is to have an answer."""
    if not wsgi_applies(target):
        return ()
    python = command(target.host.connection.python or "python3", "-I")
    told = {"address": target.of(WsgiSettings, "wsgi").bind, "seconds": site.settings.settle}
    action = OnHost("settle", told, interpreter=python)
    return (Step("maintenance.settle", target.name, (action,),
                 timeout=site.settings.settle + SLACK),)


def stand_in(site: Site, target: Target, why: Reason) -> tuple[Step, ...]:
    """The page where this host's own server has answered, now that that is stopped."""
    if not _stands_in(site, target):
        return ()
    html, data = page.render_page(site.settings, why.told, why.until)
    told = {"action": "start", "html": html, "json": data, "key": site.key, "run": "",
            "address": target.of(WsgiSettings, "wsgi").address, "api": site.settings.api,
            "retry": _retry(site, why), "record": _record(why)}
    return (_standin("stand-in", target.host, target.paths.state, told),)


def step_aside(site: Site, target: Target) -> tuple[Step, ...]:
    """The stand-in ends; also where there is none."""
    return (_standin("step-aside", target.host, target.paths.state, {"action": "stop"}),) if (
        _stands_in(site, target)) else ()


def _record(why: Reason) -> dict[str, Any]:
    return {"reason": why.reason, "who": why.who, "until": why.until, "by_run": why.run}


def _retry(site: Site, why: Reason) -> int:
    """A run is over long before its window is, mostly; who waited for that would wait too long."""
    if why.run or not why.until:
        return site.settings.retry_after
    return page.retry_after(why.until - time.time())


def _stands_in(site: Site, target: Target) -> bool:
    return (site.settings.driver == "stand-in" and wsgi_applies(target)
            and not target.of(WsgiSettings, "wsgi").bind.startswith("/"))


def _standin(what: str, host: Host, folder: str, told: Mapping[str, Any]) -> Step:
    python = command(host.connection.python or "python3", "-I")
    action = OnHost("standin", {**told, "folder": folder}, interpreter=python)
    return Step(f"maintenance.{what}", host.name, (action,), timeout=SLACK)


def config(site: Site) -> str:
    """The piece of configuration for whoever administers the hosts in front, to be put there once.

    All names in it are the site's own, as several sites may share one server.
    """
    told: dict[str, Any] = {"site": site, "settings": site.settings, "ladder": page.LADDER,
                            "name": re.sub(r"[^a-z0-9]", "_", site.key.lower()),
                            "escaped": re.escape}
    return render(f"maintenance/templates/{site.settings.driver}.conf.j2", **told)


def seeds(driver: Driver) -> tuple[str, ...]:
    """Names of files that have to be there before the configuration is read."""
    return ("closed.map", "allowed.map") if driver == "haproxy" else ()


def _told(site: Site, action: str) -> dict[str, Any]:
    asked = urlsplit(address.filled(site.settings.ask or site.url, "host"))
    return {
        "action": action, "socket": site.settings.socket, "folder": site.folder,
        "cookie": site.cookie, "key": site.key, "name": urlsplit(site.url).netloc, "run": "",
        "scheme": asked.scheme, "port": asked.port or (443 if asked.scheme == "https" else 80),
    }


def _address(site: Site, host: Host) -> str:
    """Where this host answers visitors."""
    named = urlsplit(address.filled(site.settings.ask, host.connection.address)).hostname
    return named or host.connection.address


def _steps(
    site: Site, what: str, told: Mapping[str, Any], secrets: Mapping[str, SecretRef],
    seconds: float = 0,
) -> tuple[Step, ...]:
    found = []
    for host in site.hosts:
        python = command(host.connection.python or "python3", "-I")
        action = OnHost(f"closing.{site.settings.driver}",
                        {**told, "address": _address(site, host)}, secrets=secrets,
                        interpreter=python)
        found.append(Step(f"maintenance.{what}", host.name, (action,), timeout=seconds + SLACK))
    return tuple(found)


class Maintenance(Role):
    """Settings only: strategies ask for the page, as they do for a host's rotation."""

    name = "maintenance"
    settings = MaintenanceSettings
    after = ("wsgi",)


role = Maintenance()
