"""Task workers: Celery's, or any other program that takes tasks and ends on a signal.

Each release's workers run in units of their own. New ones start beside the old ones, which take no
new task from then on and finish what they have, however long that lasts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from inventories.model import Host
from roles import units
from roles.app import AppSettings
from roles.command import Action, OnHost, Run, Word
from roles.instances import WORKERS, Instances
from roles.launch import interpreter, launch_as_service
from roles.role import Role, Setup, Step, Target
from roles.settings import Settings
from roles.templates import render
from roles.units import TOLD_TO_STOP

POOL = re.compile(r"[a-z][a-z0-9_]{0,30}")
# Imports what a worker imports when it starts, tasks included.
LOAD = ("import sys; from celery.app.utils import find_app; "
        "find_app(sys.argv[1]).loader.import_default_modules()")


class PoolSettings(Settings):
    """One kind of worker."""

    command: list[str] = []
    """Its command line, found on the virtual environment's PATH; not for Celery, which has one."""
    queues: list[str] = []
    """Celery: the queues it takes tasks from. Default: Celery's own."""
    concurrency: Annotated[int, Field(ge=1)] | None = None
    """Celery: tasks at the same time. Default: the host's processors."""
    options: list[str] = []
    """Celery: more options for the worker."""


class WorkersSettings(Settings):
    """The mapping ``workers`` in the inventory."""

    celery: str = ""
    """The Celery application, as in `celery -A`: a module, or module:name."""
    pools: dict[str, PoolSettings] = {}
    """The kinds of workers by name, each of which runs once on every host. Default with Celery:
    one, named main."""
    groups: list[str] = ["worker"]
    """The groups whose hosts run workers."""
    stop_signal: Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"] = "TERM"
    """The signal after which a worker takes no new task, finishes what it has, and ends."""
    ready: list[str] = []
    """A command that ends with 0 when the workers are ready, run in the new release. Default with
    Celery: each of them answers a ping."""
    steady: Annotated[float, Field(ge=0)] = 2
    """Seconds for which a new worker has to run before it counts as started."""
    deadline: Annotated[float, Field(gt=0)] = 60
    """Seconds until new workers have to be ready."""
    stop_deadline: Annotated[float, Field(gt=0)] = 600
    """Seconds that tasks get to finish where everything is to stop (`fab stop`, a deploy that stops
    everything). It fails then, and kills nothing."""

    @field_validator("pools")
    @classmethod
    def _names(cls, value: dict[str, PoolSettings]) -> dict[str, PoolSettings]:
        for name in value:
            if not POOL.fullmatch(name):
                raise ValueError(f"expected names of lower case letters, digits and underscores, "
                                 f"not {name!r}")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> WorkersSettings:
        for name, pool in self.pools.items():
            if self.celery and pool.command:
                raise ValueError(f"pools.{name}.command: expected nothing here: the workers are "
                                 f"Celery's (workers.celery)")
            if not self.celery and not pool.command:
                raise ValueError(f"pools.{name}.command: missing; what starts these workers? Or "
                                 f"name the Celery application in workers.celery")
            if not self.celery and (pool.queues or pool.concurrency or pool.options):
                raise ValueError(f"pools.{name}: queues, concurrency and options are Celery's; "
                                 f"write them into command")
        return self

    @property
    def kinds(self) -> dict[str, PoolSettings]:
        return self.pools or ({"main": PoolSettings()} if self.celery else {})

    def argv(self, pool: PoolSettings) -> list[str]:
        """The command line of a worker; Celery's node name comes from its unit."""
        if not self.celery:
            return pool.command
        queues = ["--queues", ",".join(pool.queues)] if pool.queues else []
        number = ["--concurrency", str(pool.concurrency)] if pool.concurrency else []
        return ["celery", "-A", self.celery, "worker", "--loglevel=INFO", *queues, *number,
                *pool.options]


def applies(target: Target) -> bool:
    settings = target.of(WorkersSettings, "workers")
    return bool(settings.kinds) and bool(set(settings.groups) & set(target.host.groups))


def named(pool: str) -> str:
    """The launcher's name for a pool's command."""
    return f"worker-{pool}"


class Workers(Role):
    """Starts the new release's workers and lets those of others finish."""

    name = "workers"
    settings = WorkersSettings
    after = ("release", "python", "static", "wsgi")

    def commands(self, target: Target) -> Mapping[str, list[str]]:
        if not applies(target):
            return {}
        settings = target.of(WorkersSettings, "workers")
        return {named(name): settings.argv(pool) for name, pool in settings.kinds.items()}

    def stage(self, target: Target) -> Iterable[Step]:
        """A release whose tasks cannot be imported must not reach a worker."""
        if applies(target) and (app := target.of(WorkersSettings, "workers").celery):
            load = launch_as_service(target, "python", "-c", LOAD, app)
            yield Step("workers.check", target.name, (Run(load),), timeout=120, judges=True)

    def stop(self, target: Target) -> Iterable[Step]:
        if applies(target):
            limit = target.of(WorkersSettings, "workers").stop_deadline
            yield Step("workers.stop", target.name, (_act(target, "stop"),), timeout=limit + 30)

    def start(self, target: Target) -> Iterable[Step]:
        if applies(target) and _wanted(target):
            limit = target.of(WorkersSettings, "workers").deadline
            log = units.log(f"{prefix(target)}*@{target.release.id}*", 30)
            yield Step("workers.start", target.name, (_act(target, "start"),), timeout=limit + 60,
                       diagnose=(log,))

    def restart(self, target: Target) -> Iterable[Step]:
        return self.start(target)

    def off(self, target: Target) -> Iterable[str]:
        """Pools of which no worker is left."""
        if not applies(target):
            return
        there = {instance(unit)[0] for unit, state in target.facts.services.items()
                 if "@" in unit and state not in TOLD_TO_STOP}
        for pool in target.of(WorkersSettings, "workers").kinds:
            if named(pool) in target.facts.commands and prefix(target) + pool not in there:
                yield named(pool)

    def setup(self, target: Target) -> Setup:
        if not applies(target):
            return Setup()
        settings, app = target.of(WorkersSettings, "workers"), target.of(AppSettings, "app")
        told = {
            "app": app, "workers": settings, "paths": target.paths,
            "python": units.absolute(interpreter(target)), "user": units.runs_as(target),
        }
        return instances(app, settings).setup({
            f"{app.name}-worker-{pool}":
                render("workers/templates/worker.service.j2", **told, pool=pool, name=named(pool))
            for pool in settings.kinds
        })

    def serves(self, target: Target) -> bool:
        """Each pool works in this release and in no other; what only finishes is no matter."""
        if not applies(target):
            return True
        working = [instance(unit) for unit, state in target.facts.services.items()
                   if unit.startswith(prefix(target)) and "@" in unit and state == "active"]
        pools = {(pool, target.release.id)
                 for pool in target.of(WorkersSettings, "workers").kinds}
        return {(pool.removeprefix(prefix(target)), release) for pool, release in working} == pools

    def probe(self, host: Host, settings: Mapping[str, Settings]) -> Mapping[str, Any]:
        workers, app = settings["workers"], settings["app"]
        assert isinstance(workers, WorkersSettings) and isinstance(app, AppSettings)
        if not workers.kinds or not set(workers.groups) & set(host.groups):
            return {}
        return instances(app, workers).probe()


def instances(app: AppSettings, settings: WorkersSettings) -> Instances:
    templates = [f"{app.name}-worker-{pool}" for pool in settings.kinds]
    return Instances(app, WORKERS, templates, f"{app.name}-worker-*@*.service")


def prefix(target: Target) -> str:
    return f"{target.of(AppSettings, 'app').name}-worker-"


def instance(unit: str) -> tuple[str, str]:
    """(template, release) of a worker's unit; ``:2`` is the second of the same release."""
    template, _, rest = unit.removesuffix(".service").partition("@")
    return template, rest.partition(":")[0]


def _act(target: Target, action: str) -> Action:
    settings, app = target.of(WorkersSettings, "workers"), target.of(AppSettings, "app")
    return OnHost("instances.workers", {
        "action": action,
        "prefix": prefix(target),
        "helper": instances(app, settings).helper,
        "release": target.release.id,
        "pools": _wanted(target),
        "afresh": target.afresh,
        "steady": settings.steady,
        "deadline": settings.stop_deadline if action == "stop" else settings.deadline,
        "ready": _ready(target, settings),
    })


def _wanted(target: Target) -> list[str]:
    """The pools that are to work."""
    return [pool for pool in target.of(WorkersSettings, "workers").kinds
            if named(pool) not in (target.off or ())]


def _ready(target: Target, settings: WorkersSettings) -> list[Word]:
    """How to ask whether workers are ready; ``{node}`` stands for a Celery node's name."""
    asked = list(settings.ready)
    if not asked and settings.celery:
        asked = ["celery", "-A", settings.celery, "inspect", "ping", "--timeout=2",
                 "--destination={node}"]
    return list(launch_as_service(target, *asked).words) if asked else []


role = Workers()
