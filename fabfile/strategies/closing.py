"""A page in the site's place while everything is stopped, and the site behind it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fabfile.errors import Refused
from fabfile.plan import Stage, Turn
from fabfile.strategies.targets import Fleet
from roles import balancer, maintenance, wsgi
from roles.role import Step, Target

FORTH, BACK = "Release ", "Back to release "


def close_stage(fleet: Fleet) -> list[Stage]:
    """All hosts in front at once. Raises :class:`Refused` where what shows the page is stopped
    itself."""
    if fleet.site is None:
        return []
    both = [target.name for target in fleet.targets if target.host in fleet.site.hosts
            and fleet.site.settings.driver == "apache" and wsgi.applies(target)
            and target.of(wsgi.WsgiSettings, "wsgi").server == "mod_wsgi"]
    if both:
        where = fleet.targets[0].host.where("maintenance", "driver")
        raise Refused(f"{where}: {', '.join(both)}: the Apache that would show the page is the one "
                      f"that is stopped (wsgi.server is mod_wsgi); let what stands in front of it "
                      f"show the page; nothing that serves was changed")
    return _at_once("close", [(step,) for step in maintenance.close(fleet.site, _why(fleet))])


def open_stages(fleet: Fleet) -> list[Stage]:
    """Each host in front by itself, so that one that is dead keeps no other closed."""
    return _at_once("open", _opening(fleet))


def left_closed(fleet: Fleet) -> list[Stage]:
    """What opens a site that a run which is gone has left closed; nothing where it is open."""
    return open_stages(fleet) if fleet.closed_by_run else []


def way_open(fleet: Fleet) -> tuple[Step, ...]:
    """The steps that open it when nothing was changed; only where all before them went well."""
    return tuple(replace(step, if_well=True, apart=True)
                 for steps in _opening(fleet) for step in steps)


def _opening(fleet: Fleet) -> list[tuple[Step, ...]]:
    """Of each host. Asked past the page first: nobody sees a site that does not answer well."""
    if fleet.site is None or _by_hand(fleet):
        return []
    asked = {step.host: (step,) for step in maintenance.smoke(fleet.site)}
    return [(*asked.get(step.host, ()), step) for step in maintenance.open_again(fleet.site)]


def quiet(fleet: Fleet, target: Target) -> tuple[Step, ...]:
    """Before a server stops: who came before the page still gets an answer."""
    if fleet.site is None or not fleet.site.hosts:
        return ()
    counted = balancer.quiet(target, fleet.balancers[target.name])
    return counted or maintenance.settle(fleet.site, target)


def stand_in(fleet: Fleet, target: Target) -> tuple[Step, ...]:
    """The page on a host whose server is stopped, where nothing in front of it shows one."""
    return maintenance.stand_in(fleet.site, target, _why(fleet)) if fleet.site else ()


def step_aside(fleet: Fleet, target: Target) -> tuple[Step, ...]:
    """What comes before that server starts again."""
    return maintenance.step_aside(fleet.site, target) if fleet.site else ()


def brought(closed: maintenance.Closed) -> str:
    """The release that the run which closed the site was about to bring, if it went forward."""
    return closed.reason.removeprefix(FORTH) if closed.reason.startswith(FORTH) else ""


def back_to(closed: maintenance.Closed) -> str:
    """The release that the run which closed the site was on its way back to, if it was."""
    return closed.reason.removeprefix(BACK) if closed.reason.startswith(BACK) else ""


def _why(fleet: Fleet) -> maintenance.Reason:
    reason = f"{BACK if fleet.back else FORTH}{fleet.release.id}"
    return maintenance.Reason(reason, fleet.who, fleet.until, run=True)


def _by_hand(fleet: Fleet) -> bool:
    return fleet.closed is not None and not fleet.closed.by_run


def _at_once(name: str, of_each: Sequence[tuple[Step, ...]]) -> list[Stage]:
    turns = tuple(Turn(steps[0].host, steps) for steps in of_each)
    return [Stage(name, "parallel", turns)] if turns else []
