"""A plan as text: what will happen, on which hosts, with which commands."""

from __future__ import annotations

from collections.abc import Iterator

from fabfile.display.lines import fold, how
from fabfile.plan import Plan, Turn
from roles.role import Step


def brief(plan: Plan) -> Iterator[str]:
    """One line a stage."""
    if plan.is_empty:
        yield f"plan {plan.name}: nothing to do"
        return
    yield f"plan {plan.name} ({plan.strategy}) for release {plan.release}"
    for stage in plan.stages:
        names = dict.fromkeys(step.name for turn in stage.turns for step in turn.steps)
        hosts = fold(turn.host for turn in stage.turns)
        yield f"  {stage.name}: {how(stage)}: {hosts}: {', '.join(names)}"
    for note in plan.notes:
        yield f"  note: {note}"


def full(plan: Plan) -> Iterator[str]:
    """Every command of every step; hosts that do the same are shown together."""
    yield from brief(plan)
    for stage in plan.stages:
        yield ""
        yield f"{stage.name}: {how(stage)}"
        for hosts, steps in _grouped(stage.turns):
            yield f"  {hosts}"
            for step in steps:
                yield f"    {step.name}  (at most {step.timeout:g} s)"
                for action in step.actions:
                    yield f"      {action.shown}"


def _grouped(turns: tuple[Turn, ...]) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Turns with equal steps but for the host, together."""
    groups: dict[tuple[object, ...], list[Turn]] = {}
    for turn in turns:
        alike = tuple(
            (step.name, tuple(action.shown.replace(turn.host, "\0") for action in step.actions))
            for step in turn.steps
        )
        groups.setdefault(alike, []).append(turn)
    for members in groups.values():
        yield fold(turn.host for turn in members), members[0].steps
