"""The wheelhouse: every wheel that a dependency lock needs, for the hosts' platform, built once."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from fabfile.engine.cache import made_once
from fabfile.errors import Refused, UsageError
from roles.python import LOCKS, PythonSettings
from roles.role import HostFacts, Wheelhouse

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Platform:
    """What wheels must fit: Python's version, the machine, the C library and its version."""

    python: str
    machine: str
    libc: str

    @classmethod
    def of(cls, facts: HostFacts) -> Platform:
        return cls(facts.venv_python, facts.machine, facts.libc)

    @classmethod
    def here(cls) -> Platform:
        return cls(platform.python_version(), platform.machine(), "-".join(platform.libc_ver()))

    @property
    def minor(self) -> str:
        """Such as 3.11."""
        return ".".join(self.python.split(".")[:2])

    @property
    def markers(self) -> dict[str, str]:
        """The environment of PEP 508's markers on the hosts; pip knows only that of its own."""
        return {
            "implementation_name": "cpython", "implementation_version": self.python,
            "os_name": "posix", "platform_machine": self.machine,
            "platform_python_implementation": "CPython", "platform_system": "Linux",
            "python_full_version": self.python, "python_version": self.minor,
            "sys_platform": "linux",
        }

    @property
    def tags(self) -> list[str]:
        """pip's --platform values, the newest first (PEP 600)."""
        name, _, version = self.libc.partition("-")
        if name != "glibc":
            return [f"musllinux_1_{minor}_{self.machine}" for minor in (2, 1)]
        newest = int(version.split(".")[1])
        older = ["manylinux2014", "manylinux2010", "manylinux1"]
        tags = [f"manylinux_2_{minor}" for minor in range(newest, 4, -1)]
        return [f"{tag}_{self.machine}" for tag in (*tags, *older)]


@dataclass(frozen=True)
class Lock:
    """A dependency lock: where it is, and what pip is to be told."""

    path: Path
    requirements: str

    def digest(self, fits: Platform) -> str:
        """The name of the virtual environment on the hosts."""
        text = f"{self.requirements}\n{fits}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_lock(folder: Path, settings: PythonSettings, where: str) -> Lock | None:
    """The release's lock. Raises :class:`UsageError` where a named one is not there."""
    if settings.lock is not None:
        path = folder / settings.lock
        if not path.is_file():
            raise UsageError(f"{where}.lock: {settings.lock} is not in the release")
    else:
        found = [folder / name for name in LOCKS if (folder / name).is_file()]
        if not found:
            return None
        path = found[0]
    return Lock(path, _requirements(path, settings))


def _requirements(path: Path, settings: PythonSettings) -> str:
    if path.name == "uv.lock":
        groups = [word for group in settings.groups for word in ("--group", group)]
        return _tool("uv", "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project",
                     "--no-header", "--no-annotate", *groups, "--project", str(path.parent))
    if path.name.startswith("pylock") and path.suffix == ".toml":
        return _from_pylock(path)
    return path.read_text()


def _from_pylock(path: Path) -> str:
    """PEP 751's packages as requirements with hashes. Raises :class:`UsageError`."""
    lines = []
    for package in tomllib.loads(path.read_text()).get("packages", []):
        if package.get("directory", {}).get("path") == ".":
            continue  # the application itself, which the release holds
        if "version" not in package:
            raise UsageError(f"{path.name}: {package['name']} comes from no index; only packages "
                             f"with a version can be brought to the hosts")
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        hashes = [f"--hash=sha256:{each['hashes']['sha256']}" for each in files]
        marker = f" ; {package['marker']}" if package.get("marker") else ""
        pin = f"{package['name']}=={package['version']}{marker}"
        lines.append(" ".join([pin, *hashes]))
    return "\n".join(lines) + "\n"


def _tool(name: str, *words: str) -> str:
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if path is None:
        raise UsageError(f"{name} is not on this machine; install it")
    done = subprocess.run([path, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise Refused(f"{name} {words[0]}: {done.stderr.strip()}")
    return done.stdout


def build(lock: Lock, fits: Platform, settings: PythonSettings, origin: str) -> Wheelhouse:
    """All wheels for ``fits``, from the cache where they were built before.

    Raises :class:`Refused` when a dependency has no wheel for the hosts and none can be built.
    """
    digest = lock.digest(fits)

    def make(new: Path) -> None:
        wanted = new / "wanted.txt"
        wanted.write_text(_applying(lock.requirements, fits))
        _collect(new, wanted, fits, settings, f"{origin}: {lock.path.name}")
        wanted.unlink()
        _write_requirements(new)

    folder = made_once("wheels", digest, make)
    return Wheelhouse(str(folder), REQUIREMENTS, digest, tools(fits))


def _applying(requirements: str, fits: Platform) -> str:
    """The requirements that hold on the hosts, without their markers."""
    from packaging.requirements import InvalidRequirement, Requirement

    kept = []
    for line in re.sub(r"\\\n\s*", " ", requirements).splitlines():
        words, *options = re.split(r"\s+(?=--hash=)", line.strip())
        try:
            wanted = Requirement(re.sub(r"(^|\s)#.*", "", words))
        except InvalidRequirement:
            kept.append(line)  # an option, a comment, a path
            continue
        if wanted.marker is None or wanted.marker.evaluate(fits.markers):
            wanted.marker = None
            kept.append(" ".join([str(wanted), *options]))
    return "\n".join(kept) + "\n"


def _collect(new: Path, wanted: Path, fits: Platform, settings: PythonSettings, where: str) -> None:
    index = ["--index-url", settings.index] if settings.index else []
    common = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    tags = [word for tag in fits.tags for word in ("--platform", tag)]
    short = fits.minor.replace(".", "")
    # A lock with hashes is complete, and what it leaves out on these hosts is not needed there.
    complete = ["--no-deps"] if "--hash=" in wanted.read_text() else []
    abis = [word for abi in (f"cp{short}", "abi3", "none") for word in ("--abi", abi)]
    download = [
        *common, "download", "--only-binary", ":all:", "--dest", str(new),
        "--python-version", fits.python, "--implementation", "cp", *abis, *tags, *index, *complete,
        "-r", str(wanted),
    ]
    first = subprocess.run(download, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           check=False)
    if first.returncode == 0:
        return
    if replace(fits, python=fits.minor) == replace(Platform.here(), python=Platform.here().minor):
        build_here = [*common, "wheel", "--wheel-dir", str(new), *index, *complete,
                      "-r", str(wanted)]
        second = subprocess.run(build_here, stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, check=False)
        if second.returncode == 0:
            return
        raise Refused(f"{where}: {_pip_error(second.stderr)}")
    raise Refused(
        f"{where}: {_pip_error(first.stderr)} (wheels are needed for Python {fits.python} on "
        f"{fits.machine}, {fits.libc}; a source package is only built where the controller is the "
        f"same)"
    )


def _pip_error(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("ERROR:")]
    missing = re.search(r"No matching distribution found for (\S+)", text)
    if missing:
        return f"no wheel of {missing.group(1)} can be had"
    return "; ".join(line.removeprefix("ERROR: ") for line in lines) or text.strip()[-500:]


def _write_requirements(folder: Path) -> None:
    """What hosts install: exactly these wheels, each by its hash."""
    from packaging.utils import parse_wheel_filename

    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    (folder / REQUIREMENTS).write_text("".join(lines))


def tools(fits: Platform) -> str:
    """A folder that holds uv for the hosts' machine; "" where ours does not fit."""
    if (fits.machine, fits.libc.partition("-")[0]) != (platform.machine(), "glibc"):
        return ""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise UsageError("uv is not on this machine; run ./fab once, or install it")
    version = _tool("uv", "--version").split()[1]

    def make(new: Path) -> None:
        shutil.copy2(uv, new / "uv")

    return str(made_once("uv", version, make))
