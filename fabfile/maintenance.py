"""``fab maintenance.*``: the page by hand, and what is known of it."""

from __future__ import annotations

import ipaddress
import json
import shlex
from dataclasses import asdict
from datetime import UTC, datetime

from fabfile import typed
from fabfile.announcing import announcing
from fabfile.engine import closing
from fabfile.engine.journal import asked_by, operator
from fabfile.engine.lock import ago
from fabfile.errors import Pending, Refused, Unavailable, UsageError
from fabfile.moments import moment
from fabfile.plan import Plan, Stage, Turn
from fabfile.session import Session, confirm, connected
from fabfile.strategies.closing import back_to
from fabfile.strategies.stages import stages
from roles import maintenance, wsgi
from roles.maintenance import Closed, Reason, Site
from roles.role import Step, Target


def close(env: str, inventory: str, reason: str, until: str, allow: str, yes: bool) -> None:
    """``fab maintenance.on``."""
    end = moment("until", until)[0] if until else 0
    addresses = _addresses(allow)
    with connected(env, inventory) as session:
        site = _site(session)
        if site.stands and addresses:
            raise UsageError(f"--allow={allow}: maintenance.driver is stand-in, and nobody gets "
                             f"past that, as no server runs")
        networks = ", ".join(each for each in addresses if "/" in each)
        if networks and site.settings.driver != "haproxy":
            raise UsageError(f"--allow={networks}: at {site.settings.driver} only addresses; "
                             f"networks stand in maintenance.allow, for all windows")
        confirm(session.environment, yes)
        why = Reason(reason, operator(), end, allow=addresses)
        _run(session, "maintenance.on", _closing(session, site, why),
             inventory=inventory, reason=reason, until=until, allow=allow)
        _tell(session, site, closing.look(session.transport, site))


def open_again(env: str, inventory: str, yes: bool) -> None:
    """``fab maintenance.off``."""
    with connected(env, inventory) as session:
        site = _site(session)
        before, silent = closing.look_partly(session.transport, site)
        if before is None and not silent and not _left_stopped(session, site):
            session.lines.write(f"{site.url} was open already")
            with announcing(session) as tell:
                tell.opened()
            return
        confirm(session.environment, yes)
        with announcing(session) as tell:
            _run(session, "maintenance.off", _opening(session, site), inventory=inventory)
            tell.opened()
        took = session.downtime.seconds
        session.lines.write(f"{site.url} is open" + (
            f"; it was closed for {took:.1f} s" if took is not None else ""))


def show(env: str, inventory: str, as_json: bool) -> None:
    """``fab maintenance.status``: exit 4 while it is closed by a run that did not open it again."""
    with connected(env, inventory, json=as_json) as session:
        site = _site(session)
        closed, silent = closing.look_partly(session.transport, site)
        if as_json:
            print(json.dumps({"url": site.url, "closed": asdict(closed) if closed else None,
                              "silent": silent}, indent=1, sort_keys=True))
        else:
            if closed or not silent:
                _tell(session, site, closed)
            else:
                session.lines.write(f"{site.url} is open, as far as its hosts in front answer")
            for each in silent:
                session.lines.note(each)
        if closed is None and _left_stopped(session, site):
            raise Pending("" if as_json else f"but servers do not run: "
                          f"fab start --env={session.environment.name}")
        if closed and (closed.by_run or not closed.everywhere):
            raise Pending("" if as_json else "the site is closed")
        if silent:
            raise Unavailable("" if as_json else "not all hosts in front have answered")


def lines(site: Site, closed: Closed | None, environment: str, again: str = "") -> list[str]:
    """What a person wants to know of it; ``again`` is the command that a run was started with."""
    if closed is None:
        return [f"{site.url} is open"]
    found = [_whose(site, closed)]
    if closed.told:
        found.append(f"  visitors are told: {closed.told}")
    if closed.until:
        found.append(f"  expected to be open by "
                     f"{datetime.fromtimestamp(closed.until, UTC):%Y-%m-%d %H:%M} UTC")
    if not closed.everywhere:
        found.append("  NOT ALL hosts in front show the page; close or open it once more")
    if closed.secret:
        # What is printed for somebody who asked in a chat is read by all who are there.
        past = (f"fab maintenance.status --env={environment} knows the way" if asked_by()
                else f"{site.link}{closed.secret}")
        found.append(f"  to look past the page: {past}")
    if closed.by_run:
        found += [f"  {line}" for line in ways_out(site, closed, environment, again)]
    else:
        found.append(f"  to open it: fab maintenance.off --env={environment}")
    return found


def _whose(site: Site, closed: Closed) -> str:
    if not closed.since:
        return f"{site.url} is closed; since when, by whom and why stands nowhere"
    since = f"{datetime.fromtimestamp(closed.since, UTC):%Y-%m-%d %H:%M:%S} UTC"
    by = f"run {closed.run}" if closed.by_run else "hand"
    return (f"{site.url} is closed since {since} ({ago(closed.since)} ago), by {by} of "
            f"{closed.who}: {closed.reason or 'no reason given'}")


def ways_out(site: Site, closed: Closed, environment: str, again: str) -> list[str]:
    """The commands that end a maintenance which a run has left behind."""
    as_it_is = (f"fab start --env={environment}, which opens it" if site.stands else
                f"fab start --env={environment}, look past the page, then fab maintenance.off "
                f"--env={environment}")
    deploy = f"fab deploy --env={environment} --maintenance --ref=..."
    back = f"fab rollback --env={environment} --reverse --maintenance"
    if target := back_to(closed):
        go_on, other = f"{back} --to={target}", f"  go forth: the newer release again, {deploy}"
    else:
        go_on, other = deploy, f"  go back:  {back}"
    return [
        "ways out:",
        f"  go on:    the same {'rollback' if target else 'deploy'} once more, {again or go_on}",
        other,
        f"  as it is: {as_it_is}",
    ]


def show_config(env: str, inventory: str) -> None:
    """``fab maintenance.config``."""
    from fabfile.environment import open_environment

    site = open_environment(env, inventory).site
    if site is None or not site.hosts:
        raise Refused(f"maintenance.driver is {'none' if site is None else 'stand-in'}, so nothing "
                      f"has to be configured")
    print(maintenance.config(site), end="")


def _site(session: Session) -> Site:
    site = closing.site(session.environment)
    if site is None:
        host = session.environment.hosts[0]
        raise Refused(f"{host.where('maintenance', 'driver')}: is none, so nothing can show a "
                      f"page; see docs/maintenance.md")
    return site


def _closing(session: Session, site: Site, why: Reason) -> list[Stage]:
    if not site.stands:
        return _at_once("close", maintenance.close(site, why))
    turns = [Turn(target.name, (*maintenance.settle(site, target), *wsgi.role.stop(target),
                                *maintenance.stand_in(site, target, why)), _back(site, target))
             for target in _servers(session)]
    return stages("close", "parallel", turns)


def _opening(session: Session, site: Site) -> list[Stage]:
    if not site.stands:
        return _at_once("open", maintenance.open_again(site))
    turns = [Turn(target.name, _back(site, target)) for target in _servers(session)]
    return stages("open", "rolling", turns)


def _back(site: Site, target: Target) -> tuple[Step, ...]:
    return (*maintenance.step_aside(site, target), *wsgi.role.start(target))


def _left_stopped(session: Session, site: Site) -> bool:
    """Our stand-in is gone, as one that was killed, and the servers in whose place it was do not
    serve."""
    return bool(site.stands) and not all(map(wsgi.role.serves, _servers(session)))


def _servers(session: Session) -> list[Target]:
    """Those that the stand-in takes the place of, with the release that is there."""
    if not session.facts:
        session.probe()
    current = {host.name: session.deployed_on(host) for host in session.hosts}
    return [target.on(current[target.name]) for target in session.fleet_of("").targets]


def _at_once(name: str, steps: tuple[Step, ...]) -> list[Stage]:
    return stages(name, "parallel", [Turn(step.host, (step,)) for step in steps])


def _run(session: Session, task: str, found: list[Stage], **typed: str) -> None:
    environment = session.environment.name
    plan = Plan(task, environment, "", task, tuple(found))
    words = [f"--{name}={value}" for name, value in typed.items() if value]
    again = shlex.join(["fab", task, f"--env={environment}", *words])
    with session.run(task) as run:
        run.execute_or_fail(plan, again)


def _tell(session: Session, site: Site, closed: Closed | None) -> None:
    again = typed.again(session.environment)
    for line in lines(site, closed, session.environment.name, again):
        session.lines.write(line)


def _addresses(text: str) -> tuple[str, ...]:
    """As servers write them, which compare text."""
    found = []
    for each in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(str(ipaddress.ip_network(each) if "/" in each else
                             ipaddress.ip_address(each)))
        except ValueError:
            raise UsageError(f"--allow={text}: expected addresses or networks such as "
                             f"192.0.2.0/24, got {each!r}") from None
    return tuple(found)
