"""Turn an uploaded tree into a release: compare it with the manifest, then give it its name.

ARGUMENTS: root, release, staging, previous (a release's tree or null), runtime (a mapping).
FILES: manifest, launcher. Prints JSON {"files": N, "hashed": N}. Exit 1: the tree is not what the
manifest says; each difference is on standard error, and no release was made.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys

ARGUMENTS = globals()["ARGUMENTS"]
FILES = globals()["FILES"]


def digest(path):
    summed = hashlib.sha256()
    with open(path, "rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            summed.update(block)
    return summed.hexdigest()


def walk(top):
    """Every file and link below ``top``, and every empty folder, as relative paths."""
    found, empty = {}, set()
    pending = [""]
    while pending:
        folder = pending.pop()
        entries = list(os.scandir(os.path.join(top, folder)))
        if not entries and folder:
            empty.add(folder)
        for entry in entries:
            path = folder + "/" + entry.name if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            else:
                found[path] = entry.stat(follow_symlinks=False)
    return found, empty


def linked(previous, path, status):
    """True where rsync has just found this file equal to the previous release's and linked it."""
    if previous is None:
        return False
    try:
        other = os.lstat(os.path.join(previous, path))
    except OSError:
        return False
    return (other.st_ino, other.st_dev) == (status.st_ino, status.st_dev)


def differences(tree, manifest, previous):
    found, empty = walk(tree)
    wanted, hashed, wrong = manifest["files"], 0, []
    wrong += ["missing: " + path for path in sorted(set(wanted) - set(found))]
    wrong += ["not in the manifest: " + path for path in sorted(set(found) - set(wanted))]
    wrong += ["empty folder differs: " + path for path in sorted(empty ^ set(manifest["folders"]))]
    for path in sorted(set(wanted) & set(found)):
        kind, value = wanted[path]
        where = os.path.join(tree, path)
        problem = difference(where, kind, value, found[path])
        if not problem and kind != "link" and not linked(previous, path, found[path]):
            hashed += 1
            problem = "" if digest(where) == value else "content differs"
        if problem:
            wrong.append("%s: %s" % (problem, path))
    return wrong, len(found), hashed


def difference(where, kind, value, status):
    """What is wrong with one entry but for its content; empty where nothing is."""
    if kind == "link":
        right = stat.S_ISLNK(status.st_mode) and os.readlink(where) == value
        return "" if right else "not the link to %s" % value
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    mode = "%o" % stat.S_IMODE(status.st_mode)
    return "" if mode == kind else "mode %s instead of %s" % (mode, kind)


def write(path, content, mode=0o644):
    """Written whole or not at all."""
    new = path + ".new"
    with open(new, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    os.chmod(new, mode)
    os.replace(new, path)


def main():
    root, release = ARGUMENTS["root"], ARGUMENTS["release"]
    staging, final = ARGUMENTS["staging"], os.path.join(root, "releases", release)
    state = os.path.join(root, ".fabfleet")
    folder = os.path.join(state, "releases", release)
    manifest = json.loads(FILES["manifest"])
    wrong, files, hashed = differences(staging, manifest, ARGUMENTS["previous"])
    if wrong:
        sys.stderr.write("".join("%s\n" % each for each in wrong[:20]))
        sys.stderr.write("%d of %d differ from the manifest\n" % (len(wrong), files))
        sys.exit(1)
    os.makedirs(folder, exist_ok=True)
    write(os.path.join(state, "launch.py"), FILES["launcher"])
    write(os.path.join(folder, "manifest.json"), FILES["manifest"])
    write(os.path.join(folder, "runtime.json"), json.dumps(ARGUMENTS["runtime"], indent=1).encode())
    with open(os.path.join(folder, "in-use"), "a"):
        pass
    # The name below releases/ must never outlive a power cut that the content did not.
    subprocess.call(["sync", "-f", staging])
    os.rename(staging, final)
    descriptor = os.open(os.path.dirname(final), os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    print(json.dumps({"files": files, "hashed": hashed}))


main()
