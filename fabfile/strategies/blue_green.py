"""Two groups of hosts: the one that waits gets the release, and the balancer flips to it.

The other one stays as it is, so the way back is one flip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fabfile.environment import Environment
from fabfile.errors import InventoryError, Refused
from fabfile.plan import Plan, Stage, Turn
from fabfile.strategies.scheduling import paused
from fabfile.strategies.stages import (
    change,
    drain,
    finish_stage,
    migrate_stage,
    of_roles,
    roll_stage,
    stages,
    watched,
    with_hooks,
)
from fabfile.strategies.targets import Fleet, is_live
from roles import balancer
from roles.balancer import BalancerSettings
from roles.deploy import DeploySettings
from roles.role import Target


def check(environment: Environment) -> None:
    """Raises :class:`InventoryError` where the inventory does not fit."""
    first, second = environment.of(DeploySettings, "deploy").blue_green.groups
    where = environment.hosts[0].where
    sides = {name: [host for host in environment.hosts if name in host.groups]
             for name in (first, second)}
    for name, hosts in sides.items():
        if not hosts:
            raise InventoryError(f"{where('deploy', 'blue_green', 'groups')}: no host that gets "
                                 f"the code is in {name}; put half of them into it")
    for host in sides[first]:
        if host in sides[second]:
            raise InventoryError(f"{where('deploy', 'blue_green', 'groups')}: {host.name} is in "
                                 f"both; a host is either {first} or {second}")
    for host in (*sides[first], *sides[second]):
        driver = environment.of(BalancerSettings, "balancer", host).driver
        if driver not in balancer.FLIPPING or not environment.balancers(host):
            raise InventoryError(
                f"{host.where('balancer', 'driver')}: expected {' or '.join(balancer.FLIPPING)} "
                f"with {host.name} behind it (balancer.groups), which can flip from one group to "
                f"the other; got {driver}")


@dataclass(frozen=True)
class Sides:
    """``enter`` will serve, ``leave`` will wait; ``others`` are in neither group."""

    enter: tuple[Target, ...]
    leave: tuple[Target, ...]
    others: tuple[Target, ...]

    def flipped(self, fleet: Fleet) -> bool:
        """Whether the balancers say just that already."""
        rotating = {target.name for target in (*self.enter, *self.leave)} & fleet.rotating
        return rotating == {target.name for target in self.enter}


def sides(fleet: Fleet) -> Sides:
    """The group that serves the release already enters, or else the one that waits.

    Raises :class:`Refused` where no host of a group takes part.
    """
    first, second = (
        tuple(target for target in fleet.targets if name in target.host.groups)
        for name in fleet.deploy.blue_green.groups)
    others = tuple(target for target in fleet.targets if target not in (*first, *second))
    if not first or not second:
        both = " and ".join(fleet.deploy.blue_green.groups)
        raise Refused(f"blue-green flips from one group to the other, and no host of one of them "
                      f"({both}) takes part")
    serving, waiting = (second, first) if _rotating(fleet, second) > _rotating(fleet, first) else (
        first, second)
    for group in (serving, waiting):
        if group and all(map(is_live, group)):
            return Sides(group, waiting if group is serving else serving, others)
    return Sides(waiting, serving, others)


def _rotating(fleet: Fleet, group: tuple[Target, ...]) -> int:
    return sum(target.name in fleet.rotating for target in group)


def plan(fleet: Fleet) -> Plan:
    parts = (
        *paused(fleet, migrate_stage(fleet, fleet.expand), release_stages(fleet)),
        *finish_stage(arrived(fleet)),
    )
    return Plan("release", fleet.environment, fleet.release.id, "blue-green", parts)


def release_stages(fleet: Fleet) -> tuple[Stage, ...]:
    """The group that enters gets the release, unasked by anybody; then the flip, then all hosts
    that are in neither group."""
    both = sides(fleet)
    return (*_prepare(fleet, both), *_flip(fleet, both),
            *roll_stage(replace(fleet, targets=both.others)))


def arrived(fleet: Fleet) -> Fleet:
    """The fleet without the group that waits."""
    both = sides(fleet)
    return replace(fleet, targets=(*both.enter, *both.others))


def _prepare(fleet: Fleet, both: Sides) -> list[Stage]:
    out = [] if both.flipped(fleet) else [
        Turn(target.name, drain(fleet, target)) for target in both.enter
        if target.name in fleet.rotating and not is_live(target)]
    changed = [change(fleet, target, number, behind=False)
               for number, target in enumerate(each for each in both.enter if not is_live(each))]
    same = [Turn(target.name, of_roles("confirm", target))
            for target in (*both.enter, *both.others) if is_live(target)]
    return [*stages("drain", "once", out), *stages("confirm", "parallel", same),
            *with_hooks(fleet, "roll", Stage("roll", "parallel", tuple(changed)))]


def _flip(fleet: Fleet, both: Sides) -> list[Stage]:
    if both.flipped(fleet):
        return []
    first = both.enter[0]
    balancers = fleet.balancers[first.name]
    there = balancer.flip(both.enter, both.leave, balancers)
    back = balancer.flip(both.leave, both.enter, balancers)
    return stages("flip", "once", [Turn(first.name, (*there, *watched(fleet, first)), back)])


def behind(fleet: Fleet) -> tuple[Target, ...]:
    """Hosts that wait with another release: the way back."""
    if fleet.deploy.strategy != "blue-green":
        return ()
    return tuple(target for target in sides(fleet).leave if not is_live(target))


def follow(fleet: Fleet) -> Plan:
    """The group that waits gets the release too; there is no way back by a flip from then on."""
    left = behind(fleet)
    turns = tuple(change(fleet, target, number, behind=False)
                  for number, target in enumerate(left))
    parts = (*with_hooks(fleet, "roll", Stage("roll", "parallel", turns)),
             *finish_stage(replace(fleet, targets=left)))
    return Plan("follow", fleet.environment, fleet.release.id, "blue-green", parts)
