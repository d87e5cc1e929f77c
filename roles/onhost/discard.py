"""Take a staged release away again, unless it is current or some process runs it.

ARGUMENTS: root, release.
"""

import os
import shutil

ARGUMENTS = globals()["ARGUMENTS"]
ROOT, RELEASE = ARGUMENTS["root"], ARGUMENTS["release"]


def main():
    try:
        current = os.path.basename(os.readlink(os.path.join(ROOT, "current")))
    except FileNotFoundError:
        current = None
    if current == RELEASE:
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
