"""Run one command detached from the connection, once, and follow it.

ARGUMENTS: root, name, key, argv, run. A job that runs under the same key is followed, never
started again; one that this very run has finished is answered from its result; a job of another
key that still runs is refused with exit 75. The command's output goes to standard output as it
comes; its exit code becomes ours. Exit 70: the job is gone without a result.
"""

import fcntl
import json
import os
import subprocess
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]
HELD, GONE = 75, 70


def read(path):
    try:
        with open(path, encoding="utf-8") as text:
            return json.load(text)
    except (FileNotFoundError, ValueError):
        return None


def write(path, value):
    with open(path + ".new", "w", encoding="utf-8") as out:
        json.dump(value, out)
        out.flush()
        os.fsync(out.fileno())
    os.rename(path + ".new", path)


def is_free(lock):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def work(folder, lock):
    """The detached process: the command's only parent, and the writer of its result.

    The command has the lock too, so that it counts as running even if this process is killed.
    """
    log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    started = time.time()
    try:
        status = subprocess.call(ARGUMENTS["argv"], stdin=null, cwd="/", pass_fds=(lock,))
    except OSError as error:
        os.write(2, ("cannot start %s: %s\n" % (ARGUMENTS["argv"][0], error)).encode())
        status = 127
    write(os.path.join(folder, "result.json"),
          {"exit": status, "started": started, "ended": time.time()})


def detach(folder, lock):
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        work(folder, lock)
    finally:
        os._exit(0)


def start(folder, lock):
    for name in ("result.json", "log"):
        try:
            os.remove(os.path.join(folder, name))
        except FileNotFoundError:
            pass
    write(os.path.join(folder, "job.json"),
          {"key": ARGUMENTS["key"], "run": ARGUMENTS["run"], "argv": ARGUMENTS["argv"],
           "started": time.time()})
    detach(folder, lock)
    os.close(lock)  # the detached process has its own copy, and with it the lock


def follow(folder, lock_path):
    """Print the log as it grows until the result is there; return the exit code."""
    offset = 0
    log = os.path.join(folder, "log")
    while True:
        result = read(os.path.join(folder, "result.json"))
        try:
            with open(log, "rb") as text:
                text.seek(offset)
                news = text.read()
        except FileNotFoundError:
            news = b""
        offset += len(news)
        sys.stdout.buffer.write(news)
        sys.stdout.buffer.flush()
        if result:
            return result["exit"]
        probe = os.open(lock_path, os.O_RDWR)
        free = is_free(probe)
        os.close(probe)
        if free and not read(os.path.join(folder, "result.json")):
            sys.stderr.write("the detached process is gone and left no result\n")
            return GONE
        time.sleep(0.05)


def main():
    folder = os.path.join(ARGUMENTS["root"], ".fabfleet", "jobs", ARGUMENTS["name"])
    os.makedirs(folder, exist_ok=True)
    lock_path = os.path.join(folder, "lock")
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o644)
    job = read(os.path.join(folder, "job.json")) or {}
    if is_free(lock):
        finished = read(os.path.join(folder, "result.json"))
        ours = job.get("run") == ARGUMENTS["run"] and job.get("key") == ARGUMENTS["key"]
        if ours and finished:
            os.close(lock)
        else:
            start(folder, lock)
    else:
        os.close(lock)
        if job.get("key") != ARGUMENTS["key"]:
            sys.stderr.write("another job still runs here: %s, started by run %s\n"
                             % (job.get("key"), job.get("run")))
            sys.exit(HELD)
        sys.stdout.write("following the job that run %s started\n" % job.get("run"))
        sys.stdout.flush()
    code = follow(folder, lock_path)
    sys.exit(code if code >= 0 else 128 - code)


main()
