"""Take a staged release away again, unless it is current or some process runs it.

ARGUMENTS: root, release.
"""

import fcntl
import os
import shutil

ARGUMENTS = globals()["ARGUMENTS"]
ROOT, RELEASE = ARGUMENTS["root"], ARGUMENTS["release"]


def is_used():
    """Whether a process holds the release, as ``launch.py`` makes it do."""
    try:
        with open(os.path.join(ROOT, ".fabfleet", "releases", RELEASE, "in-use")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def main():
    try:
        current = os.path.basename(os.readlink(os.path.join(ROOT, "current")))
    except FileNotFoundError:
        current = None
    if current == RELEASE or is_used():
        return
    for path in (
        os.path.join("releases", RELEASE),
        os.path.join("releases", ".staging-" + RELEASE),
        os.path.join("static", RELEASE),
        os.path.join("static", ".staging-" + RELEASE),
        os.path.join(".fabfleet", "releases", RELEASE),
    ):
        shutil.rmtree(os.path.join(ROOT, path), ignore_errors=True)


main()
