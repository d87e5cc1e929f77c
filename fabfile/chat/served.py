"""The environments that the bot is asked about, read anew for each request: who was taken out of
the inventory may do nothing from then on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from fabfile.engine.journal import ASKED_BY
from fabfile.environment import Environment, open_environment
from fabfile.errors import FabfleetError
from roles.chat import ChatSettings


@dataclass(frozen=True)
class Served:
    """``note`` gets what is wrong with an inventory meanwhile; ``unset`` are the variables that no
    child gets, as they hold the bot's tokens; ``hidden`` are their values."""

    names: tuple[str, ...]
    inventory: str
    note: Callable[[str], None]
    unset: frozenset[str] = frozenset()
    hidden: tuple[str, ...] = field(default=(), repr=False)

    def open(self, name: str) -> Environment:
        return open_environment(name, self.inventory or None)

    def settings(self) -> dict[str, ChatSettings]:
        """Of each environment that can be read; the others have to wait until they can."""
        found = {}
        for name in self.names:
            try:
                found[name] = self.open(name).of(ChatSettings, "chat")
            except FabfleetError as error:
                self.note(str(error))
        return found

    def options(self, name: str) -> tuple[str, ...]:
        return (f"--env={name}", *([f"--inventory={self.inventory}"] if self.inventory else []))

    def variables(self, who: str) -> dict[str, str]:
        """What a child has for its environment."""
        kept = {name: text for name, text in os.environ.items() if name not in self.unset}
        return {**kept, ASKED_BY: who}
