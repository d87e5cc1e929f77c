"""Going back to a release that does not know some of the applied migrations: what that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fabfile.errors import Refused
from roles.migrations import Judged, Portion
from roles.migrations.judged import Names, named

SAFE = ("any", "before")
Targets = Mapping[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class WayBack:
    """``release`` knows how to go back; ``answer`` is {alias: as ``read_reverse``} of it."""

    release: str
    targets: Targets
    answer: Mapping[str, Any]

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """In the order in which Django would go back."""
        return [step for each in self.answer.values() for step in each["migrations"]]

    @property
    def unsafe(self) -> list[Mapping[str, Any]]:
        """What the older code cannot live with."""
        return [step for step in self.steps if step["phase"] not in SAFE]

    @property
    def needs_a_window(self) -> bool:
        """Whether the newer code, which serves meanwhile, cannot live with the way back."""
        return any(step["phase"] not in ("any", "after") for step in self.steps)

    @property
    def portion(self) -> Portion:
        only: Names = {alias: tuple(step["migration"] for step in each["migrations"])
                       for alias, each in self.answer.items()}
        return Portion("back", {a: names for a, names in only.items() if names}, back=self.targets)


def whole(judged: Judged) -> Targets:
    """Targets that take back all that the older release, which was asked, does not know."""
    found = {}
    for alias, plan in judged.plans.items():
        apps = dict.fromkeys(name.split(".", 1)[0] for name in plan["ahead"])
        if apps:
            found[alias] = tuple((app, plan["leaves"].get(app, "zero")) for app in apps)
    return found


def least(way: WayBack) -> Targets:
    """Targets that leave in place what older code can live with and nothing unsafe depends on:
    in each app, all before its first unsafe one."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for alias, targets in way.targets.items():
        ends = dict(targets)
        stopped: set[str] = set()
        for step in reversed(way.answer[alias]["migrations"]):
            app, name = step["migration"].split(".", 1)
            if step["phase"] not in SAFE:
                stopped.add(app)
            elif app not in stopped:
                ends[app] = name
        kept = tuple((app, name) for app, name in ends.items() if app in stopped)
        if kept:
            found[alias] = kept
    return found


def missing(judged: Judged, way: WayBack) -> list[str]:
    """What no code on the migration host knows how to take back."""
    known = {alias: {step["migration"] for step in each["migrations"]}
             for alias, each in way.answer.items()}
    return [name for alias, plan in judged.plans.items() for name in plan["ahead"]
            if name not in known.get(alias, ())]


def refuse_unsafe(
    way: WayBack, partly: WayBack | None, accepted: Sequence[str], again: str
) -> None:
    """Raises :class:`Refused` unless each unsafe migration was accepted by name."""
    left = [step for step in way.unsafe if step["migration"] not in accepted]
    if left:
        raise Refused("\n".join(_unsafe(way, left, partly, again)))


def refuse_incomplete(way: WayBack, maintenance: bool, again: str) -> None:
    """Raises :class:`Refused` where the whole way back cannot be gone."""
    stuck = [line for alias, each in way.answer.items() for line in _stuck(each)]
    if stuck:
        raise Refused("\n".join([
            "--reverse: there is no whole way back, so not even its first step is taken:",
            *(f"  {line}" for line in stuck), "nothing was changed"]))
    if way.needs_a_window and not maintenance:
        names = ", ".join(named({a: tuple(s["migration"] for s in each["migrations"])
                                 for a, each in way.answer.items()}))
        raise Refused(f"--reverse: the code that serves cannot live without {names}; "
                      f"nothing was changed. Stop everything for it: {again} --reverse "
                      f"--maintenance")


def _stuck(answer: Mapping[str, Any]) -> Iterator[str]:
    for step in answer["migrations"]:
        for operation in step["irreversible"]:
            yield f"{step['migration']}: {operation}: cannot be taken back"
    yield from answer["problems"]


def _unsafe(
    way: WayBack, left: Sequence[Mapping[str, Any]], partly: WayBack | None, again: str
) -> Iterator[str]:
    yield "the older code cannot live with these newer migrations:"
    for step in left:
        yield f"  {step['migration']} ({step['phase']})"
    if partly is not None:
        stuck = [line for each in partly.answer.values() for line in _stuck(each)]
        names = ", ".join(step["migration"] for step in partly.steps)
        if stuck:
            yield "they cannot all be taken back:"
            yield from (f"  {line}" for line in stuck)
        else:
            yield f"they can be taken back: {names}"
        loses = [words for each in partly.answer.values() for words in each["loses"]]
        yield from (f"  data that is lost then: {words}" for words in loses)
    yield "nothing was changed; go on with one of:"
    if partly is not None and not stuck:
        window = " --maintenance" if partly.needs_a_window else ""
        yield f"  {again} --reverse{window}    (takes them back first)"
    risks = " ".join(f"--accept-risk={step['migration']}" for step in way.unsafe)
    yield f"  {again} {risks}    (the code alone)"
    yield "  or deploy a newer release that mends what made you go back"
