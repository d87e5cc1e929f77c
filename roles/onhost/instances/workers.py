"""Start a release's workers beside those of others, which then finish; or stop them all.

ARGUMENTS: action (start, stop), prefix (of the templates' names), helper (what sudo allows to start
and stop units), release, pools, afresh (start new ones though there are some of this release),
steady and deadline (seconds), ready (argv that asks whether a worker is ready, {node} is its Celery
name; empty: nothing to ask). Prints {"started": [units], "stopping": [units]}. Exit 1: the new ones
did not get ready and are told to stop again, and the old ones work on; or, at stop, some still
finish their tasks when the time is over.
"""

import json
import socket
import time

from .units import (
    WORKING,
    choose,
    fail,
    instance,
    listed,
    run,
    said,
    tell,
    until_ended,
    until_steady,
)


def main(arguments):
    deadline = time.monotonic() + arguments["deadline"]
    pattern = arguments["prefix"] + "*@*.service"
    start(arguments, pattern, deadline) if arguments["action"] == "start" else stop(
        arguments, pattern, deadline)


def start(arguments, pattern, deadline):
    known = listed(pattern)
    chosen = [choose(known, arguments["prefix"] + pool, arguments["release"], arguments["afresh"])
              for pool in arguments["pools"]]
    new = [unit for _, unit in chosen if unit]
    wanted = [kept or unit for kept, unit in chosen]
    if new:
        tell(arguments["helper"], "start", *new)
    wrong = until_steady(wanted, arguments["steady"], deadline)
    if not wrong and arguments["ready"]:
        wrong = until_ready(arguments, wanted, deadline)
    if wrong:
        if new:
            tell(arguments["helper"], "stop", *new)
        fail("%s; the workers there were go on" % wrong)
    others = [unit for unit, state in listed(pattern).items()
              if state in WORKING and unit not in wanted]
    if others:
        tell(arguments["helper"], "stop", *others)
    print(json.dumps({"started": new, "stopping": others}))


def until_ready(arguments, wanted, deadline):
    """None when all answer; else what they said."""
    asked = dict.fromkeys(wanted, "not asked")
    while asked:
        for unit in list(asked):
            pool = unit[len(arguments["prefix"]):].partition("@")[0]
            node = "%s.%s@%s" % (pool, instance(unit), socket.gethostname())
            done = run(*[word.replace("{node}", node) for word in arguments["ready"]])
            if not done.returncode:
                del asked[unit]
                continue
            asked[unit] = "; ".join(said(done).splitlines()[-3:]) or (
                "exit status %d" % done.returncode)
        if asked and time.monotonic() > deadline:
            return "not ready: %s" % ", ".join("%s: %s" % each for each in asked.items())
        if asked:
            time.sleep(0.3)
    return None


def stop(arguments, pattern, deadline):
    working = [unit for unit, state in listed(pattern).items() if state in WORKING]
    if working:
        tell(arguments["helper"], "stop", *working)
    left = until_ended(pattern, deadline)
    if left:
        fail("%s: tasks still run there after %g s (workers.stop_deadline); they take no new ones "
             "and are not killed" % (", ".join(left), arguments["deadline"]))
    print(json.dumps({"started": [], "stopping": []}))
