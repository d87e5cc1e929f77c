"""What Django said of the pending migrations, and what of it is agreed to run: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Judged:
    """``plans``: {alias: as ``read_plan``}; ``decision``: as ``decide_together`` (both in
    ``roles/onhost/migrating``); ``hash``: of all plans together."""

    plans: Mapping[str, Any] = field(default_factory=dict)
    decision: Mapping[str, Any] = field(default_factory=lambda: {"offenders": ()})
    hash: str = ""

    @property
    def pending(self) -> tuple[str, ...]:
        return named({alias: names_in(plan) for alias, plan in self.plans.items()})

    @property
    def ahead(self) -> tuple[str, ...]:
        """What a database has and this code has not."""
        return named({alias: tuple(plan["ahead"]) for alias, plan in self.plans.items()})

    @property
    def needed(self) -> tuple[str, ...]:
        """What a database has not, and this code cannot live without."""
        return named({alias: tuple(each["migration"] for each in plan["pending"]
                                   if each["phase"] not in ("any", "after"))
                      for alias, plan in self.plans.items()})

    def phases(self, portion: Portion) -> set[str]:
        """The phases of the migrations in a portion."""
        return {each["phase"] for alias, names in portion.only.items()
                for each in self.plans[alias]["pending"] if each["migration"] in names}

    @property
    def expected(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """{alias: ((app.name, sha256 of its file))} in the order in which they would run."""
        return {alias: tuple((each["migration"], each["sha256"]) for each in plan["pending"])
                for alias, plan in self.plans.items() if plan["pending"]}


@dataclass(frozen=True)
class Portion:
    """Migrations that one job runs. ``phase`` tells jobs of one release apart; ``expected`` is all
    that was pending when this was decided, and is compared again under the lock; ``back`` are
    {alias: ((app, name to go back to))} where ``only`` is to be taken back; ``backup``: the
    databases are backed up right before."""

    phase: str
    only: Names
    expected: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    back: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    backup: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return named(self.only)


def names_in(plan: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(each["migration"] for each in plan["pending"])


def named(databases: Names) -> tuple[str, ...]:
    """``app.name``, with the database behind it where there are several."""
    several = len(databases) > 1
    return tuple(f"{name} ({alias})" if several and alias != "default" else name
                 for alias, names in databases.items() for name in names)
