"""What the engine tells its listeners; whoever shows, logs or notifies listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fabfile.engine.outcome import Outcome
from fabfile.plan import Plan, Stage
from roles.role import Step


class Listener(Protocol):
    """All methods are called from worker threads, one at a time; a subclass overrides those that it
    wants to hear."""

    def plan_started(self, plan: Plan) -> None: ...
    def plan_ended(self) -> None: ...
    def stage_started(self, stage: Stage) -> None: ...
    def step_started(self, stage: Stage, step: Step) -> None: ...
    def step_output(self, step: Step, text: str) -> None: ...
    def step_finished(self, stage: Stage, step: Step, outcome: Outcome) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Failure:
    """A step that failed, what its diagnosis showed, whose ``turn`` it was, and whether that host
    was put back."""

    stage: str
    step: Step
    outcome: Outcome
    diagnosis: str = ""
    recovered: bool | None = None
    turn: str = ""
