"""What a run will do, as a value: frozen, comparable, JSON there and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from roles.command import (
    Action,
    Command,
    LocalFile,
    OnController,
    OnHost,
    Raw,
    Run,
    SecretRef,
    Upload,
)
from roles.role import Step

Mode = Literal["parallel", "rolling", "once"]
CONTROLLER = "controller"


@dataclass(frozen=True)
class Turn:
    """The steps of one host in one stage, in order, and what puts that host back if one fails."""

    host: str
    steps: tuple[Step, ...]
    recover: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Stage:
    """Turns that run together.

    ``parallel``: all hosts at once. ``rolling``: as many hosts at a time as ``sizes`` says, batch
    after batch (its last number goes on), with ``pause`` seconds between them; it ends after the
    batch in which more than ``may_fail`` hosts have failed, and with ``revert`` all hosts that were
    done before are put back then. ``once``: the turns one after the other, each on its one host.
    ``resume``: what has to be done when the plan ends early, here or in a later stage, up to one
    that has a ``resume`` of its own.
    """

    name: str
    mode: Mode
    turns: tuple[Turn, ...]
    sizes: tuple[int, ...] = (1,)
    pause: float = 0
    may_fail: int = 0
    revert: bool = False
    resume: tuple[Step, ...] | None = None

    @property
    def batches(self) -> tuple[tuple[Turn, ...], ...]:
        left, found = self.turns, []
        sizes = iter((len(left),) if self.mode == "parallel" else self.sizes)
        size = 1
        while left:
            size = next(sizes, size)
            found.append(left[:size])
            left = left[size:]
        return tuple(found)


@dataclass(frozen=True)
class Plan:
    """The stages in order. ``name`` is ``stage``, ``release`` or the task's own name."""

    name: str
    environment: str
    release: str
    strategy: str
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()

    def steps(self) -> Iterator[tuple[str, Step]]:
        """(name of the stage, step) for every step that runs when nothing fails."""
        for stage in self.stages:
            for turn in stage.turns:
                for step in turn.steps:
                    yield stage.name, step

    @property
    def is_empty(self) -> bool:
        return not any(True for _ in self.steps())

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(step.host for _, step in self.steps()))


def to_json(value: Any) -> Any:
    """Plain JSON data. Actions carry their ``kind``; a command is its words, never one string."""
    if is_dataclass(value) and not isinstance(value, type):
        data = {each.name: to_json(getattr(value, each.name)) for each in fields(value)}
        if isinstance(value, Raw):
            return {"raw": value.text}
        if isinstance(value, Command):
            return {k: v for k, v in data.items() if v}
        return data
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    return value


def from_json(data: Mapping[str, Any]) -> Plan:
    """The plan that :func:`to_json` wrote."""
    stages = tuple(
        Stage(
            name=stage["name"],
            mode=stage["mode"],
            sizes=tuple(stage["sizes"]),
            pause=stage["pause"],
            may_fail=stage["may_fail"],
            revert=stage["revert"],
            resume=None if stage["resume"] is None else tuple(map(_step, stage["resume"])),
            turns=tuple(
                Turn(
                    host=turn["host"],
                    steps=tuple(map(_step, turn["steps"])),
                    recover=tuple(map(_step, turn["recover"])),
                )
                for turn in stage["turns"]
            ),
        )
        for stage in data["stages"]
    )
    rest = {key: data[key] for key in ("name", "environment", "release", "strategy")}
    return Plan(**rest, stages=stages, notes=tuple(data["notes"]))


def _step(data: Mapping[str, Any]) -> Step:
    rest = {**data, "actions": _actions(data["actions"]), "diagnose": _actions(data["diagnose"])}
    return Step(**rest)


def _actions(data: list[Mapping[str, Any]]) -> tuple[Action, ...]:
    return tuple(_action(dict(each)) for each in data)


def _action(data: dict[str, Any]) -> Action:
    kind = data.pop("kind")
    if kind == "run":
        return Run(_command(data["command"]))
    if kind == "upload":
        return Upload(**data)
    if kind == "controller":
        return OnController(**data)
    return OnHost(
        program=data["program"],
        arguments=data["arguments"],
        files={name: LocalFile(**each) for name, each in data["files"].items()},
        secrets={name: SecretRef(**each) for name, each in data["secrets"].items()},
        interpreter=_command(data["interpreter"]),
    )


def _command(data: Mapping[str, Any]) -> Command:
    words = tuple(Raw(w["raw"]) if isinstance(w, dict) else w for w in data.get("words", ()))
    parts = tuple(_command(part) for part in data.get("parts", ()))
    return Command(words=words, joint=data.get("joint", ""), parts=parts)


def dump(plan: Plan) -> str:
    return json.dumps(to_json(plan), sort_keys=True)
