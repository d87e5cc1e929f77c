"""Stop, start and restart what serves, without deploying anything."""

from __future__ import annotations

from invoke import Context

from fabfile.tasks.command import command


def _act(moment: str, env: str, hosts: str | None, inventory: str, yes: bool) -> None:
    from dataclasses import replace

    from fabfile.course import looked, urls
    from fabfile.errors import Refused
    from fabfile.plan import Mode, Plan, Turn
    from fabfile.session import confirm, connected
    from fabfile.strategies import closing
    from fabfile.strategies.stages import drain, of_roles, resting, stages, undrain

    with connected(env, inventory, hosts) as session:
        session.probe()
        none = [host.name for host in session.hosts if session.facts[host.name].current is None]
        if none:
            raise Refused(f"{', '.join(none)}: nothing was deployed yet; "
                          f"fab deploy --env={session.environment.name} comes first")
        site = session.environment.site
        if moment != "stop" and site and site.stands:
            looked(session, session.fleet_of(""))  # where a person closed it, that is refused
        confirm(session.environment, yes)
        with session.run(moment) as run:
            fleet = session.fleet_of("")
            if moment == "stop":
                fleet = resting(fleet)
            # Where some go on serving, those that stop are taken out of rotation first.
            others = len(session.hosts) < len(session.environment.hosts)
            turns = []
            for target in fleet.targets:
                release = replace(target.release, id=target.facts.current or "")
                steps = of_roles(moment, replace(target, release=release, afresh=True))
                if moment != "stop":
                    steps = (*closing.step_aside(fleet, target), *steps)
                if moment == "restart" or (moment == "stop" and others):
                    steps = (*drain(fleet, target), *steps)
                if moment != "stop":
                    steps = (*steps, *undrain(fleet, target))
                turns.append(Turn(target.name, steps))
            mode: Mode = "parallel" if moment == "stop" and not others else "rolling"
            plan = Plan(moment, session.environment.name, "", moment,
                        tuple(stages(moment, mode, turns)))
            run.execute_or_fail(plan, f"fab {moment} --env={session.environment.name}")
        if moment != "stop":
            for url in urls(session):
                session.lines.write(f"  {url}")


@command
def stop(context: Context, env: str = "", hosts: str | None = None, yes: bool = False,
         inventory: str = "") -> None:
    """Stop the servers, all at once."""
    _act("stop", env, hosts, inventory, yes)


@command
def start(context: Context, env: str = "", hosts: str | None = None, yes: bool = False,
          inventory: str = "") -> None:
    """Start the servers, one at a time, healthy before the next."""
    _act("start", env, hosts, inventory, yes)


@command
def restart(context: Context, env: str = "", hosts: str | None = None, yes: bool = False,
            inventory: str = "") -> None:
    """Restart the servers, one at a time, healthy before the next."""
    _act("restart", env, hosts, inventory, yes)
