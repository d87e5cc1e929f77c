"""The plan that somebody has read when a run was scheduled, and the one that is to run."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fabfile.display.plans import full
from fabfile.errors import Refused
from fabfile.plan import Plan, dump

SHOWN = 12


def digest(plans: Sequence[Plan]) -> str:
    """SHA-256 of all that would run when everything is staged."""
    summed = hashlib.sha256()
    for plan in plans:
        summed.update(dump(plan).encode() + b"\n")
    return summed.hexdigest()


def text(plans: Sequence[Plan]) -> str:
    return "".join(f"{line}\n" for plan in plans for line in full(plan))


@dataclass(frozen=True)
class Approved:
    """``path`` holds its text, to show what differs."""

    digest: str
    path: Path

    def check(self, plans: Sequence[Plan]) -> None:
        """Raises :class:`Refused` where it is another plan."""
        if digest(plans) == self.digest:
            return
        before = self.path.read_text().splitlines() if self.path.exists() else []
        changes = [line for line in difflib.unified_diff(before, text(plans).splitlines(), n=0,
                                                         lineterm="")
                   if not line.startswith(("---", "+++", "@@"))]
        told = [f"  {line[:160]}" for line in changes[:SHOWN]] or [
            "  (in details that the text of a plan does not show)"]
        if len(changes) > SHOWN:
            told.append(f"  and {len(changes) - SHOWN} lines more")
        raise Refused("\n".join([
            (f"the plan is another one than what was approved when this was scheduled "
            f"({self.digest[:12]}):"), *told, "nothing that serves was changed"]))
