"""The load balancer in front of the servers: take one out, wait until it is idle, bring it back.

A strategy puts :func:`drain` before a host's turn and :func:`undrain` behind it.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from inventories.model import Host, Inventory
from roles.command import Action, Command, OnController, OnHost, command
from roles.hooks import CONTROLLER
from roles.role import Role, Step, Target
from roles.settings import Settings
from roles.wsgi import WsgiSettings

What = Literal["drain", "undrain", "look", "flip", "quiet"]
# Drivers that can bring some in and take others out in one act.
FLIPPING = ("haproxy", "nginx")
# Beyond what a program waits for by its own account, so that it always says itself what is wrong.
SLACK = 60
FLAG = "OUT_OF_ROTATION_FILE"


class HaproxySettings(Settings):
    """HAProxy's runtime socket."""

    socket: str = "/run/haproxy/admin.sock"
    """The socket on the balancer hosts, at level admin; a pattern where several processes have one
    each."""


class NginxSettings(Settings):
    """nginx's configuration."""

    config: str = ""
    """The file on the balancer hosts that holds the upstream; no link."""
    test: str = "sudo -n /usr/sbin/nginx -t"
    """The shell line that tests the configuration."""
    reload: str = "sudo -n /usr/bin/systemctl reload nginx"
    """The shell line that makes nginx read it."""
    pid: str = "/run/nginx.pid"
    """The file with the process id of nginx's master process."""


class HealthFileSettings(Settings):
    """A file on the code host that makes its health page answer 503."""

    file: str = ""
    """The file. Default: <root>/shared/out-of-rotation. The application finds its path in the
    environment variable OUT_OF_ROTATION_FILE."""
    seconds: Annotated[float, Field(ge=0)] = 10
    """Seconds that the balancer needs to notice, either way: the failures (or successes) that it
    wants x the time between two checks, and one such time more."""
    page: str | None = None
    """The page that the balancer asks for. When set, it is asked on the host itself whether it
    heeds the file."""


class AwsSettings(Settings):
    """An AWS target group, of an application or network load balancer."""

    target_group: str = ""
    """Its ARN."""
    region: str = ""
    """Its region. Default: the one in the ARN."""
    target_id: str = "{address}"
    """The target's id on each host: an instance's id, or an address."""


class CommandSettings(Settings):
    """Commands of your own. They find FABFLEET_HOST, FABFLEET_ADDRESS, FABFLEET_SERVER,
    FABFLEET_BACKEND and FABFLEET_PORT in their environment."""

    drain: str = ""
    """The shell line that takes a server out."""
    undrain: str = ""
    """The shell line that brings it back."""
    state: str = ""
    """A shell line whose last line of output says how it is: drained, up, or anything else. It is
    asked until it says what was wanted."""
    on: Literal["controller", "balancers", "host"] = "controller"
    """Where they run; host is the one that is taken out."""


class BalancerSettings(Settings):
    """The mapping ``balancer`` in the inventory."""

    driver: Literal["none", "haproxy", "nginx", "health-file", "aws-target-group", "command"] = (
        "none"
    )
    """What is in front of the servers; none: no host is taken out for its turn."""
    groups: list[str] = ["web"]
    """The groups whose hosts are behind it."""
    hosts: list[str] = ["proxy"]
    """The balancer hosts: names of hosts or of groups. Every one of them is told."""
    backend: str | list[str] = []
    """The backends of HAProxy, or upstreams of nginx, that the server is in."""
    server: str = "{host}"
    """The server's name there; {host} is the name in the inventory, {address} its ansible_host."""
    port: Annotated[int, Field(ge=0)] = 0
    """The server's port there, for nginx and AWS; 0 where the name alone is clear enough."""
    min_up: int | str = 1
    """How many other servers have to be up, as the balancer sees it, before one is taken out: a
    number, or a part of all as in "50%". 0: nobody looks. health-file and command cannot look."""
    deadline: Annotated[float, Field(gt=0)] = 60
    """Seconds to wait until nothing runs on the server any more."""
    then: Literal["fail", "go-on", "shut"] = "fail"
    """What happens to what runs longer. fail: the server comes back into rotation, and the run
    fails. go-on: it is restarted all the same. shut: HAProxy ends the sessions."""
    up_deadline: Annotated[float, Field(gt=0)] = 60
    """Seconds to wait until enough servers are up, or the one that comes back."""
    haproxy: HaproxySettings = HaproxySettings()
    """For haproxy."""
    nginx: NginxSettings = NginxSettings()
    """For nginx."""
    health_file: HealthFileSettings = HealthFileSettings()
    """For health-file."""
    aws: AwsSettings = AwsSettings()
    """For aws-target-group."""
    command: CommandSettings = CommandSettings()
    """For command."""

    @field_validator("min_up")
    @classmethod
    def _floor(cls, value: int | str) -> int | str:
        percent = isinstance(value, str) and re.fullmatch(r"\d{1,2}%|100%", value)
        if not percent and (isinstance(value, str) or value < 0):
            raise ValueError('expected a number of servers, or a part of all as in "50%"')
        return value

    @field_validator("server")
    @classmethod
    def _template(cls, value: str) -> str:
        if re.search(r"[{}]", re.sub(r"\{(host|address)\}", "", value)) or not value:
            raise ValueError("expected a name, in which {host} and {address} may stand")
        return value

    @model_validator(mode="after")
    def _complete(self) -> BalancerSettings:
        needs: dict[str, dict[str, object]] = {
            "haproxy": {"backend": self.backends},
            "nginx": {"backend": self.backends, "nginx.config": self.nginx.config},
            "aws-target-group": {"aws.target_group": self.aws.target_group},
            "command": {"command.drain": self.command.drain,
                        "command.undrain": self.command.undrain},
        }
        missing = [name for name, value in needs.get(self.driver, {}).items() if not value]
        if missing:
            raise ValueError(f"expected {' and '.join(missing)}, which {self.driver} needs")
        if self.then == "shut" and self.driver not in ("none", "haproxy"):
            raise ValueError("expected then: fail or go-on; only haproxy can shut sessions")
        return self

    @property
    def backends(self) -> list[str]:
        found = [self.backend] if isinstance(self.backend, str) else self.backend
        return [each for each in found if each]

    @property
    def has_hosts(self) -> bool:
        """Whether anything happens on the balancer hosts."""
        on_balancers = self.driver == "command" and self.command.on == "balancers"
        return self.driver in ("haproxy", "nginx") or on_balancers


class Balancer(Role):
    """Has no moments of its own: strategies ask for a host's drain and undrain."""

    name = "balancer"
    settings = BalancerSettings
    after = ("wsgi",)

    def environment(self, target: Target) -> Mapping[str, str]:
        by_file = target.of(BalancerSettings, "balancer").driver == "health-file"
        return {FLAG: flag(target)} if by_file and applies(target) else {}


def applies(target: Target) -> bool:
    """Whether this host is behind a balancer that we talk to."""
    settings = target.of(BalancerSettings, "balancer")
    return settings.driver != "none" and bool(set(settings.groups) & set(target.host.groups))


def hosts_of(settings: BalancerSettings, host: Host, inventory: Inventory) -> tuple[Host, ...]:
    """The balancer hosts of one code host; none where it is behind none, or the driver acts
    elsewhere.

    Raises :class:`InventoryError` where a name is neither a host nor a group.
    """
    if not settings.has_hosts or not set(settings.groups) & set(host.groups):
        return ()
    return named_hosts(settings.hosts, inventory, host.where("balancer", "hosts"))


def named_hosts(names: Sequence[str], inventory: Inventory, where: str) -> tuple[Host, ...]:
    """The hosts of these names, or of groups of these names; ``where`` they are named.

    Raises :class:`InventoryError` where a name is neither, and where there are none.
    """
    from inventories.errors import InventoryError

    found: dict[str, Host] = {}
    for name in names:
        if name in inventory.hosts:
            found[name] = inventory.hosts[name]
        elif name in inventory.groups:
            found.update({each.name: each for each in inventory.group(name)})
        else:
            raise InventoryError(f"{where}: no host or group {name}; name those that it runs on")
    if not found:
        raise InventoryError(f"{where}: no hosts in {', '.join(names) or 'it'}; there has to be "
                             f"one")
    return tuple(found.values())


def drain(target: Target, balancers: Sequence[Host]) -> tuple[Step, ...]:
    """Take this host out on every balancer, and wait until nothing runs on it any more.

    ``balancers`` are what :func:`hosts_of` found.
    """
    return tuple(_steps("drain", target, balancers))


def undrain(target: Target, balancers: Sequence[Host]) -> tuple[Step, ...]:
    """Bring this host back on every balancer, and wait until it is up there."""
    return tuple(_steps("undrain", target, balancers))


def flip(
    enter: Sequence[Target], leave: Sequence[Target], balancers: Sequence[Host]
) -> tuple[Step, ...]:
    """Bring servers into rotation and take others out at the same moment, on every balancer.

    For HAProxy and nginx (:data:`FLIPPING`).
    """
    target = enter[0]
    settings = target.of(BalancerSettings, "balancer")
    sides = {"enter": list(map(server_name, enter)), "leave": list(map(server_name, leave))}
    told = {**_told("flip", target), **sides}
    del told["server"]
    return tuple(
        Step("balancer.flip", each.name, (_program(settings.driver, told, each),),
             timeout=2 * settings.up_deadline + SLACK, rotation=True) for each in balancers)


def look(target: Target, balancers: Sequence[Host]) -> tuple[Step, ...]:
    """Ask every balancer for the state of all its servers: ``{"servers": [{"balancer", "server",
    "status", "up", "drained", ...}]}`` is the last line of each answer."""
    return tuple(_steps("look", target, balancers))


def quiet(target: Target, balancers: Sequence[Host]) -> tuple[Step, ...]:
    """Wait until nothing runs on this host any more, where nothing new comes; only HAProxy counts.
    """
    by_haproxy = target.of(BalancerSettings, "balancer").driver == "haproxy"
    return tuple(_steps("quiet", target, balancers)) if by_haproxy else ()


def watch(
    target: Target, balancers: Sequence[Host], seconds: float, percent: float
) -> tuple[Step, ...]:
    """Look for so many seconds whether the server stays up and at most this share of its requests
    fails, as its balancers, one after the other, count them; nothing where the driver counts none.
    """
    settings = target.of(BalancerSettings, "balancer")
    if not applies(target) or settings.driver != "haproxy":
        return ()
    told: dict[str, Any] = {
        "action": "watch", "socket": settings.haproxy.socket, "backends": settings.backends,
        "server": server_name(target), "seconds": seconds / len(balancers), "percent": percent,
    }
    return tuple(Step("balancer.watch", each.name, (_program("haproxy", told, each),),
                      timeout=seconds + SLACK, rotation=True) for each in balancers)


def _steps(what: What, target: Target, balancers: Sequence[Host]) -> Iterator[Step]:
    if not applies(target):
        return
    settings = target.of(BalancerSettings, "balancer")
    seconds = {"drain": settings.deadline + 2 * settings.up_deadline,
               "undrain": 2 * settings.up_deadline, "look": 0, "quiet": settings.deadline}[what]
    if settings.driver == "health-file" and what != "look":
        seconds += settings.health_file.seconds
    for host, action in _actions(what, target, balancers):
        yield Step(f"balancer.{what}", host, (action,), timeout=seconds + SLACK, rotation=True)


def _actions(
    what: What, target: Target, balancers: Sequence[Host]
) -> list[tuple[str, Action]]:
    """Where something happens, and what."""
    settings = target.of(BalancerSettings, "balancer")
    if settings.driver in FLIPPING:
        return [(each.name, _program(settings.driver, _told(what, target), each))
                for each in balancers]
    if settings.driver == "health-file":
        return [(target.name, _program("healthfile", _health_file(what, target), target.host))]
    if settings.driver == "aws-target-group":
        return [(CONTROLLER, OnController(_aws(what, target).line))]
    told = {"action": what, "server": server_name(target), "environment": _facts(target),
            "lines": settings.command.model_dump(include={"drain", "undrain", "state"}),
            **_waits(settings)}
    if settings.command.on == "controller":
        return [(CONTROLLER, OnController(_here("balancing.command", told).line))]
    where = balancers if settings.command.on == "balancers" else (target.host,)
    return [(each.name, _program("command", told, each)) for each in where]


def _told(what: What, target: Target) -> dict[str, Any]:
    """What the programs for HAProxy and nginx are told."""
    settings = target.of(BalancerSettings, "balancer")
    own = settings.nginx
    particular: dict[str, Any] = {"socket": settings.haproxy.socket}
    if settings.driver == "nginx":
        particular = {"config": own.config, "test": own.test, "reload": own.reload,
                      "pid": own.pid, "port": settings.port}
    return {"action": what, **particular, "backends": settings.backends,
            "server": server_name(target), "min_up": settings.min_up, **_waits(settings)}


def _waits(settings: BalancerSettings) -> dict[str, Any]:
    return {"deadline": settings.deadline, "up_deadline": settings.up_deadline,
            "then": settings.then}


def _program(name: str, arguments: Mapping[str, Any], host: Host) -> OnHost:
    python = command(host.connection.python or "python3", "-I")
    return OnHost(f"balancing.{name}", arguments, interpreter=python)


def _here(program: str, arguments: Mapping[str, Any]) -> Command:
    """One of the programs on the controller itself."""
    import json

    # -P: nobody's fabfile in the folder where the task was typed is meant.
    return command(sys.executable, "-P", "-m", "fabfile.engine.here", program,
                   json.dumps(arguments, sort_keys=True))


def _aws(what: What, target: Target) -> Command:
    settings = target.of(BalancerSettings, "balancer")
    arn = settings.aws.target_group
    region = settings.aws.region or (arn.split(":")[3:4] or [""])[0]
    words = [sys.executable, "-P", "-m", "fabfile.engine.aws", what, "--target-group", arn,
             "--target", filled(settings.aws.target_id, target), "--port", str(settings.port),
             "--min-up", str(settings.min_up), "--deadline", f"{settings.deadline:g}",
             "--up-deadline", f"{settings.up_deadline:g}", "--then", settings.then]
    return command(*words, *(("--region", region) if region else ()))


def _health_file(what: What, target: Target) -> dict[str, Any]:
    settings = target.of(BalancerSettings, "balancer")
    wsgi = target.of(WsgiSettings, "wsgi")
    return {
        "action": what, "file": flag(target), "server": server_name(target),
        "seconds": settings.health_file.seconds, "page": settings.health_file.page,
        "address": wsgi.local_address, "host": wsgi.health.host,
        "up_deadline": settings.up_deadline,
    }


def _facts(target: Target) -> dict[str, str]:
    """What commands of one's own are told."""
    settings = target.of(BalancerSettings, "balancer")
    return {
        "FABFLEET_HOST": target.name, "FABFLEET_ADDRESS": target.host.connection.address,
        "FABFLEET_SERVER": server_name(target), "FABFLEET_BACKEND": " ".join(settings.backends),
        "FABFLEET_PORT": str(settings.port),
    }


def flag(target: Target) -> str:
    """The file that says that this host is out of rotation."""
    chosen = target.of(BalancerSettings, "balancer").health_file.file
    return chosen or f"{target.paths.shared}/out-of-rotation"


def server_name(target: Target) -> str:
    return filled(target.of(BalancerSettings, "balancer").server, target)


def filled(template: str, target: Target) -> str:
    named = template.replace("{host}", target.name)
    return named.replace("{address}", target.host.connection.address)


# --- what hosts.setup gives --------------------------------------------------------------------


def sudo_rules(settings: BalancerSettings, deploy: str) -> str:
    """The sudo rules on a balancer host: nginx's test, its reload, and the one file."""
    if settings.driver != "nginx":
        return ""
    own = settings.nginx
    folder, _, name = own.config.rpartition("/")
    draft = f"{folder}/.{name}.fabfleet"
    asked = [line.removeprefix("sudo -n ") for line in (own.test, own.reload)
             if line.startswith("sudo -n /")]
    lines = [*map(shlex.split, asked), ["/usr/bin/tee", draft],
             ["/usr/bin/mv", "-T", draft, own.config]]
    rules = [f"{deploy} ALL=(root) NOPASSWD: {' '.join(map(_escaped, words))}\n" for words in lines]
    why = (f"# For nginx's upstream. Whoever writes this file is as good as root here, because\n"
           f"# nginx reads it as root.\nDefaults:{deploy} !requiretty\n")
    return why + "".join(rules)


def _escaped(word: str) -> str:
    """A word of a rule: what means something to sudo is only itself."""
    return re.sub(r"([\\,:= *?\[\]!()\"#])", r"\\\1", word)


role = Balancer()
