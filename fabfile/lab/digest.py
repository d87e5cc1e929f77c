"""Every byte and attribute below some paths of a host, to prove that nothing changed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fabfile.lab.machine import Machine

# Runs in the host, as one process. Access times and inode numbers are left out: reading changes
# the former, and the latter say nothing about content.
PROGRAM = r"""
import hashlib, json, os, stat, sys

def content(path, mode):
    if stat.S_ISLNK(mode):
        return "-> " + os.readlink(path)
    if not stat.S_ISREG(mode):
        return ""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()

def described(path):
    try:
        found = os.lstat(path)
        size = found.st_size if stat.S_ISREG(found.st_mode) else "-"
        return "%s %d:%d %s %d %s" % (
            stat.filemode(found.st_mode), found.st_uid, found.st_gid, size, found.st_mtime_ns,
            content(path, found.st_mode))
    except FileNotFoundError:
        return "absent"

def below(top):
    yield top
    if not os.path.islink(top):
        for parent, folders, files in os.walk(top):
            for name in folders + files:
                yield os.path.join(parent, name)

paths = json.load(sys.stdin)
json.dump({path: described(path) for top in paths for path in below(top)}, sys.stdout)
"""


def tree_digest(machine: Machine, paths: Sequence[str]) -> dict[str, str]:
    """``{path: "mode uid:gid size mtime_ns content"}`` of each path and all below it.

    ``mode`` is as in ``ls -l`` (its first letter is the type), ``size`` is in bytes and ``-`` for
    anything but a file; ``content`` is a file's SHA-256 or ``-> target`` of a link. A path that
    does not exist is ``absent``.
    """
    ended = machine.run(["python3", "-c", PROGRAM], stdin=json.dumps(list(paths)))
    found: dict[str, str] = json.loads(ended.stdout)
    return dict(sorted(found.items()))
