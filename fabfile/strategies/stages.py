"""The stages that every strategy is made of, hooks included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from fabfile.plan import Mode, Stage, Turn
from fabfile.strategies.targets import Fleet, is_live
from roles import migrations
from roles.hooks import Moment, steps
from roles.registry import roles
from roles.release import prepare, switch_step
from roles.role import Step, Target

Moments = Callable[[Target], Iterable[Step]]


def of_roles(moment: str, target: Target) -> tuple[Step, ...]:
    """The steps of all roles for one moment, in the roles' order; stopping goes backwards."""
    ordered = reversed(roles()) if moment == "stop" else roles()
    return tuple(step for role in ordered for step in getattr(role, moment)(target))


def stage_stage(fleet: Fleet) -> list[Stage]:
    """Bring everything, while the old code serves."""
    turns = []
    for target in fleet.targets:
        secrets = [s for s in of_roles("stage", target) if s.name == "app.secrets"]
        steps = secrets if is_live(target) else [prepare(target), *of_roles("stage", target)]
        turns.append(Turn(target.name, tuple(steps)))
    return with_hooks(fleet, "stage", Stage("stage", "parallel", nonempty(turns)))


def migrate_stage(fleet: Fleet) -> list[Stage]:
    if not fleet.pending:
        return []
    target = fleet.migration
    turn = Turn(target.name, (migrations.apply(target),))
    return with_hooks(fleet, "migrate", Stage("migrate", "once", (turn,)))


def roll_stage(fleet: Fleet) -> list[Stage]:
    """One host after the other: switch, restart, healthy; a host that fails is put back."""
    turns = []
    for number, target in enumerate(each for each in fleet.targets if not is_live(each)):
        before = _turn_hooks(fleet, "before", target, number)
        after = _turn_hooks(fleet, "after", target, number)
        forward = (switch_step(target, target.release.id), *of_roles("restart", target))
        turns.append(Turn(target.name, (*before, *forward, *after), put_back(target)))
    return with_hooks(fleet, "roll", Stage("roll", "rolling", tuple(turns)))


def put_back(target: Target) -> tuple[Step, ...]:
    """The steps that bring a host back to what it served before."""
    old = target.facts.current
    if old is None:
        return (*of_roles("stop", target), switch_step(target, None))
    before = replace(target, release=replace(target.release, id=old))
    return (switch_step(target, old), *of_roles("restart", before))


def confirm_stage(fleet: Fleet) -> list[Stage]:
    """Hosts that serve the release already are asked whether they really do."""
    turns = [Turn(target.name, of_roles("confirm", target))
             for target in fleet.targets if is_live(target)]
    return stages("confirm", "parallel", turns)


def finish_stage(fleet: Fleet) -> list[Stage]:
    turns = [Turn(target.name, of_roles("finish", target)) for target in fleet.targets]
    return with_hooks(fleet, "finish", Stage("finish", "parallel", nonempty(turns)))


def each_stage(fleet: Fleet, name: Moment, mode: Mode, moment: Moments) -> list[Stage]:
    """One stage in which every host does the same."""
    turns = [Turn(target.name, tuple(moment(target))) for target in fleet.targets]
    return with_hooks(fleet, name, Stage(name, mode, nonempty(turns)))


def nonempty(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    return tuple(turn for turn in turns if turn.steps)


def stages(name: str, mode: Mode, turns: Sequence[Turn]) -> list[Stage]:
    """One stage, or none where there is nothing to do."""
    kept = nonempty(turns)
    return [Stage(name, mode, kept)] if kept else []


def facts(fleet: Fleet) -> dict[str, str]:
    """What every hook is told."""
    return {
        "FABFLEET_ENVIRONMENT": fleet.environment,
        "FABFLEET_RELEASE": fleet.release.id,
        "FABFLEET_DRY_RUN": "0",
    }


def with_hooks(fleet: Fleet, moment: Moment, stage: Stage) -> list[Stage]:
    """The stage between its hooks; a stage with nothing to do has no hooks either."""
    if not stage.turns:
        return []
    hosts = [turn.host for turn in stage.turns]
    around = []
    for when, hooks in (("before", fleet.hooks.before), ("after", fleet.hooks.after)):
        found = steps(hooks.get(moment, ()), f"{when} {moment}", hosts, facts(fleet))
        turns = [Turn(step.host, (step,)) for step in found]
        around.append(stages(f"{when}-{moment}", "once", turns))
    return [*around[0], stage, *around[1]]


def _turn_hooks(fleet: Fleet, when: str, target: Target, number: int) -> tuple[Step, ...]:
    hooks = fleet.hooks.before if when == "before" else fleet.hooks.after
    return steps(hooks.get("turn", ()), f"{when} turn", (target.name,), facts(fleet), number + 1)


