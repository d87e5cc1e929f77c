"""Record that a release is good here, then remove what is no longer needed.

ARGUMENTS: root, record (a line for the history, or null), keep (how many good releases).
Never removed: the current release, one that a process still runs (it holds a lock on in-use),
and the newest ``keep`` good ones. Prints {"removed": [names]}.
"""

import fcntl
import json
import os
import shutil
import time

ARGUMENTS = globals()["ARGUMENTS"]
ROOT = ARGUMENTS["root"]
STATE = os.path.join(ROOT, ".fabfleet")
HISTORY = os.path.join(STATE, "history.jsonl")


def names(folder):
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def record():
    descriptor = os.open(HISTORY, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    line = json.dumps(dict(ARGUMENTS["record"], at=time.time())).encode() + b"\n"
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line  # a crash cut the last one off
    os.write(descriptor, line)
    os.fsync(descriptor)
    os.close(descriptor)


def good():
    """Good releases, the newest last, each once; lines that a crash cut off are passed over."""
    ids = []
    try:
        with open(HISTORY, encoding="utf-8") as lines:
            for line in lines:
                try:
                    ids.append(json.loads(line)["release"])
                except ValueError:
                    pass
    except FileNotFoundError:
        pass
    return list(dict.fromkeys(reversed(ids)))[::-1]


def is_unused(release):
    """Whether no process holds the release; from then on none can start, as its lock is gone."""
    path = os.path.join(STATE, "releases", release, "in-use")
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def remove(path):
    """Out of sight in one rename, then deleted."""
    if not os.path.lexists(path):
        return
    gone = os.path.join(os.path.dirname(path), ".gone-" + os.path.basename(path))
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(*folders):
    """Away with what runs that died had begun."""
    for folder in folders:
        for name in names(folder):
            if name.startswith("."):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def needed_venvs(releases):
    found = set()
    for release in releases:
        try:
            with open(os.path.join(STATE, "releases", release, "runtime.json")) as text:
                found.add(os.path.basename(json.load(text)["venv"] or ""))
        except FileNotFoundError:
            pass
    return found


def main():
    if ARGUMENTS["record"]:
        record()
    current = os.path.basename(os.readlink(os.path.join(ROOT, "current")))
    kept = {current, *good()[-ARGUMENTS["keep"]:]}
    removed = []
    releases = os.path.join(ROOT, "releases")
    sweep(releases, os.path.join(ROOT, "static"), os.path.join(STATE, "releases"))
    for name in names(releases):
        if name not in kept:
            if not is_unused(name):
                kept.add(name)
                continue
            for folder in (releases, os.path.join(ROOT, "static")):
                remove(os.path.join(folder, name))
            remove(os.path.join(STATE, "releases", name))
            removed.append(name)
    needed = needed_venvs(kept)
    for venv in names(os.path.join(ROOT, "venvs")):
        if venv not in needed:
            remove(os.path.join(ROOT, "venvs", venv))
    for wheelhouse in names(os.path.join(STATE, "wheelhouse")):
        remove(os.path.join(STATE, "wheelhouse", wheelhouse))
    print(json.dumps({"removed": sorted(removed)}))


main()
