"""Every operation on every database and Django: environments, servers, and what they answered."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.migrations import servers

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DRIVERS = ("psycopg[binary]>=3.1.8,<4", "pymysql>=1.1")
# Two long-term releases, and the newest that this Python allows: on 3.11 that is 5.2 again.
DJANGOS = {"4.2": "django~=4.2.0", "5.2": "django~=5.2.0", "newest": "django"}
VENDORS = ("postgresql", "mysql", "sqlite")
RUNS = tuple(f"{django}-{vendor}" for django in DJANGOS for vendor in VENDORS)

Answers = dict[str, dict[str, Any]]


class Unable(Exception):
    """Something that is not ours is missing: uv, a registry, a server. Says what to install."""


def measured(folder: Path) -> Answers:
    """{run: what harness.py printed, or {"missing": why}}; once per folder, whoever asks first."""
    return once(folder / "matrix.json", lambda: measure_all(folder))


def told(folder: Path) -> Answers:
    """{django: {story: "" or its traceback}, or {"missing": why}}; once per folder."""
    return once(folder / "stories.json", lambda: tell_all(folder))


def once(path: Path, make: Callable[[], Answers]) -> Answers:
    """The JSON in `path`, made by the first process that needs it (pytest-xdist has several)."""
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            path.write_text(json.dumps(make()))
    found: Answers = json.loads(path.read_text())
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------------------------- environments


def python_with(django: str) -> Path:
    """A Python that has this Django and the drivers."""
    return python_of(f"django-{django}", [DJANGOS[django], *DRIVERS])


def python_of(name: str, wanted: Sequence[str]) -> Path:
    """A Python that has these packages, made by uv in the user's cache."""
    key = hashlib.sha256(repr((sys.version_info[:2], wanted)).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fabfleet"
    cache.mkdir(parents=True, exist_ok=True)
    where = cache / f"{name}-{key}"
    with locked(cache / f"{where.name}.lock"):
        if not (where / "complete").exists():
            shutil.rmtree(where, ignore_errors=True)
            uv("venv", "--quiet", "--python", sys.executable, str(where))
            uv("pip", "install", "--quiet", "--python", str(where / "bin/python"), *wanted)
            (where / "complete").touch()
    return where / "bin" / "python"


def uv(*words: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise Unable("uv is missing")
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run(
        [found, *words], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise Unable(f"uv {words[0]}: {done.stderr.strip()[-500:]}")


def answer(python: Path, program: str, arguments: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What one of our programs printed; it runs in `folder`, politely."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["nice", str(python), "-W", "ignore", str(HERE / program), *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ------------------------------------------------------------------------------- all of it


def tell_all(folder: Path) -> Answers:
    found: Answers = {}
    for django in DJANGOS:
        try:
            found[django] = found.get(twin(django)) or answer(
                python_with(django), "stories.py", (), folder / django
            )
        except Unable as error:
            found[django] = {"missing": str(error)}
    return found


def twin(django: str) -> str:
    """The first name of the same release: "newest" may be one that runs anyway."""
    return next(each for each in DJANGOS if version(each) == version(django))


@cache
def version(django: str) -> str:
    """e.g. "5.2.19"; the name itself where it cannot be had."""
    code = "import django; print(django.get_version())"
    try:
        done = subprocess.run([python_with(django), "-c", code], capture_output=True, check=True)
    except Unable:
        return django
    return done.stdout.decode().strip()


def measure_all(folder: Path) -> Answers:
    """Two runs at a time: PostgreSQL's beside the others'."""
    found: Answers = {}
    with ExitStack() as stack:
        homes: dict[str, Path | str] = {"sqlite": folder}
        for vendor, start in (("postgresql", servers.postgresql), ("mysql", servers.mariadb)):
            if vendor not in VENDORS:
                continue
            try:
                homes[vendor] = stack.enter_context(start())
            except servers.Missing as error:
                homes[vendor] = str(error)
        for django in DJANGOS:
            if (same := twin(django)) != django:
                found.update({f"{django}-{v}": found[f"{same}-{v}"] for v in VENDORS})
                continue
            first = [vendor for vendor in VENDORS if vendor == "postgresql"]
            sides = (first, [vendor for vendor in VENDORS if vendor not in first])
            in_parallel([
                lambda side=side, django=django: found.update(  # type: ignore[misc]
                    {f"{django}-{vendor}": one(django, vendor, homes[vendor], folder)
                     for vendor in side})
                for side in sides
            ])  # fmt: skip
    return found


def in_parallel(calls: list[Callable[[], object]]) -> None:
    """All of them; the first error is raised when all are done."""
    errors: list[BaseException] = []

    def call(each: Callable[[], object]) -> None:
        try:
            each()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=call, args=(each,)) for each in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def one(django: str, vendor: str, home: Path | str, folder: Path) -> dict[str, Any]:
    if isinstance(home, str):
        return {"missing": home}
    try:
        python = python_with(django)
    except Unable as error:
        return {"missing": str(error)}
    name = "x" + django.replace(".", "")
    settings = {"default": database(vendor, home, name)}
    return answer(python, "harness.py", (json.dumps(settings),), folder / django / vendor)


def database(vendor: str, home: Path, name: str) -> Mapping[str, object]:
    """Django's settings for a database of our own, which harness.py makes first."""
    engine = "django.db.backends." + {"sqlite": "sqlite3"}.get(vendor, vendor)
    if vendor == "sqlite":
        return {"ENGINE": engine, "NAME": ":memory:"}
    user = {"postgresql": "postgres", "mysql": "root"}[vendor]
    return {"ENGINE": engine, "NAME": name, "USER": user, "HOST": str(home)}
