"""A folder of a host that can run full: a tmpfs of its own size, mounted over it.

It is mounted on this machine inside the host's tree, where every boot of the host finds it, and
handed into a host that is already running.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fabfile.lab import mounts, shell
from fabfile.lab.machine import Machine
from fabfile.lab.model import LabError
from inventories.errors import UsageError

FILLER = ".lab-filler"

# A running host has a mount namespace of its own: only a detached copy of the mount (open_tree)
# can be carried in (setns) and attached there (move_mount). No tool of Debian 12 does it.
ATTACH_IN_HOST = r"""
import ctypes, os, sys
source, pid, target = sys.argv[1:]
OPEN_TREE, MOVE_MOUNT = 428, 429
AT_FDCWD, OPEN_TREE_CLONE, CLONE_NEWNS, FROM_EMPTY_PATH = -100, 1, 0x20000, 4
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return result
namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
root = os.open(f"/proc/{pid}/root", os.O_RDONLY)
tree = must(libc.syscall(OPEN_TREE, AT_FDCWD, source.encode(), OPEN_TREE_CLONE))
must(libc.setns(namespace, CLONE_NEWNS))
os.fchdir(root)
os.chroot(".")
must(libc.syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), FROM_EMPTY_PATH))
"""

FILL = r"""
import os, sys
folder, leave = sys.argv[1], int(sys.argv[2])
room = os.statvfs(folder)
size = room.f_bavail * room.f_frsize - leave
if size > 0:
    with open(os.path.join(folder, ".lab-filler"), "ab") as filler:
        os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, size)
"""


def limit(machine: Machine, path: str, size_bytes: int, inodes: int | None) -> None:
    """Give ``path`` a file system of its own. Raises ``LabError`` when something lies there."""
    point = _point(machine, path)
    if mounts.is_mounted(point):
        raise LabError(f"{machine.where}: {path} has a limit already")
    point.mkdir(parents=True, exist_ok=True)
    if any(point.iterdir()):
        raise LabError(f"{machine.where}: {path} is not empty; limit it before data is there")
    options = f"size={size_bytes},mode=755" + (f",nr_inodes={inodes}" if inodes else "")
    mounts.mount_private_tmpfs(point, options, machine.where)
    pid = machine.first_pid()
    if pid is not None:
        argv = [sys.executable, "-I", "-c", ATTACH_IN_HOST, str(point), str(pid), path]
        shell.run(argv, where=machine.where)


def fill(machine: Machine, path: str, leave_bytes: int) -> None:
    """Leave only ``leave_bytes`` free below ``path``, which must have a limit."""
    if not mounts.is_mounted(_point(machine, path)):
        raise LabError(f"{machine.where}: {path} has no limit: filling it would fill this machine")
    machine.run(["python3", "-c", FILL, path, str(leave_bytes)])


def free(machine: Machine, path: str) -> None:
    """Take back what ``fill`` took."""
    (_point(machine, path) / FILLER).unlink(missing_ok=True)


def _point(machine: Machine, path: str) -> Path:
    if not path.startswith("/") or path == "/" or ".." in Path(path).parts:
        raise UsageError(f"{machine.where}: {path!r} must be an absolute path below /")
    return machine.disk.root / path.strip("/")
