"""The stages that every strategy is made of, hooks included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from fabfile.plan import CONTROLLER, Mode, Stage, Turn
from fabfile.strategies import closing
from fabfile.strategies.targets import Fleet, is_live
from roles import backup, balancer, migrations, scheduler, timers, workers, wsgi
from roles.command import OnController
from roles.hooks import Moment, steps
from roles.registry import roles
from roles.release import owed, prepare, switch_step
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


def migrate_stage(
    fleet: Fleet, portion: migrations.Portion | None, name: str = "migrate"
) -> list[Stage]:
    if not portion:
        return []
    target = fleet.migration
    before = []
    if portion.backup:
        dump = backup.dump(target, f"{target.release.id} {portion.phase}")
        before = stages("backup", "once", [Turn(target.name, (dump,))])
    turn = Turn(target.name, (migrations.apply(target, portion),))
    return [*before, *with_hooks(fleet, "migrate", Stage(name, "once", (turn,)))]


def roll_stage(fleet: Fleet) -> list[Stage]:
    """Batch after batch: switch, restart, healthy; a host that fails is put back."""
    changing = [each for each in fleet.targets if not is_live(each)]
    turns = [change(fleet, target, number) for number, target in enumerate(changing)]
    risky = fleet.expand is not None and bool(fleet.expand.accepted)
    stage = Stage(
        "roll", "rolling", tuple(turns), sizes=fleet.deploy.sizes(len(turns)),
        pause=fleet.deploy.pause, may_fail=fleet.deploy.max_failures,
        revert=fleet.deploy.on_failure == "revert" and not risky,
    )
    return with_hooks(fleet, "roll", stage)


def change(fleet: Fleet, target: Target, number: int, behind: bool = True) -> Turn:
    """One host's turn, the ``number``-th from 0; ``behind``: it is behind a balancer now."""
    before = _turn_hooks(fleet, "before", target, number)
    after = _turn_hooks(fleet, "after", target, number)
    # A run that died has left our stand-in where the server is to be.
    aside = closing.step_aside(fleet, target) if fleet.closed else ()
    forward = (*aside, switch_step(target, target.release.id), *of_roles("restart", target))
    if behind:
        seen = watched(fleet, target) if number == 0 else ()
        forward = (*drain(fleet, target), *forward, *undrain(fleet, target), *seen)
    back = put_back(fleet, target)
    if not behind:
        back = tuple(step for step in back if not step.rotation)
    return Turn(target.name, (*before, *forward, *after), back)


def watched(fleet: Fleet, target: Target) -> tuple[Step, ...]:
    """What the canary has to show before the others follow."""
    canary = fleet.deploy.canary
    found: list[Step] = []
    if canary.seconds and wsgi.applies(target):
        counted = balancer.watch(target, fleet.balancers[target.name], canary.seconds,
                                 canary.errors)
        seconds = 0 if counted else canary.seconds
        found += [*counted, wsgi.health(target, target.release.id, seconds)]
    if canary.command:
        told = {**facts(fleet), "FABFLEET_HOST": target.name}
        action = OnController(canary.command, told)
        found.append(Step("canary", CONTROLLER, (action,), timeout=canary.timeout))
    return tuple(found)


def put_back(fleet: Fleet, target: Target) -> tuple[Step, ...]:
    """The steps that bring a host back to what it served before, and then into rotation."""
    old = target.facts.current
    if old is None:
        clocks = tuple(timers.role.start(target))
        return (*_others("stop", target, timers.role.stop(target)), switch_step(target, None),
                *clocks)
    return (switch_step(target, old), *of_roles("restart", target.on(old)),
            *undrain(fleet, target))


def drain(fleet: Fleet, target: Target) -> tuple[Step, ...]:
    """Out of rotation, on every balancer."""
    return balancer.drain(target, fleet.balancers[target.name])


def undrain(fleet: Fleet, target: Target) -> tuple[Step, ...]:
    """Into rotation again, which a host that is not healthy never comes."""
    return tuple(replace(step, if_well=True)
                 for step in balancer.undrain(target, fleet.balancers[target.name]))


def confirm_stage(fleet: Fleet) -> list[Stage]:
    """Hosts that serve the release already are asked whether they really do, and brought into
    rotation where an earlier run left them out of it."""
    turns = [Turn(target.name, (*of_roles("confirm", target), *undrain(fleet, target)))
             for target in fleet.targets if is_live(target)]
    return stages("confirm", "parallel", turns)


def finish_stage(fleet: Fleet) -> list[Stage]:
    turns = [Turn(target.name, of_roles("finish", target)) for target in fleet.targets]
    found = with_hooks(fleet, "finish", Stage("finish", "parallel", nonempty(turns)))
    done = [target.name for target in fleet.targets]
    if fleet.skipped or {*done} & {*fleet.migration.facts.owed}:
        note = Turn(fleet.migration.name, (owed(fleet.migration, fleet.skipped, done),))
        found += stages("catch-up", "once", [note])
    return found


def each_stage(fleet: Fleet, name: Moment, mode: Mode, moment: Moments) -> list[Stage]:
    """One stage in which every host does the same."""
    turns = [Turn(target.name, tuple(moment(target))) for target in fleet.targets]
    return with_hooks(fleet, name, Stage(name, mode, nonempty(turns)))


def stop_stages(fleet: Fleet) -> list[Stage]:
    """Everything stops: first what works in the background, as the site serves on while tasks
    and jobs finish; then the page comes, and the servers stop. Until something else follows, the
    way back starts all of it again and takes the page away."""
    tasks = [Turn(target.name, _tasks_stop(target)) for target in fleet.targets]
    tasks += [Turn(target.name, (timers.pause(target), *scheduler.role.stop(target)))
              for target in fleet.scheduler_outside]
    again = serve_again(fleet, moving=fleet.left)
    found = [*stages("stop-tasks", "parallel", tasks),
             *closing.close_stage(fleet),
             *each_stage(fleet, "stop", "parallel", lambda target: (
                 *closing.quiet(fleet, target), *_others("stop", target, _tasks_stop(target)),
                 *closing.stand_in(fleet, target)))]
    return [replace(stage, resume=again) for stage in found]


def resting(fleet: Fleet) -> Fleet:
    """The fleet with what somebody has stopped before, which nobody starts after: as a run that
    died has noted it, or as it is now."""
    def look(target: Target) -> Target:
        noted = target.facts.paused
        names = noted["off"] if noted else [name for role in roles() for name in role.off(target)]
        return replace(target, off=frozenset(names))

    return replace(fleet, targets=tuple(map(look, fleet.targets)),
                   scheduler=look(fleet.scheduler) if fleet.scheduler else None)


def _tasks_stop(target: Target) -> tuple[Step, ...]:
    return (timers.pause(target), *scheduler.role.stop(target), *workers.role.stop(target))


def start_stages(fleet: Fleet) -> list[Stage]:
    """One host after the other serves, then the scheduler where it is none of them; at last what
    works by the clock, everywhere at once."""
    last = [Turn(target.name, tuple(scheduler.role.start(target)))
            for target in fleet.scheduler_outside]
    clocks = [Turn(target.name, tuple(timers.role.start(target)))
              for target in (*fleet.targets, *fleet.scheduler_outside)]
    return [*each_stage(fleet, "start", "rolling", lambda target: (
                *closing.step_aside(fleet, target),
                *_others("start", target, timers.role.start(target)),
                *undrain(fleet, target))),
            *stages("scheduler-start", "once", last),
            *stages("timers", "parallel", clocks)]


def _others(moment: str, target: Target, but: Iterable[Step]) -> tuple[Step, ...]:
    """The steps of all roles that have no stage of their own."""
    apart = tuple(but)
    return tuple(step for step in of_roles(moment, target) if step not in apart)


def serve_again(fleet: Fleet, moving: bool) -> tuple[Step, ...]:
    """All hosts serve what they had, and the page goes. ``moving``: a migration may have been begun
    by then, in this run or an earlier one; where it has changed anything, nobody starts old code.
    """
    if fleet.outgrown:
        return ()
    again = (*start_all_again(fleet), *closing.way_open(fleet))
    if not (again and moving and fleet.expand):
        return again
    return (*migrations.untouched(fleet.migration, fleet.expand),
            *(replace(step, if_well=True) for step in again))


def start_all_again(fleet: Fleet) -> tuple[Step, ...]:
    """What was stopped serves and works again, on every host."""
    return (*(step for target in fleet.targets
              for step in (*closing.step_aside(fleet, target), *start_again(target))),
            *scheduler_again(fleet))


def put_all_back(fleet: Fleet) -> tuple[Step, ...]:
    """As before the first of them was switched, on every host."""
    return (*(step for target in fleet.targets
              for step in (*closing.step_aside(fleet, target), *put_back(fleet, target))),
            *scheduler_again(fleet))


def scheduler_again(fleet: Fleet) -> tuple[Step, ...]:
    """What was stopped on its host where that is none of this run's."""
    return tuple(step for target in fleet.scheduler_outside
                 for step in (*scheduler.role.start(target), *timers.role.start(target)))


def start_again(target: Target) -> tuple[Step, ...]:
    """What served before serves again."""
    old = target.facts.current
    if old is None:
        return tuple(timers.role.start(target))
    return of_roles("start", target.on(old))


def for_good(stages: Iterable[Stage]) -> list[Stage]:
    """Stages after which nothing from before them is started again."""
    return [replace(stage, resume=()) for stage in stages]


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


