"""PostgreSQL and MariaDB for a few minutes: own data, UNIX sockets only, nothing written for good.

Debian packages: postgresql, mariadb-server. Nothing here uses, or needs, a system service.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 60.0


class Missing(Exception):
    """A server's programs are not installed; says which package has them."""


@contextmanager
def postgresql() -> Iterator[Path]:
    """A PostgreSQL; gives the folder of its socket (user postgres, database postgres)."""
    initdb, server, ready = (
        program(name, "postgresql", "/usr/lib/postgresql/*/bin")
        for name in ("initdb", "postgres", "pg_isready")
    )
    with folder("postgres") as (where, user):
        data = str(where / "data")
        run([initdb, "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8",
             "--locale=C", "--no-instructions"], user)  # fmt: skip
        settings = ("listen_addresses=", f"unix_socket_directories={where}", "fsync=off",
                    "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")  # fmt: skip
        options = [word for each in settings for word in ("-c", each)]
        with running([server, "-D", data, *options], user, where, signal.SIGINT,
                     [ready, "-q", "-h", str(where)]):  # fmt: skip
            yield where


@contextmanager
def mariadb() -> Iterator[Path]:
    """A MariaDB; gives its socket (user root, no password)."""
    install, server, admin = (
        program(name, "mariadb-server", "/usr/sbin")
        for name in ("mariadb-install-db", "mariadbd", "mariadb-admin")
    )
    with folder("mysql") as (where, user):
        socket, common = where / "s", ["--no-defaults", f"--datadir={where / 'data'}"]
        run([install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"], user)
        options = [f"--socket={socket}", f"--pid-file={where / 'pid'}", "--skip-networking",
                   "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M",
                   "--innodb-log-file-size=16M", "--skip-innodb-doublewrite"]  # fmt: skip
        with running([server, *common, *options], user, where, signal.SIGTERM,
                     [admin, "--no-defaults", "-uroot", f"--socket={socket}", "ping"]):  # fmt: skip
            yield socket


def program(name: str, package: str, *places: str) -> str:
    """The path of a program, or Missing."""
    spots = [spot for place in places for spot in sorted(Path("/").glob(place.lstrip("/")))]
    found = shutil.which(name, path=os.pathsep.join(map(str, spots))) or shutil.which(name)
    if not found:
        raise Missing(f"{name} is missing: install the package {package}")
    return found


@contextmanager
def folder(owner: str) -> Iterator[tuple[Path, str | None]]:
    """A folder with a short path (a socket's may have 107 bytes), and who the server runs as.

    Both servers refuse to run as root, so root hands over to `owner`; anyone else stays.
    """
    where = Path(tempfile.mkdtemp(prefix="ff-"))
    user = owner if os.geteuid() == 0 else None
    try:
        if user:
            known = pwd.getpwnam(user)
            os.chown(where, known.pw_uid, known.pw_gid)
        yield where, user
    finally:
        shutil.rmtree(where, ignore_errors=True)


def run(argv: Sequence[str], user: str | None) -> None:
    """One program to its end, as `user`; its output is the error."""
    done = subprocess.run(argv, **as_user(user), cwd="/", capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{argv[0]}: {done.stdout}{done.stderr}")


@contextmanager
def running(
    argv: Sequence[str], user: str | None, where: Path, end: signal.Signals, probe: Sequence[str]
) -> Iterator[None]:
    """A server from when `probe` succeeds until we end it, by its own process id."""
    with (where / "log").open("wb") as log:
        server = subprocess.Popen(argv, **as_user(user), cwd=where, stdout=log, stderr=log)
    try:
        wait_for(probe, server, where / "log")
        yield
    finally:
        server.send_signal(end)
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(probe: Sequence[str], server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while subprocess.run(probe, capture_output=True, check=False).returncode:
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{probe[0]}: no server\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def as_user(user: str | None) -> dict[str, Any]:
    """Keyword arguments for subprocess; none where we stay who we are."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
