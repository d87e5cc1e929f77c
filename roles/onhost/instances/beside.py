"""Start a release's server beside the one that serves, turn the link of the socket to it, or stop
all of them.

ARGUMENTS: action (start, flip, retire, stop), template (of the units), helper (what sudo allows to
start and stop units), release, afresh (start a new one though one of this release runs), link (the
path that serves), keep (seconds for which the one that served stays up), deadline in seconds,
as_service (argv before a command that has to run as the service's user).

``start`` leaves ``<link>.next`` for whoever asks the new server for its health; ``flip`` renames it
to the link, which no connection can see half done. Prints JSON.
"""

import json
import os
import time

from .units import (
    WORKING,
    choose,
    fail,
    instance,
    listed,
    release_of,
    run,
    said,
    tell,
    until_ended,
    until_steady,
)


def main(arguments):
    act = {"start": start, "flip": flip, "retire": retire, "stop": stop}[arguments["action"]]
    print(json.dumps(act(arguments, arguments["template"] + "@*.service")))


def socket_of(arguments, unit):
    """As roles/wsgi names it."""
    return "%s-%s.sock" % (arguments["link"][:-len(".sock")], instance(unit))


def pointed(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def as_service(arguments, *words):
    done = run(*arguments["as_service"], *words)
    if done.returncode:
        fail(said(done))


def start(arguments, pattern):
    kept, new = choose(listed(pattern), arguments["template"], arguments["release"],
                       arguments["afresh"])
    # One that is kept for a way back must not end as planned, now that it is wanted.
    tell(arguments["helper"], "start", kept or new)
    wrong = until_steady([kept or new], 0, time.monotonic() + arguments["deadline"])
    if wrong:
        if new:
            tell(arguments["helper"], "stop", new)
        fail("%s; what served serves on" % wrong)
    as_service(arguments, "ln", "-sfn", socket_of(arguments, kept or new),
               arguments["link"] + ".next")
    return {"started": [new] if new else []}


def flip(arguments, pattern):
    link, following = arguments["link"], arguments["link"] + ".next"
    served = pointed(link)
    chosen = pointed(following)
    if chosen:
        as_service(arguments, "mv", "-T", following, link)
    elif not served:
        fail("%s does not exist: no server was started" % following)
    live = pointed(link)
    others = [unit for unit, state in listed(pattern).items()
              if state in WORKING and socket_of(arguments, unit) != live]
    kept = [unit for unit in others
            if socket_of(arguments, unit) == served and release_of(unit) != arguments["release"]]
    stopping = [unit for unit in others if unit not in kept or not arguments["keep"]]
    if stopping:
        tell(arguments["helper"], "stop", *stopping)
    for unit in kept:
        if unit not in stopping:
            tell(arguments["helper"], "retire", str(int(arguments["keep"])), unit)
    return {"live": live, "kept": [unit for unit in kept if unit not in stopping],
            "stopping": stopping}


def retire(arguments, pattern):
    """What was kept for a way back ends now."""
    live = pointed(arguments["link"])
    others = [unit for unit, state in listed(pattern).items()
              if state in WORKING and socket_of(arguments, unit) != live]
    if others:
        tell(arguments["helper"], "stop", *others)
    return {"stopping": others}


def stop(arguments, pattern):
    working = [unit for unit, state in listed(pattern).items() if state in WORKING]
    if working:
        tell(arguments["helper"], "stop", *working)
    left = until_ended(pattern, time.monotonic() + arguments["deadline"])
    if left:
        fail("%s: still running after %g s" % (", ".join(left), arguments["deadline"]))
    as_service(arguments, "rm", "-f", arguments["link"], arguments["link"] + ".next")
    return {"stopping": working}
