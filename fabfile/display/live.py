"""A run on a terminal: finished steps scroll by, and below them stands what every host does now."""

from __future__ import annotations

import time
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fabfile.display.lines import Lines
from fabfile.engine.outcome import Outcome
from fabfile.plan import Plan, Stage
from roles.role import Step


class Board(Lines):
    """The same lines, and a board of running steps with the time they take."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self.console = Console(file=out, highlight=False, soft_wrap=True)
        self.running: dict[str, tuple[str, float]] = {}
        self.live: Live | None = None

    def write(self, text: str = "") -> None:
        self.console.print(Text.from_ansi(text))

    def plan_started(self, plan: Plan) -> None:
        self.live = Live(get_renderable=self.board, console=self.console, transient=True,
                         refresh_per_second=8)
        self.live.start()

    def plan_ended(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def step_started(self, stage: Stage, step: Step) -> None:
        self.running[step.host] = (step.name, time.monotonic())

    def step_finished(self, stage: Stage, step: Step, outcome: Outcome) -> None:
        self.running.pop(step.host, None)
        super().step_finished(stage, step, outcome)

    def board(self) -> Table:
        """One row a host that works on something."""
        table = Table.grid(padding=(0, 2))
        for host, (name, since) in sorted(self.running.items()):
            table.add_row("", host, name, f"{time.monotonic() - since:.0f} s")
        return table
