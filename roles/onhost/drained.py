"""Wait until no process of any other release runs here. ARGUMENTS: root, release, seconds.

Every process of a release holds a shared lock on that release's file ``in-use``. Exit 1: one still
runs when the time is over.
"""

import fcntl
import os
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]


def others(folder):
    """Releases whose processes run."""
    found = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name, "in-use")
        if name == ARGUMENTS["release"] or not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(name)
    return found


def main():
    folder = os.path.join(ARGUMENTS["root"], ".fabfleet", "releases")
    deadline = time.monotonic() + ARGUMENTS["seconds"]
    while True:
        found = others(folder)
        if not found:
            return
        if time.monotonic() > deadline:
            sys.stderr.write("processes of %s still run here\n" % ", ".join(found))
            sys.exit(1)
        time.sleep(0.1)


main()
