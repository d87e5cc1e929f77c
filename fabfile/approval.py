"""The plan that somebody has read when a run was scheduled, and the one that is to run."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fabfile.display.plans import full
from fabfile.errors import Refused
from fabfile.plan import Plan, dump
from roles.hooks import HooksSettings

SHOWN, WIDTH = 12, 120


def digest(plans: Sequence[Plan]) -> str:
    """SHA-256 of all that would run when everything is staged."""
    summed = hashlib.sha256()
    for plan in plans:
        summed.update(dump(plan).encode() + b"\n")
    return summed.hexdigest()


def hooks_digest(hooks: HooksSettings) -> str:
    """SHA-256 of the commands around staging, which none of those plans has."""
    around = [[each.model_dump(mode="json") for each in moments.get("stage", ())]
              for moments in (hooks.before, hooks.after)]
    return hashlib.sha256(json.dumps(around).encode()).hexdigest()


def text(plans: Sequence[Plan]) -> str:
    return "".join(f"{line}\n" for plan in plans for line in full(plan))


@dataclass(frozen=True)
class Approved:
    """``path`` holds its text, to show what differs."""

    digest: str
    release: str
    path: Path
    hooks: str

    def check_hooks(self, hooks: HooksSettings) -> None:
        """Raises :class:`Refused` where others would run before anything is staged, or after."""
        if hooks_digest(hooks) != self.hooks:
            raise Refused("hooks: those before or after the stage \"stage\" are others than what "
                          "was approved when this was scheduled; `fab plan` shows them\n"
                          "nothing was changed")

    def check(self, plans: Sequence[Plan]) -> None:
        """Raises :class:`Refused` where it is another plan."""
        if digest(plans) == self.digest:
            return
        before = self.path.read_text().splitlines() if self.path.exists() else []
        now = plans[0].release
        told = [] if now == self.release else [
            f"  it is release {now} by now: content, dependencies or settings are others"]
        # Its name stands everywhere, and would hide what else there is.
        changes = list(_changes(before, text(plans).replace(now, self.release).splitlines()))
        told += changes[:SHOWN]
        if len(changes) > SHOWN:
            told.append(f"  and {len(changes) - SHOWN} lines more")
        told = told or ["  (in details that the text of a plan does not show)"]
        raise Refused("\n".join([
            (f"the plan is another one than what was approved when this was scheduled "
            f"({self.digest[:12]}):"), *told, "nothing that serves was changed"]))


def _changes(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    """Lines that are gone, and lines that came; of a changed one the part that differs."""
    for kind, start, end, first, last in difflib.SequenceMatcher(
        None, before, now, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        gone, came = before[start:end], now[first:last]
        for number in range(max(len(gone), len(came))):
            old, new = (each[number] if number < len(each) else "" for each in (gone, came))
            equal = next((place for place, (one, other) in enumerate(zip(old, new, strict=False))
                          if one != other), 0)
            cut = max(0, equal - WIDTH // 4)
            for sign, line in (("-", old), ("+", new)):
                if line:
                    yield f"  {sign}{'...' if cut else ''}{line[cut:cut + WIDTH]}"
