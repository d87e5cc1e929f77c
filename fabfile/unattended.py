"""A deploy that nobody watches, as it was scheduled.

    python -P -m fabfile.unattended rehearse ID     only look; JSON of what would run
    python -P -m fabfile.unattended run ID          what an alarm starts, at its time and at boots
    python -P -m fabfile.unattended ended ID        and when that has ended, however it did

``run`` decides itself whether there is anything to do: it begins only what waits and is due, once,
and what a restart of this machine has cut off it never begins again.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from fabfile import approval, status_page
from fabfile.announcing import refuse_untold, tell_once
from fabfile.course import Wish, approvable, carry_out, read_only
from fabfile.display.notices import Notice
from fabfile.display.plans import brief
from fabfile.engine import alarm, scheduled
from fabfile.engine.journal import keep_incident
from fabfile.engine.scheduled import Scheduled, State
from fabfile.environment import Environment, open_environment
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
from roles.notifications import Kind, NotificationsSettings

# Where these are raised nothing was changed.
SKIPS = (Refused, LockHeld, Unavailable, UsageError)
# Signals by which a machine that goes down ends what runs.
ENDED_BY_OTHERS = ("TERM", "INT", "HUP")
# A boot may be so many seconds before its time, or less.
NEAR = 15


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
        pinned=bool(found.commit), incident=found.incident)


def kept(environment: Environment) -> dict[str, Any]:
    """What a notice says of the environment, and whom it goes to; for JSON."""
    app = environment.app
    settings = environment.of(NotificationsSettings, "notifications")
    return {"app": app.name, "url": app.urls[0] if app.urls else "",
            "hosts": len(environment.hosts), "key": environment.key,
            "notifications": settings.model_dump(mode="json", exclude_defaults=True)}


def known(found: Scheduled) -> tuple[Mapping[str, Any], NotificationsSettings]:
    """The same as it is now, or as it was when this was scheduled, where the inventory cannot be
    read any more. Raises ValueError where that is not to be had either."""
    values = found.kept
    with suppress(FabfleetError):
        values = kept(open_environment(found.env, found.inventory))
    return values, NotificationsSettings.model_validate(values.get("notifications"))


def rehearse(found: Scheduled) -> None:
    """Print what would run: {"commit", "ref", "release", "digest", "hooks" (digest), "brief"
    (lines), "text", "closes": whether it stops anything, "kept"}."""
    wish = replace(wish_of(found), at=found.at)
    with connected(found.env, found.inventory, json=True) as session:
        session.find_secrets()
        environment = session.environment
        refuse_untold(environment)
        fleet, plans = read_only(wish, session)
    release = approvable(fleet)
    print(json.dumps({
        "commit": fleet.release.commit, "ref": found.ref or fleet.release.ref,
        "release": fleet.release.id, "digest": approval.digest(release),
        "hooks": approval.hooks_digest(fleet.hooks),
        "brief": [line for plan in plans for line in brief(plan)],
        "text": approval.text(release),
        "closes": any(stage.name in CLOSING for plan in release for stage in plan.stages),
        "kept": kept(environment),
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
        if now < found.at - NEAR:
            return 0
        time.sleep(max(0, found.at - now))  # an alarm that comes meanwhile would start nothing
        if now > found.latest:
            return _end(found, "skipped", "skipped",
                        f"it was to begin by {shown(found.latest, found.zone)}, and nothing began "
                        f"it until {shown(now, found.zone)}")
        return _begin(found)


def ended(found: Scheduled) -> int:
    """Where its process was killed, nothing else would say so until the machine boots; and where it
    could not even begin, nothing ever. systemd tells in EXIT_STATUS how it ended; where the machine
    went down, the next boot decides."""
    with scheduled.held(found) as alone:
        found = scheduled.read(found.id)
        if alone and found.state == "started":
            return _cut_off(found)
        broke = os.environ.get("EXIT_STATUS", "0") not in ("0", *ENDED_BY_OTHERS)
        if alone and found.state == "waiting" and broke and time.time() >= found.at:
            return _end(found, "skipped", "skipped", "its process ended before it began anything; "
                                                     f"what it said stands in {found.output}")
        return 0


def _cut_off(found: Scheduled) -> int:
    return _end(found, "interrupted", "failed", f"the machine that ran it ended it in the midst; "
                f"it is not begun again by itself. How things are: fab maintenance.status "
                f"--env={found.env}, fab status --env={found.env}")


def _begin(found: Scheduled) -> int:
    try:
        found = scheduled.moved(found, "started")
    except OSError as error:
        return _end(found, "skipped", "skipped", f"that it begins cannot be kept: {error}")
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
    except BaseException as error:  # a defect, or a signal: whatever it is, it becomes known
        code = _end(found, "failed", "failed", f"{type(error).__name__}: {error}",
                    announced=vars(error).get("announced", False))
        if not isinstance(error, Exception):
            raise
        with suppress(OSError):
            traceback.print_exc()
        return code
    return _end(found, "finished", "finished", "", announced=True)


def _end(found: Scheduled, state: State, kind: Kind, why: str, announced: bool = False) -> int:
    """Say it, write it down, and let nothing start it again."""
    try:
        found = scheduled.last_word(found, state, why)
    except OSError as error:  # somebody has to know the result all the same
        _say(f"note: {found.path}: {error}")
        found = replace(found, state=state, why=why)
    _say(f"{found.id}: {state}{': ' if why else ''}{why}")
    if not announced:
        for note in _tell(found, kind):
            _say(f"note: notifications: {note}")
    try:
        alarm.take_away(found.alarm)
    except (Refused, OSError) as error:  # it starts nothing any more
        _say(f"note: {error}")
    return 1 if state in ("failed", "interrupted") else 0


def _say(line: str) -> None:
    with suppress(OSError):  # the disk may be full on which the output is
        print(line, flush=True)


def _tell(found: Scheduled, kind: Kind) -> list[str]:
    try:
        place, settings = known(found)
    except ValueError as error:
        return [str(error)]
    # What has failed before anybody was told that it began has closed nothing either.
    nothing_began = found.state in ("skipped", "failed")
    not_held = status_page.take_back(settings, found.incident) if nothing_began else []
    if found.state == "interrupted" and found.incident:
        with suppress(OSError):  # for whoever opens, or finds it open
            keep_incident(place["key"], found.incident)
    said = found.why.splitlines() or [""]
    notice = Notice(
        kind, "scheduled deploy", place["app"], found.env, found.release, found.ref,
        found.commit, found.who, "together", place["hosts"], found.at, ended=time.time(),
        detail=said[0], next=wish_of(found).again(found.env), url=place["url"])
    return [*not_held, *tell_once(settings, notice)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
