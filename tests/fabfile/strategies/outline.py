"""Plans in a form that a test can spell out."""

from __future__ import annotations

from fabfile.plan import Plan, Stage

Outline = list[tuple[str, str, list[tuple[str, list[str]]]]]


def outline(plan: Plan) -> Outline:
    """(stage, mode, [(host, [step])])."""
    return [
        (stage.name, stage.mode,
         [(turn.host, [step.name for step in turn.steps]) for turn in stage.turns])
        for stage in plan.stages
    ]


def names(plan: Plan) -> list[str]:
    return [stage.name for stage in plan.stages]


def stage_of(plan: Plan, name: str) -> Stage:
    return next(stage for stage in plan.stages if stage.name == name)


def hosts(plan: Plan, name: str) -> list[str]:
    return [turn.host for turn in stage_of(plan, name).turns]
