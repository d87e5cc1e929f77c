"""Hold the lock of a fleet for as long as the controller is there.

The kernel guards it (flock), so a process that is gone never holds it; the record in the file says
who, since when and in which phase. The controller speaks over standard input, a JSON line each:
{"phase": ...} and {"ping": true} are answered with a line, {"release": true} ends it. When the
controller falls silent, or the connection ends, the record stays behind with "lost_at", and
the kernel's lock is free.

ARGUMENTS: root, record (a mapping), silence (seconds), again (whether this run had the lock before
its connection broke; no freeze stops it then, but another run in between does). First answer:
{"acquired": true, "abandoned": RECORD or null, "before": when the file was last written (ns)}, or
with exit 75 one of {"held": RECORD}, {"frozen": RECORD} and {"passed": RECORD or null}.
"""

import fcntl
import json
import os
import select
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]
HELD = 75
LENGTH = 1024


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def read(descriptor):
    try:
        return json.loads(os.pread(descriptor, 65536, 0) or b"null")
    except ValueError:
        return None


def write(descriptor, record):
    """Records are of one length, so that whoever reads meanwhile sees a whole one."""
    content = json.dumps(record).encode().ljust(LENGTH) if record else b""
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)


def acquire(path):
    # A winner writes its record a moment after it has the lock; what is seen at first may still be
    # the one before.
    for attempt in range(20):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor, read(descriptor)
        except BlockingIOError:
            record = read(descriptor)
            os.close(descriptor)
            if record and attempt:
                break
            time.sleep(0.05)
    say({"held": record or {}})
    sys.exit(HELD)


def refuse_freeze(path):
    try:
        with open(path, encoding="utf-8") as freeze:
            say({"frozen": json.load(freeze)})
            sys.exit(HELD)
    except FileNotFoundError:
        pass


def serve(descriptor, record):
    """Returns when the controller let go; True when it said so."""
    heard, buffer = time.monotonic(), b""
    while time.monotonic() - heard < ARGUMENTS["silence"]:
        if not select.select([0], [], [], 1)[0]:
            continue
        received = os.read(0, 65536)
        if not received:
            return False
        heard = time.monotonic()
        buffer += received
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message.get("release"):
                return True
            record.update(message.get("record", {}), heartbeat=time.time())
            write(descriptor, record)
            say({"at": record["heartbeat"]})
    return False


def main():
    state = os.path.join(ARGUMENTS["root"], ".fabfleet")
    os.makedirs(state, exist_ok=True)
    if not ARGUMENTS["again"]:
        refuse_freeze(os.path.join(state, "freeze"))
    descriptor, abandoned = acquire(os.path.join(state, "lock"))
    record = dict(ARGUMENTS["record"], since=time.time(), heartbeat=time.time(), holder=os.getpid())
    if ARGUMENTS["again"]:
        if (abandoned or {}).get("run") != record["run"]:
            say({"passed": abandoned})
            sys.exit(HELD)
        record["since"] = abandoned["since"]
    before = os.fstat(descriptor).st_mtime_ns
    write(descriptor, record)
    try:
        say({"acquired": True, "abandoned": abandoned, "before": before})
        released = serve(descriptor, record)
    except BrokenPipeError:
        released = False
    if released:
        write(descriptor, None)
        say({"released": True})
    else:
        write(descriptor, dict(record, lost_at=time.time()))


main()
