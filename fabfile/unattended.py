"""A deploy that nobody watches, as it was scheduled.

    python -P -m fabfile.unattended rehearse ID     only look; JSON of what would run
    python -P -m fabfile.unattended run ID          what an alarm starts, at its time and at boots
    python -P -m fabfile.unattended ended ID        and when that has ended, however it did

``run`` decides itself whether there is anything to do: it begins only what waits and is due, once,
and what a restart of this machine has cut off it never begins again.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from fabfile import approval, status_page
from fabfile.announcing import refuse_untold, tell_once
from fabfile.course import Wish, carry_out, read_only
from fabfile.display.notices import Notice
from fabfile.display.plans import brief
from fabfile.engine import alarm, scheduled
from fabfile.engine.journal import keep_incident
from fabfile.engine.scheduled import Scheduled, State
from fabfile.environment import open_environment
from fabfile.errors import (
    FabfleetError,
    LockHeld,
    Pending,
    Refused,
    Unavailable,
    UsageError,
)
from fabfile.estimates import CLOSING
from fabfile.moments import shown
from fabfile.session import connected
from roles.notifications import Kind

# Where these are raised nothing was changed.
SKIPS = (Refused, LockHeld, Unavailable, UsageError)
EARLY = 1.0


def main(words: Sequence[str]) -> int:
    action, name = words
    try:
        found = scheduled.read(name)
        if action == "rehearse":
            rehearse(found)
            return 0
        return ended(found) if action == "ended" else run(found)
    except FabfleetError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def wish_of(found: Scheduled) -> Wish:
    options = found.options
    return Wish(
        env=found.env, inventory=found.inventory, hosts=None,
        ref=found.commit or found.ref or None, called=found.ref, worktree=False, strategy="",
        yes=True, json=False, maintenance=True, accept_risk=tuple(options["accept_risk"]),
        approved_plan=options["approved_plan"], outside_window=options["outside_window"],
        approved=approval.Approved(found.digest, found.release, found.plan, found.hooks),
        incident=found.incident)


def rehearse(found: Scheduled) -> None:
    """Print what would run: {"commit", "ref", "release", "digest", "hooks" (digest), "brief"
    (lines), "text", "closes": whether it stops anything}."""
    wish = replace(wish_of(found), at=found.at)
    with connected(found.env, found.inventory, json=True) as session:
        session.find_secrets()
        refuse_untold(session.environment)
        fleet, plans = read_only(wish, session)
    release = plans[1:]
    print(json.dumps({
        "commit": fleet.release.commit, "ref": found.ref or fleet.release.ref,
        "release": fleet.release.id, "digest": approval.digest(release),
        "hooks": approval.hooks_digest(fleet.hooks),
        "brief": [line for plan in plans for line in brief(plan)],
        "text": approval.text(release),
        "closes": any(stage.name in CLOSING for plan in release for stage in plan.stages),
    }))


def run(found: Scheduled) -> int:
    with scheduled.held(found) as alone:
        if not alone:
            return 0  # it runs, and whoever started us did so once more
        found = scheduled.read(found.id)
        if found.state == "started":
            return _cut_off(found)
        if found.state != "waiting":
            alarm.take_away(found.alarm)
            return 0
        now = time.time()
        if now < found.at - EARLY:
            return 0
        if now > found.latest:
            return _end(found, "skipped", "skipped",
                        f"it was to begin by {shown(found.latest, found.zone)}, and nothing began "
                        f"it until {shown(now, found.zone)}")
        return _begin(scheduled.moved(found, "started"))


def ended(found: Scheduled) -> int:
    """Where its process was killed, nothing else would say so until the machine boots."""
    with scheduled.held(found) as alone:
        found = scheduled.read(found.id)
        return _cut_off(found) if alone and found.state == "started" else 0


def _cut_off(found: Scheduled) -> int:
    return _end(found, "interrupted", "failed", f"the machine that ran it ended it in the midst; "
                f"it is not begun again by itself. How things are: fab maintenance.status "
                f"--env={found.env}, fab status --env={found.env}")


def _begin(found: Scheduled) -> int:
    wish = wish_of(found)
    # What is said of it later is the command that a person would type.
    sys.argv = shlex.split(wish.again(found.env))
    try:
        carry_out(wish)
    except Pending as error:
        return _end(found, "pending", "pending", str(error), announced=error.announced)
    except SKIPS as error:
        return _end(found, "skipped", "skipped", str(error), announced=error.announced)
    except FabfleetError as error:
        return _end(found, "failed", "failed", str(error), announced=error.announced)
    except BaseException as error:
        _end(found, "failed", "failed", f"{type(error).__name__}: {error}",
             announced=vars(error).get("announced", False))
        raise
    return _end(found, "finished", "finished", "", announced=True)


def _end(found: Scheduled, state: State, kind: Kind, why: str, announced: bool = False) -> int:
    """Say it, write it down, and let nothing start it again."""
    found = scheduled.moved(found, state, why)
    print(f"{found.id}: {state}{': ' if why else ''}{why}", flush=True)
    if not announced:
        for note in _tell(found, kind):
            print(f"note: notifications: {note}", flush=True)
    try:
        alarm.take_away(found.alarm)
    except Refused as error:  # it starts nothing any more, and somebody has to know the result
        print(f"note: {error}")
    return 1 if state in ("failed", "interrupted") else 0


def _tell(found: Scheduled, kind: Kind) -> list[str]:
    try:
        environment = open_environment(found.env, found.inventory)
    except FabfleetError as error:
        return [str(error)]
    # What has failed before anybody was told that it began has closed nothing either.
    nothing_began = found.state in ("skipped", "failed")
    not_held = status_page.take_back(environment, found.incident) if nothing_began else []
    if found.state == "interrupted" and found.incident:
        keep_incident(environment.key, found.incident)  # for whoever opens, or finds it open
    app, said = environment.app, found.why.splitlines() or [""]
    notice = Notice(
        kind, "scheduled deploy", app.name, environment.name, found.release, found.ref,
        found.commit, found.who, "together", len(environment.hosts), found.at, ended=time.time(),
        detail=said[0], next=wish_of(found).again(environment.name),
        url=app.urls[0] if app.urls else "")
    return [*not_held, *tell_once(environment, notice)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
