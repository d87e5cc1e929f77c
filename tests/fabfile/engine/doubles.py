"""A transport and a listener in memory: other implementations of the engine's seams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.transport import Call, Stream, Sync
from fabfile.plan import Plan, Stage
from inventories.model import Host
from roles.role import Step

Answer = Callable[[], Outcome | None] | Outcome


class Memory:
    """Every call succeeds, but for what ``answers`` says of a host and a word of its line."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self.closed = 0
        self.guard = threading.Lock()

    def answer(self, host: str, word: str, *answers: Answer) -> None:
        """One after the other; the last one for ever."""
        self.answers[host, word] = list(answers)

    def _answered(self, host: str, line: str) -> Outcome:
        with self.guard:
            self.calls.append((host, line))
            found = next((found for (name, word), found in self.answers.items()
                          if name == host and word in line), None)
            chosen = None if found is None else found.pop(0) if len(found) > 1 else found[0]
        result = chosen() if callable(chosen) else chosen
        return Outcome(host, Kind.OK, 0) if result is None else result

    def run(self, host: Host, call: Call) -> Outcome:
        return self._answered(host.name, call.line)

    def sync(self, host: Host, sync: Sync) -> Outcome:
        return self._answered(host.name, f"rsync {sync.source} {sync.before}{sync.after}")

    def stream(self, host: Host, line: str, stdin: bytes) -> Stream:
        raise NotImplementedError

    def close(self) -> None:
        self.closed += 1

    def lines(self, host: str) -> list[str]:
        return [line for name, line in self.calls if name == host]


class Heard:
    """Keeps what the engine tells."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def plan_started(self, plan: Plan) -> None:
        self.events.append(f"plan {plan.name}")

    def plan_ended(self) -> None:
        self.events.append("plan ended")

    def stage_started(self, stage: Stage) -> None:
        self.events.append(f"stage {stage.name}")

    def step_started(self, stage: Stage, step: Step) -> None:
        self.events.append(f"{step.host} {step.name} ...")

    def step_output(self, step: Step, text: str) -> None:
        self.events.append(f"{step.host} says {text}")

    def step_finished(self, stage: Stage, step: Step, outcome: Outcome) -> None:
        self.events.append(f"{step.host} {step.name} {outcome.kind.value}")

    def note(self, text: str) -> None:
        self.events.append(f"note {text}")


def events(lines: list[Mapping[str, Any]]) -> list[str]:
    """A journal's lines, short."""
    keys = ("stage", "step", "host", "outcome")
    return [" ".join([line["event"], *(str(line[key]) for key in keys if key in line)])
            for line in lines]


def as_text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
