"""``fab maintenance.schedule``, ``.scheduled``, ``.cancel``: a maintenance that runs by itself."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fabfile import status_page
from fabfile.engine import alarm, children, scheduled
from fabfile.engine.journal import operator
from fabfile.engine.scheduled import Scheduled
from fabfile.environment import Environment, inventories_root, open_environment
from fabfile.errors import FabfleetError, Refused, UsageError
from fabfile.moments import moment, shown
from fabfile.session import confirm
from fabfile.unattended import known
from fabfile.windows import ALL_THE_SAME, span, windows
from roles.maintenance.windows import Occurrence, open_now, upcoming
from roles.notifications import NotificationsSettings

# Where no window says how late it may begin: seconds.
GRACE = 30 * 60
# Bytes on the disk for the last word of a run, beside those that its record has already.
ROOM = 1 << 16
# How late an alarm may come on a machine that is busy: cron looks once in a minute.
MARGIN = 120
# What an alarm's command gets of our environment: all that it needs to find the same things. Not
# what only this terminal has, so that a rehearsal fails where the run would.
KEPT = ("HOME", "USER", "LOGNAME", "PATH", "LANG", "LC_ALL", "PYTHONPATH", "FABFLEET_STATE",
        "FABFLEET_CACHE", "FABFLEET_INVENTORY", "XDG_STATE_HOME", "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")


@dataclass(frozen=True)
class Asked:
    """What was typed."""

    env: str
    inventory: str
    at: str
    window: str
    ref: str
    accept_risk: tuple[str, ...]
    approved_plan: str
    outside_window: bool
    yes: bool


def add(asked: Asked) -> None:
    """``fab maintenance.schedule``."""
    environment = open_environment(asked.env, asked.inventory)
    alarm.refuse_where_none_can_be()
    at, latest, zone = _when(environment, asked)
    found = Scheduled(
        id=scheduled.new_id(environment.name, at), env=environment.name,
        inventory=str(inventories_root(asked.inventory).resolve()), zone=zone, at=at,
        latest=latest, commit="", ref=asked.ref, release="", digest="", who=operator(),
        options={"accept_risk": list(asked.accept_risk), "approved_plan": asked.approved_plan,
                 "outside_window": asked.outside_window}, state="preparing")
    try:
        with scheduled.held(found):  # whoever looks meanwhile sees that somebody is at it
            scheduled.write(found)
            found, told = _rehearsed(found)
            for line in told["brief"]:
                print(line)
            print(f"approved plan: {found.digest[:12]}; `fab plan` shows every command")
            confirm(environment, asked.yes)
            if time.time() > latest:
                raise Refused(f"it had to begin by {shown(latest, zone)}; nothing was scheduled")
            found.plan.write_text(told["text"])
            found.output.touch(0o600)  # it may tell the way past the page
            found.room.write_bytes(bytes(ROOM))
            incident, notes = status_page.announce(environment, at)
            # All is written before anything can start it: from then on it writes itself.
            found = replace(found, incident=incident, state="waiting")
            scheduled.write(found)
        by = alarm.set_alarm(_alarm(found))
    except BaseException:  # Ctrl-C at the question too: nothing of it stays
        with suppress(FabfleetError):
            alarm.take_away(found.alarm)
        scheduled.forget(found)
        settings = environment.of(NotificationsSettings, "notifications")
        status_page.take_back(settings, found.incident)
        raise
    for note in notes:
        print(f"note: notifications: {note}")
    print(f"{found.id}: {found.what} at {shown(at, zone)}, in "
          f"{span(at - time.time())}, by {by}\n"
          f"  not after {shown(latest, zone)}, and only with this very plan\n"
          f"  what it says goes to {found.output}\n"
          f"  to cancel it: fab maintenance.cancel --id={found.id}")


def _rehearsed(found: Scheduled) -> tuple[Scheduled, Mapping[str, Any]]:
    """What it would run, asked for by a process with nothing but what the real one will have."""
    command = _command(found, "rehearse")
    done = children.ask(command, _kept(), folder=str(Path.cwd()))
    if done.status:
        kind = UsageError if done.status == UsageError.exit_code else Refused
        raise kind(f"{done.err.strip()}\nthis is what a rehearsal met that has nothing of your "
                   f"terminal, no ssh-agent and no variables; nothing was scheduled")
    told = json.loads(done.out.splitlines()[-1])
    if not told["closes"]:
        raise Refused(f"{told['release']} serves already, so nothing would be closed; nothing was "
                      f"scheduled")
    pinned = ("commit", "ref", "release", "digest", "hooks", "kept")
    return replace(found, **{key: told[key] for key in pinned}), told


def _command(found: Scheduled, action: str) -> list[str]:
    return [sys.executable, "-P", "-m", "fabfile.unattended", action, found.id]


def _kept() -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def _alarm(found: Scheduled) -> alarm.Alarm:
    return alarm.Alarm(found.alarm, found.at, _command(found, "run"), _kept(), str(Path.cwd()),
                       str(found.output), _command(found, "ended"))


def _when(environment: Environment, asked: Asked) -> tuple[float, float, str]:
    """(when it begins, when it may begin at the latest, the zone in which to speak of it)."""
    at, latest, zone = _moments(environment, asked)
    if latest - at < MARGIN:
        raise Refused(f"{shown(at, zone)}: it would have to begin within {latest - at:.0f} s "
                      f"(the window's latest_start), and an alarm may be later than that; leave "
                      f"it {MARGIN} s")
    return at, latest, zone


def _moments(environment: Environment, asked: Asked) -> tuple[float, float, str]:
    every, now = windows(environment), time.time()
    if bool(asked.at) == bool(asked.window):
        raise UsageError("--at, --window: say one of them, and only one: a moment such as "
                         "\"2026-12-01 02:00 Europe/London\", or the name of a maintenance window")
    if asked.window:
        named = [each for each in every if each.name == asked.window]
        if not named:
            listed = ", ".join(each.name for each in every) or "none"
            raise UsageError(f"--window={asked.window}: no maintenance window is called so; "
                             f"those that are: {listed}")
        following = [each for each in upcoming(named, now, 10) if each.start > now
                     and not each.problem]
        if not following:
            raise UsageError(f"--window={asked.window}: it does not come again")
        return _begin(following[0])
    at, zone = moment("at", asked.at)
    inside = [each for each in open_now(every, at) if each.latest >= at]
    if inside:
        return at, max(each.latest for each in inside), zone
    if every and not asked.outside_window:
        raise Refused(f"--at={asked.at}: no maintenance window lets a run begin then; see "
                      f"fab maintenance.next\n{ALL_THE_SAME}")
    return at, at + GRACE, zone


def _begin(window: Occurrence) -> tuple[float, float, str]:
    return window.start, window.latest, window.zone


def show(env: str, as_json: bool) -> None:
    """``fab maintenance.scheduled``: of one environment, or of all."""
    known, problems = scheduled.listed()
    found = [each for each in known if not env or each.env == env]
    for problem in problems:
        print(problem, file=sys.stderr)
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=1, sort_keys=True))
        return
    if not found and not problems:
        print("nothing is scheduled here")
    for each in found:
        for line in _lines(each):
            print(line)


def _lines(found: Scheduled) -> list[str]:
    wait = f", in {span(found.at - time.time())}" if found.state == "waiting" and (
        found.at > time.time()) else ""
    lines = [(f"{found.id}: {found.state}: {found.what} at "
             f"{shown(found.at, found.zone)}{wait}, by {found.who}")]
    lines += [f"  {line}" for line in (found.why or _stuck(found)).splitlines()]
    if found.output.exists() and found.output.stat().st_size:
        lines.append(f"  what it said: {found.output}")
    return lines


def _stuck(found: Scheduled) -> str:
    """Why its state will not change by itself, if so."""
    if found.state == "waiting" and time.time() > found.latest:
        return (f"nothing has begun it by {shown(found.latest, found.zone)}, and it is too late now"
                f"\n{_to_cancel(found)}")
    if found.state == "waiting":
        reason = alarm.problem(found.alarm)
        return f"nothing will start it: {reason}\n{_to_cancel(found)}" if reason else ""
    if found.state == "preparing":
        with scheduled.held(found) as alone:
            return (f"whoever was about to schedule it is gone, and nothing will start it\n"
                    f"{_to_cancel(found)}") if alone else ""
    if found.state == "started":
        with scheduled.held(found) as alone:
            return (f"the process that ran it is gone; how things are: fab maintenance.status "
                    f"--env={found.env}, fab status --env={found.env}") if alone else ""
    return ""


def _to_cancel(found: Scheduled) -> str:
    return f"to take it away: fab maintenance.cancel --id={found.id}"


def cancel(name: str) -> None:
    """``fab maintenance.cancel``."""
    if not name:
        raise UsageError("--id: which one? See fab maintenance.scheduled")
    found = scheduled.read(name)
    with scheduled.held(found) as alone:
        if not alone:
            raise Refused(f"{name}: it is about to be scheduled, and waits for an answer"
                          if found.state == "preparing" else f"{name}: it runs; see {found.output}")
        found = scheduled.read(name)
        before, is_to_come = found.state, found.state in ("waiting", "preparing")
        if is_to_come:
            # What is cancelled starts nothing, whatever its alarm does.
            found = scheduled.last_word(found, "cancelled", f"cancelled by {operator()}")
            print(f"{name}: cancelled")
        try:
            alarm.take_away(found.alarm)
        except Refused as error:
            print(f"note: {error}")
        if found.state == "cancelled" and found.incident:
            _take_back(found)
    if not is_to_come:
        raise UsageError(f"{name}: it is {before} already")


def _take_back(found: Scheduled) -> None:
    """From the status page; where that fails, the next `fab maintenance.cancel` tries again."""
    try:
        notes = status_page.take_back(known(found)[1], found.incident)
    except ValueError as error:  # it was scheduled by an older Fabfleet, and its inventory is gone
        notes = [str(error)]
    for note in notes:
        print(f"note: notifications: {note}")
    if not notes:
        scheduled.write(replace(found, incident=""))

