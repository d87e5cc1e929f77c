"""Look at a host without changing anything.

ARGUMENTS: root, tools (names), interpreter (of the virtual environments), units (systemd unit
names), instances (patterns of unit names), links (paths), supervisor ({conf, ctl, program} or
null), files (paths whose SHA-256 is wanted). Prints one JSON object.
"""

import hashlib
import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]
ROOT = ARGUMENTS["root"]
STATE = os.path.join(ROOT, ".fabfleet")


def names(folder):
    try:
        return sorted(each for each in os.listdir(folder) if not each.startswith("."))
    except OSError:
        return []


def existing_parent(path):
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def read(path):
    try:
        with open(path, encoding="utf-8") as text:
            return json.load(text)
    except (OSError, ValueError):
        return None


def digest(path):
    try:
        with open(path, "rb") as content:
            return hashlib.sha256(content.read()).hexdigest()
    except OSError:
        return ""


def kernel_locks():
    """The inodes on which some process of this host holds a flock, as "major:minor:inode"."""
    with open("/proc/locks", encoding="ascii") as lines:
        rows = [line.split() for line in lines]
    return {row[-3] for row in rows if "FLOCK" in row}


def is_locked(path, locks):
    try:
        status = os.stat(path)
    except OSError:
        return False
    # /proc/locks and stat() name overlay and btrfs devices differently, so compare inodes only.
    return any(lock.rpartition(":")[2] == str(status.st_ino) for lock in locks)


def lock(locks):
    path = os.path.join(STATE, "lock")
    alive = is_locked(path, locks)
    record = read(path)
    for _ in range(20):
        if record or not alive:
            break
        time.sleep(0.01)  # whoever has just taken it writes its record now
        record = read(path)
    return record and dict(record, alive=alive)


def lock_written():
    try:
        return os.stat(os.path.join(STATE, "lock")).st_mtime_ns
    except OSError:
        return 0


def job(locks):
    folder = os.path.join(STATE, "jobs", "migrate")
    found = read(os.path.join(folder, "job.json"))
    return found and dict(found, alive=is_locked(os.path.join(folder, "lock"), locks),
                          result=read(os.path.join(folder, "result.json")))


def commands(current):
    """What the launcher knows by name in the current release."""
    runtime = read(os.path.join(STATE, "releases", current or "", "runtime.json")) or {}
    return sorted(runtime.get("commands", ()))


def history():
    """The last good releases; lines that a crash cut off are passed over."""
    found = []
    try:
        with open(os.path.join(STATE, "history.jsonl"), encoding="utf-8") as lines:
            for line in lines:
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass
    except OSError:
        pass
    return found[-50:]


def services():
    found = {}
    found.update(instances())
    for unit in ARGUMENTS["units"]:
        asked = subprocess.run(["systemctl", "show", "-p", "LoadState,ActiveState", unit],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        values = dict(line.split("=", 1) for line in asked.stdout.decode().splitlines())
        missing = values.get("LoadState") != "loaded"
        found[unit] = "missing" if missing else values.get("ActiveState", "unknown")
    if ARGUMENTS["supervisor"]:
        found.update(supervised(ARGUMENTS["supervisor"]))
    return found


def instances():
    """{unit: state} of what systemd knows of instances of templates."""
    if not ARGUMENTS["instances"]:
        return {}
    asked = subprocess.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full",
                            *ARGUMENTS["instances"]],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    rows = [line.split() for line in asked.stdout.decode().splitlines()]
    return {row[0]: row[2] for row in rows if len(row) > 3}


def links():
    """{path: what it leads to, or ""}."""
    found = {}
    for path in ARGUMENTS["links"]:
        try:
            found[path] = os.readlink(path)
        except OSError:
            found[path] = ""
    return found


def draining(units, live):
    """Releases whose instances finish what they have, or serve nobody: no link leads to them."""
    found = set()
    for unit, state in units.items():
        instance = unit.partition("@")[2][:-len(".service")]
        is_linked = any(target.endswith("-%s.sock" % instance) for target in live.values())
        is_server = unit.partition("@")[0].endswith("-wsgi")
        if instance and (state == "deactivating" or (is_server and not is_linked)):
            found.add(instance.partition(":")[0])
    return sorted(found)


def supervised(conf):
    if not os.path.exists(conf["conf"]):
        return {conf["program"]: "missing"}
    asked = subprocess.run([conf["ctl"], "-c", conf["conf"], "status", conf["program"]],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    words = asked.stdout.decode().split()
    running = len(words) > 1 and words[1] == "RUNNING"
    return {conf["program"]: "active" if running else "inactive"}


def tool(name):
    ours = os.path.join(STATE, "tools")
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:" + ours) or ""


def venv_python():
    """The version of the Python that virtual environments are made of; "" where it is missing."""
    asked = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "import sys; print(\'%d.%d.%d\' % sys.version_info[:3])"',
         ARGUMENTS["interpreter"]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return asked.stdout.decode().strip()


def main():
    locks = kernel_locks()
    parent = existing_parent(ROOT)
    disk = os.statvfs(parent)
    try:
        current = os.path.basename(os.readlink(os.path.join(ROOT, "current")))
    except OSError:
        current = None
    meta = os.path.join(STATE, "releases")
    serving, live = services(), links()
    running = [each for each in names(meta) if is_locked(os.path.join(meta, each, "in-use"), locks)]
    print(json.dumps({
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "venv_python": venv_python(),
        "machine": platform.machine(),
        "libc": "-".join(platform.libc_ver()),
        "tools": {name: tool(name) for name in ARGUMENTS["tools"]},
        "root_exists": os.path.isdir(ROOT),
        "writable": os.access(parent, os.W_OK | os.X_OK),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "free_inodes": disk.f_favail,
        "clock": time.time(),
        "current": current,
        "releases": names(os.path.join(ROOT, "releases")),
        "statics": names(os.path.join(ROOT, "static")),
        "venvs": names(os.path.join(ROOT, "venvs")),
        "running": running,
        "history": history(),
        "services": serving,
        "draining": draining(serving, live),
        "links": live,
        "files": {path: digest(path) for path in ARGUMENTS["files"]},
        "lock": lock(locks),
        "lock_written": lock_written(),
        "commands": commands(current),
        "paused": read(os.path.join(STATE, "paused.json")),
        "owed": read(os.path.join(STATE, "owed.json")) or {},
        "freeze": read(os.path.join(STATE, "freeze")),
        "job": job(locks),
        "busy": is_locked(os.path.join(STATE, "busy"), locks),
    }))


main()
