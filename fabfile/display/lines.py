"""A run as plain lines: for logs, pipes and CI, and readable enough for a person."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import TextIO

from fabfile.engine.outcome import Kind, Outcome
from fabfile.plan import Plan, Stage
from roles.role import Step

HOW = {"parallel": "on all hosts at once", "rolling": "one host at a time", "once": "once"}
COLOURS = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}


def how(stage: Stage) -> str:
    """``2 hosts at a time``; of batches that differ all are told."""
    if len(stage.turns) < 2:
        return HOW["once"]
    if stage.mode != "rolling" or set(stage.sizes) == {1}:
        return HOW[stage.mode]
    return f"{', then '.join(str(len(batch)) for batch in stage.batches)} hosts at a time"


def fold(hosts: Iterable[str]) -> str:
    """``web[1-3]`` for web1, web2, web3."""
    from ClusterShell.NodeSet import NodeSet, NodeSetParseError

    names = list(hosts)
    try:
        return str(NodeSet.fromlist(names))
    except NodeSetParseError:
        return ",".join(names)


def headline(reason: str) -> str:
    """The line that says most: a traceback says it last, everything else first."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    if not lines:
        return "no reason was given"
    is_traceback = any(line.startswith("Traceback ") for line in lines)
    return lines[-1] if is_traceback else lines[0]


class Lines:
    """A listener that writes a line for everything that happened."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.colour = out.isatty()
        self.guard = threading.Lock()
        self.partial: dict[str, str] = {}
        self.started = time.monotonic()

    def write(self, text: str = "") -> None:
        with self.guard:
            self.out.write(f"{text}\n")
            self.out.flush()

    def paint(self, text: str, colour: str) -> str:
        return f"\033[{COLOURS[colour]}m{text}\033[0m" if self.colour else text

    def plan_started(self, plan: Plan) -> None:
        """Plans are shown before they run, by whoever made them."""

    def plan_ended(self) -> None:
        """What came of it is told by whoever ran it."""

    def stage_started(self, stage: Stage) -> None:
        hosts = fold(turn.host for turn in stage.turns)
        self.write(f"{self.paint(stage.name, 'bold')}: {how(stage)}: {hosts}")

    def step_started(self, stage: Stage, step: Step) -> None:
        """Its end is told; what takes long tells of itself."""

    def step_output(self, step: Step, text: str) -> None:
        *whole, rest = (self.partial.get(step.host, "") + text).split("\n")
        self.partial[step.host] = rest
        for line in whole:
            self.write(f"  {step.host}  | {line}")

    def step_finished(self, stage: Stage, step: Step, outcome: Outcome) -> None:
        mark = self.paint("ok", "green") if outcome else self.paint(outcome.kind.value, "red")
        took = f"{outcome.seconds:6.2f} s"
        self.write(f"  {step.host}  {step.name:<20} {took}  {mark}")
        if outcome.kind is not Kind.OK:
            self.write(f"      {headline(outcome.reason)}")

    def note(self, text: str) -> None:
        self.write(f"  {self.paint(text, 'yellow')}")


def screen(out: TextIO) -> Lines:
    """The board where somebody looks at it, plain lines everywhere else."""
    if not out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return Lines(out)
    from fabfile.display.live import Board

    return Board(out)
