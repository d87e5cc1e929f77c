"""Base disks, built once and shared by all labs of this machine.

An image is a chain of layers (``base``, then ``db``, ``queue``, ``proxy``, ``edge``, ``apache`` and
``desk`` where a host plays that part); each layer is a folder that becomes an overlay's lower
directory. A layer's folder carries the hash of everything that made it, and appears by one rename
when it is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fabfile.lab import apt, mounts, shell
from fabfile.lab.model import LabError

WHERE = "lab images"
BASE_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "rsync",
    "python3",
    "python3-venv",
    "postgresql-client",
    "sudo",
    "iproute2",
    "curl",
    "ca-certificates",
)
LAYER_PACKAGES = {
    "db": ("postgresql",), "queue": ("redis-server",), "proxy": ("haproxy",), "edge": ("nginx",),
    "apache": ("apache2", "libapache2-mod-wsgi-py3"), "desk": ("git",),
}
# Counted up when the functions below change what they leave on the disk.
RECIPE_VERSION = 1
# Hosts have no internet: these timers would only fail, at a random moment of a measurement.
MASKED_UNITS = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer")
SSHD_SETTINGS = "MaxStartups 100\nMaxSessions 100\nUseDNS no\n"
REFUSE_TO_START_SERVICES = "#!/bin/sh\nexit 101\n"
BUILD_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
WORKSPACE = "building-"
WORKSPACE_OPTIONS = "size=3g,mode=755"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Layer:
    """``below`` are the layers that this one stands on, the lowest first."""

    name: str
    below: tuple[Layer, ...] = ()

    @property
    def folder_name(self) -> str:
        """The layer's name and the hash of its recipe, such as ``db-1f0c93ab52d4``."""
        recipe = repr(
            (
                RECIPE_VERSION,
                apt.codename(),
                os.uname().machine,
                [layer.folder_name for layer in self.below],
                LAYER_PACKAGES.get(self.name, BASE_PACKAGES),
                MASKED_UNITS,
                SSHD_SETTINGS,
            )
        )
        return f"{self.name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def layers_for(groups: Sequence[str]) -> tuple[Layer, ...]:
    """The chain of layers for a host in these groups, the lowest first."""
    chain: tuple[Layer, ...] = (Layer("base"),)
    for name in LAYER_PACKAGES:
        if name in groups:
            chain = (*chain, Layer(name, chain))
    return chain


def lower_directories(images: Path, groups: Sequence[str]) -> list[Path]:
    """What an overlay wants as ``lowerdir``: the uppermost layer first."""
    return [images / layer.folder_name for layer in reversed(layers_for(groups))]


def is_built(images: Path, layer: Layer) -> bool:
    return (images / layer.folder_name).is_dir()


def build_missing(images: Path, layers: Sequence[Layer], progress: Progress) -> None:
    """Build what is not there. A second builder on this machine waits for the first."""
    if all(is_built(images, layer) for layer in layers):
        return
    with _only_builder(images):
        for layer in layers:
            if not is_built(images, layer):
                _build(images, layer, progress)


def destroy_images(directory: Path) -> None:
    """Remove every image below the state ``directory``. Labs that are up must be down before."""
    images = directory / "images"
    if not images.is_dir():
        return
    used = [point for point in mounts.mount_points() if point.name == "root" and _is_lab(point)]
    if used:
        raise LabError(f"{WHERE}: still in use by {used[0]}; bring that lab down first")
    with _only_builder(images):
        _clear_workspace(images)
    shutil.rmtree(images)


def _is_lab(point: Path) -> bool:
    return point.parent.parent.name == "disks"


@contextmanager
def _only_builder(images: Path) -> Iterator[None]:
    images.mkdir(parents=True, exist_ok=True)
    with (images / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(images: Path, layer: Layer, progress: Progress) -> None:
    progress(f"image {layer.name}: building, once on this machine (log: {_log(images, layer)})")
    started = time.monotonic()
    _clear_workspace(images)
    _log(images, layer).unlink(missing_ok=True)
    # In memory: dpkg syncs every file that it writes, and a killed build leaves nothing behind.
    # A name of its own: what a killed builder has started may live on, and writes by path.
    workspace = Path(tempfile.mkdtemp(prefix=WORKSPACE, dir=images))
    mounts.mount_private_tmpfs(workspace, WORKSPACE_OPTIONS, WHERE)
    try:
        built = _build_layer(images, layer, workspace)
        _publish(images, layer, built)
    finally:
        _clear_workspace(images)
    progress(f"image {layer.name}: ready after {time.monotonic() - started:.0f} s")


def _build_layer(images: Path, layer: Layer, workspace: Path) -> Path:
    return _build_above(images, layer, workspace) if layer.below else _build_base(images, workspace)


def _build_base(images: Path, workspace: Path) -> Path:
    root = workspace / "root"
    packages = images / "debs"
    packages.mkdir(exist_ok=True)
    shell.run_logged(
        ["nice", "debootstrap", *_debootstrap_arguments(packages, root)],
        where=WHERE,
        log=_log(images, Layer("base")),
        env=BUILD_ENVIRONMENT,
    )
    _settle_base(root)
    _forget_build(root)
    return root


def _debootstrap_arguments(packages: Path, root: Path) -> list[str]:
    source = apt.mirror()
    if source is None:
        raise LabError(f"{WHERE}: no apt source of this machine's own release in /etc/apt")
    trust = ["--keyring", source.keyring] if source.keyring else []
    if source.trusted:
        trust = ["--no-check-gpg"]
    return [
        "--variant=minbase",
        f"--include={','.join(BASE_PACKAGES)}",
        f"--cache-dir={packages}",
        *trust,
        source.suite,
        str(root),
        source.uri,
    ]


def _settle_base(root: Path) -> None:
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text(SSHD_SETTINGS)
    systemctl = ["systemctl", f"--root={root}"]
    shell.run([*systemctl, "enable", "systemd-networkd.service"], where=WHERE)
    shell.run([*systemctl, "mask", *MASKED_UNITS], where=WHERE)
    # Two hosts with one machine id would share DHCP leases, journal ids and D-Bus identity.
    dbus_id = root / "var/lib/dbus/machine-id"
    dbus_id.unlink(missing_ok=True)
    dbus_id.parent.mkdir(parents=True, exist_ok=True)
    dbus_id.symlink_to("/etc/machine-id")


def _build_above(images: Path, layer: Layer, workspace: Path) -> Path:
    upper, work, root = (workspace / name for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    lower = [images / below.folder_name for below in reversed(layer.below)]
    mount_overlay(root, lower, upper, work, WHERE)
    with _ready_for_apt(root):
        for command in (
            ["apt-get", "-q", "update"],
            ["apt-get", "-q", "-y", "--no-install-recommends", "install"],
        ):
            packages = LAYER_PACKAGES[layer.name] if "install" in command else ()
            shell.run_logged(
                ["nice", "chroot", str(root), *command, *packages],
                where=WHERE,
                log=_log(images, layer),
                env=BUILD_ENVIRONMENT,
            )
    _forget_build(root)
    mounts.unmount_below(root, WHERE)
    return upper


def mount_overlay(root: Path, lower: Sequence[Path], upper: Path, work: Path, where: str) -> None:
    """Mount ``lower`` (the uppermost first) and ``upper`` as one tree at ``root``."""
    # Without redirects and metacopy an upper layer is complete in itself: it can be stacked again.
    options = (
        f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work},"
        "redirect_dir=off,metacopy=off"
    )
    shell.run(["mount", "-t", "overlay", "-o", options, "fabfleet-lab", str(root)], where=where)


@contextmanager
def _ready_for_apt(root: Path) -> Iterator[None]:
    """The machine's network names and kernel file systems; no package starts a service."""
    policy = root / "usr/sbin/policy-rc.d"
    settings = root / "etc/apt/apt.conf.d/00lab-build"
    resolver = root / "etc/resolv.conf"
    policy.write_text(REFUSE_TO_START_SERVICES)
    policy.chmod(0o755)
    settings.write_text(_acquire_settings())
    resolver.write_text(Path("/etc/resolv.conf").read_text())
    for name, kind in (("proc", "proc"), ("sys", "sysfs")):
        shell.run(["mount", "-t", kind, kind, str(root / name)], where=WHERE)
    shell.run(["mount", "--bind", "/dev", str(root / "dev")], where=WHERE)
    shell.run(["mount", "-t", "tmpfs", "tmpfs", str(root / "dev/shm")], where=WHERE)
    try:
        yield
    finally:
        for name in ("dev/shm", "dev", "sys", "proc"):
            mounts.unmount_below(root / name, WHERE)
        for path in (policy, settings, resolver):
            path.unlink(missing_ok=True)


def _acquire_settings() -> str:
    """How this machine reaches its sources: a proxy, a dated snapshot; the chroot does the same."""
    dump = shell.run(["apt-config", "dump"], where=WHERE).stdout
    return "".join(f"{line}\n" for line in dump.splitlines() if re.match(r"Acquire::\w+", line))


def _forget_build(root: Path) -> None:
    """Remove what must not be shared by hosts, and what no host will read."""
    doomed = [
        *root.glob("etc/ssh/ssh_host_*"),
        *root.glob("var/cache/apt/*.bin"),
        *root.glob("var/cache/apt/archives/*.deb"),
        *root.glob("var/lib/apt/lists/*_*"),
        *(root / name for name in ("etc/machine-id", "etc/hostname", "etc/resolv.conf")),
    ]
    for path in doomed:
        path.unlink(missing_ok=True)


def _publish(images: Path, layer: Layer, built: Path) -> None:
    complete = images / layer.folder_name
    partial = complete.with_suffix(".partial")
    _remove_tree(partial)
    # cp, not shutil: device nodes and trusted.* attributes are how an overlay marks what is gone.
    shell.run(["cp", "-a", str(built), str(partial)], where=WHERE)
    # A name must not become visible before its content would survive a crash of this machine.
    shell.run(["sync", "--file-system", str(partial)], where=WHERE)
    partial.rename(complete)


def _clear_workspace(images: Path) -> None:
    for workspace in images.glob(f"{WORKSPACE}*"):
        mounts.unmount_below(workspace, WHERE)
        shutil.rmtree(workspace, ignore_errors=True)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _log(images: Path, layer: Layer) -> Path:
    return images / f"{layer.name}.log"
