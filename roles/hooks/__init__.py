"""The user's own commands before and after each stage, as steps of the plan like any other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from roles.command import Action, OnController, Run, command
from roles.role import Role, Step
from roles.settings import Settings

CONTROLLER = "controller"
Moment = Literal["stage", "stop", "migrate", "switch", "start", "roll", "turn", "finish"]


class Hook(Settings):
    """One command, and where it runs."""

    run: str
    """A shell command."""
    on: str = CONTROLLER
    """controller, each (every host of the stage), or one host's name."""
    timeout: Annotated[float, Field(gt=0)] = 300
    """Seconds."""


class HooksSettings(Settings):
    """The mapping ``hooks`` in the inventory: stage -> commands. ``turn`` is one host's turn."""

    before: dict[Moment, list[Hook]] = {}
    """By stage: stage, stop, migrate, switch, start, roll, turn, finish. One that fails stops."""
    after: dict[Moment, list[Hook]] = {}
    """The same stages."""


class Hooks(Role):
    """Has no moments of its own: strategies ask for the hooks of each stage."""

    name = "hooks"
    settings = HooksSettings


def steps(
    hooks: Iterable[Hook], when: str, hosts: Sequence[str], facts: Mapping[str, str], batch: int = 0
) -> tuple[Step, ...]:
    """The steps of one moment. ``when`` is such as ``before roll``; ``facts`` are the variables
    that every hook gets: environment, release, dry run."""
    found = []
    for hook in hooks:
        chosen = hosts if hook.on == "each" else (hook.on,)
        told = {**facts, "FABFLEET_BATCH": str(batch)}
        found += [_step(hook, when, host, {**told, "FABFLEET_HOST": host}) for host in chosen]
    return tuple(found)


def _step(hook: Hook, when: str, host: str, facts: Mapping[str, str]) -> Step:
    action: Action
    if host == CONTROLLER:
        action = OnController(hook.run, facts)
    else:
        words = [f"{name}={value}" for name, value in sorted(facts.items())]
        action = Run(command("env", *words, "sh", "-c", hook.run))
    return Step(f"hook {when}", host, (action,), timeout=hook.timeout)


role = Hooks()
