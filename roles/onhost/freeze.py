"""Freeze the fleet, or lift the freeze and clear the record of a run that is gone.

ARGUMENTS: root, record (a freeze's, or null to lift it). Prints {"lifted": RECORD or null,
"cleared": RECORD or null} or {"frozen": RECORD}. Exit 75 with {"held": RECORD}: a living run has
the lock, which nobody but itself may take away.
"""

import fcntl
import json
import os
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]
STATE = os.path.join(ARGUMENTS["root"], ".fabfleet")
FREEZE = os.path.join(STATE, "freeze")
LOCK = os.path.join(STATE, "lock")


def freeze():
    os.makedirs(STATE, exist_ok=True)
    record = dict(ARGUMENTS["record"], at=time.time())
    draft = "%s.%d" % (FREEZE, os.getpid())
    with open(draft, "w", encoding="utf-8") as out:
        json.dump(record, out)
    try:
        os.link(draft, FREEZE)  # fails where somebody else was first
    except FileExistsError:
        with open(FREEZE, encoding="utf-8") as old:
            print(json.dumps({"already": json.load(old)}))
        sys.exit(75)
    finally:
        os.remove(draft)
    print(json.dumps({"frozen": record}))


def lift():
    lifted = None
    try:
        with open(FREEZE, encoding="utf-8") as old:
            lifted = json.load(old)
        os.remove(FREEZE)
    except FileNotFoundError:
        pass
    print(json.dumps({"lifted": lifted, "cleared": clear()}))


def clear():
    try:
        descriptor = os.open(LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        record = json.loads(os.pread(descriptor, 65536, 0) or b"null")
    except ValueError:
        record = None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(json.dumps({"held": record}))
        sys.exit(75)
    os.ftruncate(descriptor, 0)
    return record


def main():
    if ARGUMENTS["record"]:
        freeze()
    else:
        lift()


main()
