"""One environment, ready to plan with: its hosts, every role's settings, the migration host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from fabfile.errors import InventoryError, UsageError
from inventories.load import load
from inventories.model import Host, Inventory
from roles.app import AppSettings
from roles.balancer import BalancerSettings, hosts_of, named_hosts
from roles.deploy import DeploySettings
from roles.hooks import CONTROLLER, HooksSettings
from roles.maintenance import MaintenanceSettings, Site, address
from roles.maintenance.names import names_of
from roles.migrations import MigrationsSettings
from roles.registry import roles
from roles.release import ReleaseSettings
from roles.role import Paths
from roles.scheduler import SchedulerSettings, runs_on
from roles.settings import Settings, read
from roles.wsgi import WsgiSettings
from roles.wsgi import runs_on as runs_wsgi

CHECKOUT = Path(__file__).resolve().parent.parent

S = TypeVar("S", bound=Settings)


def inventories_root(option: str | None = None) -> Path:
    """--inventory, else $FABFLEET_INVENTORY, else ``inventories/`` here or in the checkout."""
    chosen = option or os.environ.get("FABFLEET_INVENTORY")
    if chosen:
        path = Path(chosen).expanduser()
        if not path.is_dir():
            raise UsageError(f"--inventory={chosen}: no such folder; it holds the environments")
        return path
    here = Path("inventories")
    return here if here.is_dir() else CHECKOUT / "inventories"


@dataclass(frozen=True)
class Environment:
    """``hosts`` are those that get code, in the inventory's order."""

    inventory: Inventory
    hosts: tuple[Host, ...]
    settings: Mapping[str, Mapping[str, Settings]]

    @property
    def name(self) -> str:
        return self.inventory.environment

    def of(self, model: type[S], role: str, host: Host | None = None) -> S:
        """The settings of one role; without a host those of the first, where all have to agree."""
        found = self.settings[(host or self.hosts[0]).name][role]
        assert isinstance(found, model)
        return found

    @property
    def app(self) -> AppSettings:
        return self.of(AppSettings, "app")

    @property
    def key(self) -> str:
        """Where this environment's journals are kept."""
        return f"{self.app.name}-{self.name}"

    def paths(self, host: Host) -> Paths:
        return Paths(self.of(AppSettings, "app", host).folder)

    @cached_property
    def roots(self) -> dict[str, str]:
        return {host.name: self.paths(host).root for host in self.hosts}

    def balancers(self, host: Host) -> tuple[Host, ...]:
        """The hosts of the balancers that this host is behind."""
        return hosts_of(self.of(BalancerSettings, "balancer", host), host, self.inventory)

    @property
    def scheduler_hosts(self) -> tuple[Host, ...]:
        """The one host that runs the scheduler, or none."""
        return tuple(host for host in self.hosts
                     if runs_on(self.of(SchedulerSettings, "scheduler", host), host))

    @property
    def site(self) -> Site | None:
        """What can be closed for maintenance, or None. Raises :class:`InventoryError`."""
        settings = self.of(MaintenanceSettings, "maintenance")
        if settings.driver == "none":
            return None
        first = self.hosts[0]
        if not self.app.urls:
            raise InventoryError(f"{first.where('app', 'urls')}: missing; name the site's address, "
                                 f"which shows whether it is closed")
        url = self.app.urls[0]
        if not address.is_one(url):
            raise InventoryError(f"{first.where('app', 'urls')}: expected such as "
                                 f"https://shop.example/, got {url!r}")
        health = self.of(WsgiSettings, "wsgi").health.path
        if settings.driver == "stand-in":
            serving = [host for host in self.hosts
                       if runs_wsgi(self.of(WsgiSettings, "wsgi", host), host)]
            for host in serving:
                if self.of(WsgiSettings, "wsgi", host).socket_path:
                    raise InventoryError(
                        f"{first.where('maintenance', 'driver')}: a stand-in answers at a port, "
                        f"and the server of {host.name} at a socket "
                        f"({host.where('wsgi', 'bind')}); let what is in front of it show the page")
            stands = tuple((host, self.paths(host).state) for host in serving)
            return Site(self.key, settings, (), url, health, stands)
        if "/" in (health, *settings.always):
            where = first.where("wsgi", "health") if health == "/" else (
                first.where("maintenance", "always"))
            raise InventoryError(f"{where}: / is the page that visitors ask for, and this would "
                                 f"never be closed; give the health page a path of its own, such "
                                 f"as /healthz")
        hosts = named_hosts(settings.hosts, self.inventory, first.where("maintenance", "hosts"))
        return Site(self.key, settings, hosts, url, health,
                    names=names_of(settings.names, self.app.urls))

    @property
    def hooks(self) -> HooksSettings:
        return self.of(HooksSettings, "hooks")

    @property
    def strategy(self) -> str:
        return self.of(DeploySettings, "deploy").strategy

    @property
    def known_hosts(self) -> tuple[str, ...]:
        """The team's own known_hosts beside the inventory."""
        path = self.inventory.path
        folder = path if path.is_dir() else path.parent
        return (str(folder / "known_hosts"),)

    @property
    def has_migrations(self) -> bool:
        return bool(self.of(MigrationsSettings, "migrations").command)

    @cached_property
    def migration_host(self) -> Host:
        """The one host that runs migrations and keeps the lock: named, never guessed.

        Raises :class:`InventoryError` when none or more than one is named.
        """
        named: dict[str, Host] = {}
        for host in self.hosts:
            value = self.of(MigrationsSettings, "migrations", host).host
            if value is not None:
                named.setdefault(value, host)
        where = self.hosts[0].where("migrations", "host")
        names = ", ".join(host.name for host in self.hosts)
        if not named:
            if len(self.hosts) == 1:
                return self.hosts[0]
            raise InventoryError(
                f"{where}: no migration host; name the one host on which migrations run, "
                f"one of: {names}"
            )
        if len(named) > 1:
            said = " and ".join(f"{value} ({host.where('migrations', 'host')})"
                                for value, host in named.items())
            raise InventoryError(f"{where}: two migration hosts: {said}; there must be exactly one")
        ((name, by),) = named.items()
        members = [host for host in self.hosts if host.name == name]
        if not members and name in self.inventory.groups:
            inside = {host.name for host in self.inventory.group(name)}
            members = [host for host in self.hosts if host.name in inside]
            if len(members) > 1:
                listed = ", ".join(host.name for host in members)
                raise InventoryError(
                    f"{by.where('migrations', 'host')}: two migration hosts: the group {name} has "
                    f"{listed}; there must be exactly one"
                )
        if not members:
            raise InventoryError(
                f"{by.where('migrations', 'host')}: {name} is none of the hosts that get the code: "
                f"{names}"
            )
        return members[0]


def open_environment(environment: str | None, inventory: str | None = None) -> Environment:
    """Raises :class:`UsageError` and :class:`InventoryError`, all problems of all hosts at once."""
    chosen = environment or os.environ.get("FABFLEET_ENV") or ""
    found = load(chosen, inventories_root(inventory))
    if not found.hosts:
        raise InventoryError(f"{found.path}: no hosts; add some to the group web")
    settings: dict[str, dict[str, Settings]] = {}
    problems: dict[str, None] = {}
    coded = _hosts_with_code(found)
    for host in coded:
        settings[host.name] = {}
        for role in roles():
            try:
                settings[host.name][role.name] = read(role.settings, host, role.name)
            except InventoryError as error:
                problems.update(dict.fromkeys(str(error).splitlines()))
    if problems:
        raise InventoryError("\n".join(problems))
    result = Environment(found, tuple(coded), settings)
    _check_agreement(result)
    _check_hooks(result)
    _check_scheduler(result)
    for host in result.hosts:
        result.balancers(host)
    _ = result.site  # every problem shows now, not at the first maintenance
    return result


def _hosts_with_code(inventory: Inventory) -> list[Host]:
    """Hosts in one of the groups that the release goes to."""
    found = []
    usual = ReleaseSettings.model_fields["groups"].default
    for host in inventory.hosts.values():
        value = host.setting("release")
        groups = value.get("groups") if isinstance(value, Mapping) else None
        wanted = groups if isinstance(groups, list) else usual
        if set(wanted) & set(host.groups):
            found.append(host)
    if not found:
        raise InventoryError(
            f"{inventory.path}: no host gets the code; put hosts in one of the groups "
            f"{', '.join(usual)}"
        )
    return found


def _check_agreement(environment: Environment) -> None:
    """What the whole fleet shares must not differ from host to host."""
    first = environment.hosts[0]
    for host in environment.hosts[1:]:
        for role in ("release", "hooks", "deploy", "maintenance", "notifications", "chat"):
            if environment.settings[host.name][role] != environment.settings[first.name][role]:
                raise InventoryError(
                    f"{host.where(role)}: differs from the one of {first.name} "
                    f"({first.where(role)}); it has to be the same on all hosts"
                )
        ours, theirs = (environment.of(AppSettings, "app", each) for each in (host, first))
        if ours.name != theirs.name:
            raise InventoryError(
                f"{host.where('app', 'name')}: {ours.name}, but {first.name} has {theirs.name}; "
                f"one environment deploys one application"
            )


def _check_scheduler(environment: Environment) -> None:
    found = environment.scheduler_hosts
    if len(found) > 1:
        names = " and ".join(host.name for host in found)
        raise InventoryError(
            f"{found[0].where('scheduler')}: {names} would run the scheduler, and there must be "
            f"exactly one; leave one host in scheduler.groups "
            f"({', '.join(environment.of(SchedulerSettings, 'scheduler', found[0]).groups)})"
        )


def _check_hooks(environment: Environment) -> None:
    hooks = environment.hooks
    for when, moments in (("before", hooks.before), ("after", hooks.after)):
        for moment, each in moments.items():
            for number, hook in enumerate(each):
                if hook.on not in (CONTROLLER, "each", *(h.name for h in environment.hosts)):
                    where = environment.hosts[0].where("hooks", when, moment, str(number), "on")
                    names = ", ".join(host.name for host in environment.hosts)
                    raise InventoryError(
                        f"{where}: expected controller, each or one of {names}, got {hook.on!r}"
                    )
