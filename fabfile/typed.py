"""The deploy or rollback that was typed last, as far as this controller knows: what goes on is said
with its options, not in general."""

from __future__ import annotations

import shlex

from fabfile.engine.journal import read, runs
from fabfile.environment import Environment


def again(environment: Environment) -> str:
    """The whole command."""
    for path in reversed(runs(environment.key)):
        events = read(path)
        first = next(iter(events), {})
        if first.get("task") in ("deploy", "rollback"):
            words = [word for word in first.get("argv", []) if word not in ("--yes", "--json")]
            if not any(word.startswith("--env") for word in words):
                words.append(f"--env={environment.name}")
            if first["task"] == "rollback" and not any(word.startswith("--to") for word in words):
                # Half way back, what is chosen without it would be another one.
                words += [f"--to={event['plan']['release']}" for event in events
                          if event["event"] == "plan"][:1]
            return shlex.join(["fab", *words])
    return f"fab deploy --env={environment.name} --ref=..."
