"""Pause what works by the clock, and let it go on.

ARGUMENTS: action (pause, resume), folder (of our state), timers (units of systemd), systemctl (its
path, as sudo allows it); to pause: off (what a person has stopped before), deadline in seconds.

`paused.json` is there from before the first is stopped until the last goes on: {"off", "timers"
(those that were on)}. Jobs of cron look for it (launch.py --job), and hold a lock on the folder for
as long as they run. Where it is there already, a run that died has left it, and it stays true.
Prints what it says. Exit 1: a job did not end in time, and all go on.
"""

import fcntl
import json
import os
import subprocess
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]
PATH = os.path.join(ARGUMENTS["folder"], "paused.json")
PAUSE = 0.1


def fail(text):
    sys.stderr.write(text + "\n")
    sys.exit(1)


def show(unit, *names):
    asked = subprocess.run(["systemctl", "show", "-p", ",".join(names), unit],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return dict(line.split("=", 1) for line in asked.stdout.decode().splitlines() if "=" in line)


def is_on(unit):
    return show(unit, "ActiveState").get("ActiveState") in ("active", "activating", "deactivating")


def tell(verb, unit):
    """What went wrong, or nothing."""
    done = subprocess.run(["sudo", "-n", ARGUMENTS["systemctl"], verb, unit],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode("utf-8", "replace").strip()
    return "%s (%s %s)" % (said, verb, unit) if done.returncode else ""


def read():
    try:
        with open(PATH, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return fail("%s: %s" % (PATH, error))


def write(record):
    draft = PATH + ".new"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(record, file)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(draft, 0o644)
    os.replace(draft, PATH)


def no_job_runs():
    """Whoever begins one later sees that it is paused."""
    folder = os.open(ARGUMENTS["folder"], os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(folder)


def still_running():
    """In words what has not ended; empty when all has."""
    services = [show(timer, "Unit").get("Unit", "") for timer in ARGUMENTS["timers"]]
    found = [service for service in services if service and is_on(service)]
    return found if no_job_runs() else [*found, "a job of cron (launch.py --job)"]


def pause():
    before, timers = read(), ARGUMENTS["timers"]
    was_on = set(before["timers"] if before else ())
    now_on = [timer for timer in timers if is_on(timer)]
    record = {"off": before["off"] if before else ARGUMENTS["off"],
              "timers": [timer for timer in timers if timer in now_on or timer in was_on]}
    write(record)
    for timer in now_on:
        problem = tell("stop", timer)
        if problem:
            if before is None:
                resume()
            fail(problem)
    deadline = time.monotonic() + ARGUMENTS["deadline"]
    while True:
        left = still_running()
        if not left:
            return record
        if time.monotonic() > deadline:
            if before is None:
                resume()
            fail("%s: still running after %g s (timers.deadline); nothing is killed"
                 % (", ".join(left), ARGUMENTS["deadline"]))
        time.sleep(PAUSE)


def resume():
    record = read() or {"off": [], "timers": []}
    # One that the inventory no longer names is nobody's business here, nor one that is on.
    off = [timer for timer in record["timers"]
           if timer in ARGUMENTS["timers"] and not is_on(timer)]
    problems = [problem for problem in [tell("start", timer) for timer in off] if problem]
    if problems:
        fail("\n".join(problems))
    try:
        os.remove(PATH)
    except FileNotFoundError:
        pass
    return record


print(json.dumps(pause() if ARGUMENTS["action"] == "pause" else resume()))
