"""The scheduler of periodic tasks: Celery's beat, or any other program of which there must be
exactly one in the fleet. It never runs while migrations do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from inventories.model import Host
from roles import units
from roles.app import AppSettings
from roles.command import Run, as_root, command
from roles.launch import interpreter
from roles.role import Role, Setup, Step, Target
from roles.settings import Settings
from roles.templates import render

# The launcher's name for it.
NAME = "scheduler"


class SchedulerSettings(Settings):
    """The mapping ``scheduler`` in the inventory."""

    celery: str = ""
    """The Celery application, as in `celery -A`, whose beat is to run."""
    command: list[str] = []
    """Another program's command line, found on the virtual environment's PATH."""
    options: list[str] = []
    """More options for beat."""
    groups: list[str] = ["scheduler"]
    """The groups that the one host which runs it is in."""
    stop_timeout: Annotated[int, Field(ge=1)] = 30
    """Seconds that it gets to end."""

    @model_validator(mode="after")
    def _one_kind(self) -> SchedulerSettings:
        if self.celery and self.command:
            raise ValueError("command: expected nothing here: the scheduler is Celery's beat "
                             "(scheduler.celery)")
        if self.options and not self.celery:
            raise ValueError("options: they are for Celery's beat; write them into command")
        return self

    @property
    def is_on(self) -> bool:
        return bool(self.celery or self.command)

    def argv(self, shared: str) -> list[str]:
        """``shared``: where its memory of what ran when outlives releases."""
        if self.command:
            return self.command
        return ["celery", "-A", self.celery, "beat", "--loglevel=INFO", "--pidfile=",
                f"--schedule={shared}/celerybeat-schedule", *self.options]


def runs_on(settings: SchedulerSettings, host: Host) -> bool:
    return settings.is_on and bool(set(settings.groups) & set(host.groups))


def applies(target: Target) -> bool:
    return runs_on(target.of(SchedulerSettings, "scheduler"), target.host)


def unit(app: AppSettings) -> str:
    return f"{app.name}-scheduler.service"


def start(target: Target) -> Step:
    """With whatever release is current; where it runs already, nothing happens."""
    return _systemctl(target, "start")


def stop(target: Target) -> Step:
    return _systemctl(target, "stop")


def _systemctl(target: Target, verb: str) -> Step:
    words = command(units.SYSTEMCTL, verb, unit(target.of(AppSettings, "app")))
    limit = target.of(SchedulerSettings, "scheduler").stop_timeout + 30
    return Step(f"scheduler.{verb}", target.name, (Run(as_root(words)),), timeout=limit)


class Scheduler(Role):
    """Restarts the one scheduler with its host's turn: the old one has ended before the new one
    starts."""

    name = "scheduler"
    settings = SchedulerSettings
    after = ("release", "python", "wsgi", "workers")

    def commands(self, target: Target) -> Mapping[str, list[str]]:
        if not applies(target):
            return {}
        settings = target.of(SchedulerSettings, "scheduler")
        return {NAME: settings.argv(target.paths.shared)}

    def stop(self, target: Target) -> Iterable[Step]:
        if applies(target):
            yield stop(target)

    def start(self, target: Target) -> Iterable[Step]:
        if applies(target) and NAME not in (target.off or ()):
            yield start(target)

    def restart(self, target: Target) -> Iterable[Step]:
        if applies(target) and NAME not in (target.off or ()):
            yield _systemctl(target, "restart")

    def off(self, target: Target) -> Iterable[str]:
        state = target.facts.services.get(unit(target.of(AppSettings, "app")))
        if applies(target) and NAME in target.facts.commands and state in units.TOLD_TO_STOP:
            yield NAME

    def setup(self, target: Target) -> Setup:
        settings, app = target.of(SchedulerSettings, "scheduler"), target.of(AppSettings, "app")
        path = units.path(unit(app))
        if not settings.is_on:
            return Setup()
        if not applies(target):
            return Setup(files={path: ""})
        text = render(
            "scheduler/templates/scheduler.service.j2", app=app, scheduler=settings,
            paths=target.paths, python=units.absolute(interpreter(target)),
            user=units.runs_as(target))
        rules = [f"{units.SYSTEMCTL} {verb} {unit(app)}" for verb in ("start", "stop", "restart")]
        return Setup(files={path: text}, rules=tuple(rules), units=(unit(app),))

    def serves(self, target: Target) -> bool:
        if not applies(target):
            return True
        facts = target.facts
        state = facts.services.get(unit(target.of(AppSettings, "app")))
        return state == "active" and facts.working == (target.release.id,)

    def probe(self, host: Host, settings: Mapping[str, Settings]) -> Mapping[str, Any]:
        """Its file is looked for on every host: one where it must not be could run it."""
        scheduler, app = settings["scheduler"], settings["app"]
        assert isinstance(scheduler, SchedulerSettings) and isinstance(app, AppSettings)
        if not scheduler.is_on:
            return {}
        asked = [unit(app)] if runs_on(scheduler, host) else []
        return {"units": asked, "files": [units.path(unit(app))]}


role = Scheduler()
