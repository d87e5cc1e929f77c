"""The folder of backups: its records, its lock, what is kept; and how our work on it ends."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

PARTIAL = ".partial"
DRILLS = "drills.jsonl"
# What has to stay free beside a dump.
SPARE = 64 * 1024 * 1024
BLOCK = 1024 * 1024


def begin(seconds):
    """Nobody else reads what we write; when time is up, or somebody ends us, we still tidy up."""
    os.umask(0o077)

    def stop(number, _frame):
        for each in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        late = "did not end within %d s (backup.timeout)" % seconds
        sys.exit(late if number == signal.SIGALRM else "was ended by signal %d" % number)

    for each in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)


# --------------------------------------------------------------------------------- the folder


def make(folder):
    """The folder, for nobody but us."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.stat(folder).st_uid == os.getuid():
            os.chmod(folder, 0o700)
    except OSError as error:
        sys.exit("backup.folder: %s: %s" % (folder, error.strerror))


def existing(folder):
    """The folder, or what of its path there is already."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def is_writable(folder):
    return os.access(existing(folder), os.W_OK | os.X_OK)


def free(folder):
    disk = os.statvfs(existing(folder))
    return disk.f_bavail * disk.f_frsize


@contextmanager
def locked(folder, name, what):
    """Only one of us; the kernel gives the lock back, however we end."""
    with open(os.path.join(folder, name), "a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            sys.exit("%s runs on this host already: process %s" % (what, lock.read() or "unknown"))
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def remove(path):
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


def remove_partial(folder):
    """What a dump that did not end has left; only under the lock."""
    for name in os.listdir(folder):
        if name.endswith(PARTIAL):
            remove(os.path.join(folder, name))


# --------------------------------------------------------------------------------- the records


def records(folder):
    """What backups there are, the oldest first; `there`: whether the file is."""
    found = []
    try:
        names = sorted(each for each in os.listdir(folder) if each.endswith(".json"))
    except OSError:
        return []
    for name in names:
        record = read(os.path.join(folder, name))
        if isinstance(record, dict) and "backup" in record:
            file = record.get("file")
            found.append(dict(record, there=not file or os.path.exists(file)))
    return sorted(found, key=lambda each: (each["started"], each["alias"]))


def read(path):
    try:
        with open(path, encoding="utf-8") as text:
            return json.load(text)
    except (OSError, ValueError):
        return None


def write(path, value):
    """The whole file or none of it."""
    with open(path + PARTIAL, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=1, sort_keys=True)
        out.flush()
        os.fsync(out.fileno())
    os.rename(path + PARTIAL, path)


def record_of(path):
    """Where the record of a dump, or of a reference, is."""
    return path + ".json"


def last(folder, alias, database):
    """The newest dump of this database, or None."""
    found = [each for each in records(folder) if each.get("database") == database
             and each["alias"] == alias and each["there"]]
    return found[-1] if found else None


def prune(folder, keep):
    """Only the newest `keep` backups stay; one backup is a dump of each database."""
    found = records(folder)
    backups = sorted({each["backup"] for each in found})
    for each in found:
        if each["backup"] in backups[:-keep]:
            if each.get("file"):
                remove(each["file"])
            remove(record_of(os.path.join(folder, each["name"])))


def drills(folder):
    """The last drills; a line that a crash cut off is passed over."""
    found = []
    try:
        with open(os.path.join(folder, DRILLS), encoding="utf-8") as lines:
            for line in lines:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass
    except OSError:
        pass
    return found[-20:]


def note_drill(folder, record):
    with open(os.path.join(folder, DRILLS), "a", encoding="utf-8") as out:
        out.write(json.dumps(record, sort_keys=True) + "\n")


def stamp(folder):
    """A name for this backup that no other one has: the time, to the second."""
    while True:
        name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        if not any(each.startswith(name) for each in os.listdir(folder)):
            return name
        time.sleep(0.1)


# --------------------------------------------------------------------------------- files, tools


def digest(path):
    summed = hashlib.sha256()
    with open(path, "rb") as content:
        for block in iter(lambda: content.read(BLOCK), b""):
            summed.update(block)
    return summed.hexdigest()


def sync(path):
    """Whatever happens to the machine now, it is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def tool(*names):
    """The path of the first of these programs that there is, or ""."""
    return next(filter(None, map(shutil.which, names)), "")


def says(program, *words):
    """What a program answers, in one text."""
    done = subprocess.run([program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode("utf-8", "replace").strip()


def run(what, words, environment=None):
    """A program to its end, which comes with ours; exits with its words where it fails."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, env=environment, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-2000:]
        sys.exit("%s: %s" % (what, said or "exit status %d" % done.returncode))


def megabytes(size):
    return "%.1f MB" % (size / 1e6)
