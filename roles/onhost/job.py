"""Run one command detached from the connection, once, and follow it.

ARGUMENTS: root, name, key, argv, run. A file "program" that comes along is laid beside the job and
its path is the command's last word. Where the user has a systemd of its own, the job is a unit of
that, fabfleet-APP-NAME.scope, which outlives every session.

A job that runs under the same key is followed, never started again; one that this very run has
finished is answered from its result; a job of another key that still runs is refused with exit 75.
What an earlier program left unclear is handed to the next one as --gone=[[database, migration]].
The command's output goes to standard output as it comes; its exit code becomes ours. Exit 70: the
job is gone without a result.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]
FILES = globals()["FILES"]
SENTINEL = "@@FABFLEET "
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


@contextlib.contextmanager
def deciding(folder):
    """While this is held, nobody else looks whether the job runs, or starts it: who does not get
    the job's lock then finds in job.json who has it. Never held for longer than a start takes."""
    door = os.open(os.path.join(folder, "starting"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(door, fcntl.LOCK_EX)
        yield door
    finally:
        os.close(door)


def runs(folder):
    with deciding(folder):
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR)
        try:
            return not is_free(lock)
        finally:
            os.close(lock)


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
    if status == 0 and not has_said_how(folder):
        os.write(2, b"the program ended without saying how it ended\n")
        status = GONE
    write(os.path.join(folder, "result.json"),
          {"exit": status, "started": started, "ended": time.time()})


def has_said_how(folder):
    """A program of ours tells its result; code that it runs may end the process before that."""
    if os.path.join(folder, "program.py") not in ARGUMENTS["argv"]:
        return True
    with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as lines:
        return any(line.startswith(SENTINEL) and '"event": "result"' in line for line in lines)


def detach(folder, lock, door):
    if os.fork():
        os.wait()
        return
    os.close(door)
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        if not in_a_unit(folder, lock):
            work(folder, lock)
    finally:
        os._exit(0)


def in_a_unit(folder, lock):
    """Do the work in a unit of its own; false where that could not be begun.

    A host that ends all processes of a session with the session (KillUserProcesses=yes in
    logind.conf) would end it otherwise. A scope keeps our open files, and with them the lock.
    """
    runtime = "/run/user/%d" % os.getuid()
    if not os.path.exists(os.path.join(runtime, "systemd", "private")) or "self" not in FILES:
        return False
    worker = os.path.join(folder, "worker.py")
    with open(worker, "wb") as out:
        out.write(("ARGUMENTS, FILES, LOCK = %r, {}, %d\n" % (ARGUMENTS, lock)).encode())
        out.write(FILES["self"])
    begun = os.path.join(folder, "begun")
    try:
        os.remove(begun)
    except FileNotFoundError:
        pass
    argv = ["systemd-run", "--user", "--scope", "--quiet", "--collect",
            "--unit=fabfleet-%s-%s" % (os.path.basename(ARGUMENTS["root"]), ARGUMENTS["name"]),
            sys.executable, "-I", worker]
    null = os.open(os.devnull, os.O_RDWR)
    try:
        subprocess.call(argv, stdin=null, stdout=null, stderr=null, cwd="/", pass_fds=(lock,),
                        env=dict(os.environ, XDG_RUNTIME_DIR=runtime))
    except OSError:
        return False
    return os.path.exists(begun)


def unclear(folder):
    """[[database, migration]] of which nobody knows whether it was applied: begun and not ended by
    a process that is gone, or failed outside of one transaction. With a third word "back" where it
    was being taken back."""
    found = dict.fromkeys(map(tuple, read(os.path.join(folder, "unclear.json")) or []))
    try:
        with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as lines:
            events = [line.partition(SENTINEL)[2] for line in lines if SENTINEL in line]
    except FileNotFoundError:
        events = []
    for text in events:
        try:
            event = json.loads(text)
            began, key = event["event"] == "started", (event["database"], event["migration"])
        except (KeyError, TypeError, ValueError):
            continue  # another event, or the power went while it was written
        if began:
            found[(*key, "back") if event.get("back") else key] = None
        elif event.get("clear"):
            found.pop(key, None)
            found.pop((*key, "back"), None)
    return [list(each) for each in found]


def start(folder, lock, door):
    left = unclear(folder)
    write(os.path.join(folder, "unclear.json"), left)
    for name in ("job.json", "result.json", "log"):
        try:
            os.remove(os.path.join(folder, name))
        except FileNotFoundError:
            pass
    if "program" in FILES:
        program = os.path.join(folder, "program.py")
        with open(program, "wb") as out:
            out.write(FILES["program"])
        os.chmod(program, 0o644)
        ARGUMENTS["argv"] += [program] + (["--gone=" + json.dumps(left)] if left else [])
    job = {"key": ARGUMENTS["key"], "run": ARGUMENTS["run"], "argv": ARGUMENTS["argv"],
           "started": time.time()}
    write(os.path.join(folder, "job.json"), job)
    detach(folder, lock, door)
    return job


def follow(folder, job):
    """Print the log as it grows, without the lines that are for programs, until the result is
    there; return the exit code."""
    offset, rest = 0, b""
    log = os.path.join(folder, "log")
    while True:
        result = read(os.path.join(folder, "result.json"))
        try:
            with open(log, "rb") as text:
                text.seek(offset)
                news = text.read()
        except FileNotFoundError:
            news = b""
        if read(os.path.join(folder, "job.json")) != job:
            sys.stderr.write("another job was started here before the result was read\n")
            return GONE
        offset += len(news)
        lines = (rest + news).splitlines(True)
        rest = lines.pop() if lines and not result and not lines[-1].endswith(b"\n") else b""
        sys.stdout.buffer.writelines(
            line for line in lines if not line.startswith(SENTINEL.encode()))
        sys.stdout.buffer.flush()
        if result:
            return result["exit"]
        if not runs(folder) and not read(os.path.join(folder, "result.json")):
            sys.stderr.write("the detached process is gone and left no result\n")
            return GONE
        time.sleep(0.05)


def join(folder):
    """The job that runs, or ran, under our key; started now where it has to be."""
    with deciding(folder) as door:
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            free = is_free(lock)
            job = read(os.path.join(folder, "job.json")) or {}
            finished = read(os.path.join(folder, "result.json"))
            ours = job.get("run") == ARGUMENTS["run"] and job.get("key") == ARGUMENTS["key"]
            if free and not (ours and finished):
                return start(folder, lock, door)
        finally:
            os.close(lock)  # the detached process has its own copy, and with it the lock
    if not free and job.get("key") != ARGUMENTS["key"]:
        sys.stderr.write("another job still runs here: %s, started by run %s\n"
                         % (job.get("key"), job.get("run")))
        sys.exit(HELD)
    if not free:
        sys.stdout.write("following the job that run %s started\n" % job.get("run"))
        sys.stdout.flush()
    return job


def main():
    folder = os.path.join(ARGUMENTS["root"], ".fabfleet", "jobs", ARGUMENTS["name"])
    if "LOCK" in globals():
        with open(os.path.join(folder, "begun"), "w", encoding="utf-8"):
            pass
        work(folder, globals()["LOCK"])
        return
    os.makedirs(folder, exist_ok=True)
    code = follow(folder, join(folder))
    sys.exit(code if code >= 0 else 128 - code)


main()
