"""What works by the clock, beside the scheduler of the application: systemd's timers, and cron's
jobs. While everything is stopped none of it begins, and what runs gets time to end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from inventories.model import Host
from roles import units
from roles.command import OnHost, command
from roles.launch import interpreter
from roles.role import Role, Setup, Step, Target
from roles.settings import Settings

# Beyond what the program waits for by its own account.
SLACK = 30


class TimersSettings(Settings):
    """The mapping ``timers`` in the inventory."""

    units: list[str] = []
    """Your own timers of systemd that start the application's jobs: shop-cleanup.timer."""
    groups: list[str] = []
    """The groups whose hosts have them. Default: every host that gets the code."""
    deadline: Annotated[float, Field(gt=0)] = 120
    """Seconds that jobs which run get to end, those of cron included; nothing is killed, and
    nothing is stopped where one does not."""

    @field_validator("units")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        for each in value:
            if not each.endswith(".timer") or set(each) & set(" \t\"'\\/*?[],:="):
                raise ValueError(f"expected names such as shop-cleanup.timer, got {each!r}")
        return value

    def on(self, host: Host) -> list[str]:
        """The timers of this host."""
        return self.units if not self.groups or set(self.groups) & set(host.groups) else []


def pause(target: Target) -> Step:
    """Note what is on, then stop it; ``off`` is what a person has stopped before."""
    settings = target.of(TimersSettings, "timers")
    return _act(target, {"action": "pause", "off": sorted(target.off or ()),
                         "deadline": settings.deadline}, settings.deadline)


def resume(target: Target) -> Step:
    return _act(target, {"action": "resume"}, 0)


def _act(target: Target, told: Mapping[str, Any], seconds: float) -> Step:
    python = command(interpreter(target), "-I")
    timers = target.of(TimersSettings, "timers").on(target.host)
    action = OnHost("timers", {**told, "folder": target.paths.state, "timers": timers,
                               "systemctl": units.SYSTEMCTL}, interpreter=python)
    return Step(f"timers.{told['action']}", target.name, (action,), timeout=seconds + SLACK)


class Timers(Role):
    """Pauses them where everything stops, and lets exactly those go on that were on before."""

    name = "timers"
    settings = TimersSettings
    after = ("release", "python", "static", "wsgi", "workers", "scheduler")

    def stop(self, target: Target) -> Iterable[Step]:
        yield pause(target)

    def start(self, target: Target) -> Iterable[Step]:
        if target.off is not None or target.facts.paused is not None:
            yield resume(target)

    def restart(self, target: Target) -> Iterable[Step]:
        return self.start(target)

    def setup(self, target: Target) -> Setup:
        timers = target.of(TimersSettings, "timers").on(target.host)
        rules = [f"{units.SYSTEMCTL} {verb} {timer}"
                 for timer in timers for verb in ("stop", "start")]
        return Setup(rules=tuple(rules), units=tuple(timers),
                     hint="they are your own; bring them there first")

    def serves(self, target: Target) -> bool:
        """A run that died has left them paused."""
        return target.facts.paused is None

    def probe(self, host: Host, settings: Mapping[str, Settings]) -> Mapping[str, Any]:
        timers = settings["timers"]
        assert isinstance(timers, TimersSettings)
        return {"units": list(timers.on(host))}


role = Timers()
