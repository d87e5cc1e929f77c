"""The deploy that was typed last, as far as this controller knows: what goes on is said with its
options, not in general."""

from __future__ import annotations

import shlex

from fabfile.engine.journal import read, runs
from fabfile.environment import Environment


def again(environment: Environment) -> str:
    """The whole command."""
    for path in reversed(runs(environment.key)):
        first = next(iter(read(path)), {})
        if first.get("task") == "deploy":
            words = [word for word in first.get("argv", []) if word not in ("--yes", "--json")]
            chosen = [] if any(word.startswith("--env") for word in words) else [
                f"--env={environment.name}"]
            return shlex.join(["fab", *words, *chosen])
    return f"fab deploy --env={environment.name} --ref=..."
