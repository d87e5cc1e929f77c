"""HAProxy, nginx and Apache for some seconds, on loopback, in front of small servers of our own.

Debian packages: haproxy, nginx, apache2, libapache2-mod-wsgi-py3. Nothing here uses, or needs, a
system service or root.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.loopback import Loopback, Quiet

PATIENCE = 20.0
CHECK = "/check"
APACHE_MODULES = Path("/usr/lib/apache2/modules")


class Missing(Exception):
    """A balancer is not installed; says which package has it."""


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        raise Missing(f"{name} is missing: install the package {name}")
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Handler(Quiet):
    """``/slow/2`` answers after two seconds; all answers are the server's name. One that is
    ``broken`` says 500 to all but the check."""

    protocol_version = "HTTP/1.1"
    backend: Backend

    def do_GET(self) -> None:  # noqa: N802 - its name is given
        backend = self.backend
        if self.path == CHECK:
            self._tell(200 if backend.healthy else 503)
            return
        with backend.guard:
            backend.asked.append(self.path)
        if self.path.startswith("/slow/"):
            backend.began.set()
            time.sleep(float(self.path.rpartition("/")[2]))
        self._tell(500 if backend.broken else 200)

    def _tell(self, status: int) -> None:
        self.say(status, self.backend.name.encode())


class Backend:
    """One server behind the balancer."""

    def __init__(self, name: str) -> None:
        self.name, self.healthy, self.broken = name, True, False
        self.asked: list[str] = []
        self.guard, self.began = threading.Lock(), threading.Event()
        handler = type("Handler", (Handler,), {"backend": self})
        self.server = Loopback(handler)
        self.port = self.server.port


@contextmanager
def backends(*names: str) -> Iterator[dict[str, Backend]]:
    made = {name: Backend(name) for name in names}
    try:
        yield made
    finally:
        for each in made.values():
            each.server.close()


@contextmanager
def running(argv: Sequence[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A balancer from when its port answers until we end it, by its own process id."""
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until = time.monotonic() + PATIENCE
        while not listens(port):
            said = log.read_text(errors="replace")
            assert process.poll() is None, said[-2000:]
            assert time.monotonic() < until, said[-2000:]
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


class Balancer:
    """The address of a balancer, and the files with which it is told something."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.socket = folder / "admin.sock"
        self.config = folder / "upstream.conf"

    def get(self, path: str = "/") -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    def served_by(self, requests: int = 12) -> set[str]:
        return {self.get() for _ in range(requests)}

    def say(self, line: str) -> str:
        """One command of HAProxy's runtime socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(line.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@contextmanager
def haproxy(
    folder: Path, made: Mapping[str, Backend], options: str = "", frontend: str = ""
) -> Iterator[Balancer]:
    """HAProxy with one backend ``web``, checked every 100 ms; its socket may have a short path
    only, so the folder is one of /tmp. ``frontend``: more lines for that."""
    found = Balancer(folder, free_port())
    servers = "".join(f"    server {each.name} 127.0.0.1:{each.port}\n" for each in made.values())
    config = folder / "haproxy.cfg"
    config.write_text(f"""\
global
    stats socket {found.socket} mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
frontend http
    bind 127.0.0.1:{found.port}
{frontend}
    default_backend web
backend web
    balance roundrobin
    option redispatch
    option httpchk GET {CHECK}
    default-server check inter 100ms fall 2 rise 2 {options}
{servers}""")
    words = [program("haproxy"), "-db", "-f", str(config)]
    with running(words, found.port, folder / "log"):
        yield found


@contextmanager
def nginx(
    folder: Path, made: Mapping[str, Backend], http: str = "", server: str = ""
) -> Iterator[Balancer]:
    """nginx with one upstream ``web`` in a file of its own; ``http`` and ``server`` are more lines
    for those parts of its configuration."""
    found = Balancer(folder, free_port())
    lines = "".join(f"    server 127.0.0.1:{each.port} max_fails=0;  # {each.name}\n"
                    for each in made.values())
    found.config.write_text(f"# the fleet: server 127.0.0.1:1;\nupstream web {{\n{lines}}}\n")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""\
{user}
worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    include {found.config};
    {http}
    server {{ listen 127.0.0.1:{found.port}; {server}
              location / {{ proxy_pass http://web; }} }}
}}
""")
    words = [program("nginx"), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    with running(words, found.port, folder / "log"):
        yield found


@contextmanager
def apache(folder: Path, site: str, modules: Sequence[str]) -> Iterator[Balancer]:
    """Apache with one VirtualHost, in which ``site`` stands."""
    found = Balancer(folder, free_port())
    loaded = "".join(f"LoadModule {name}_module {_apache_module(name)}\n"
                     for name in ("mpm_event", "authz_core", *modules))
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    (folder / "apache.conf").write_text(f"""\
{loaded}
{user}
ServerName localhost
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
StartServers 1
Listen 127.0.0.1:{found.port}
# As Debian has it: what may be read is said for each folder.
<Directory />
    Require all denied
</Directory>
<VirtualHost *:{found.port}>
{site}
</VirtualHost>
""")
    words = [program("apache2"), "-D", "FOREGROUND", "-f", f"{folder}/apache.conf"]
    with running(words, found.port, folder / "log"):
        yield found


def _apache_module(name: str) -> Path:
    found = APACHE_MODULES / f"mod_{name}.so"
    if not found.exists():
        package = "libapache2-mod-wsgi-py3" if name == "wsgi" else "apache2"
        raise Missing(f"{found} is missing: install the package {package}")
    return found


class Later(threading.Thread):
    """One long request; ``answer`` is what it got."""

    def __init__(self, balancer: Balancer, seconds: float) -> None:
        super().__init__(daemon=True)
        self.balancer, self.seconds, self.answer = balancer, seconds, ""
        self.start()

    def run(self) -> None:
        try:
            self.answer = self.balancer.get(f"/slow/{self.seconds:g}")
        except (OSError, http.client.HTTPException) as error:
            self.answer = f"lost: {error}"


class Clients:
    """Requests all the time; ``lost`` is what went wrong with any."""

    def __init__(self, balancer: Balancer, number: int = 2) -> None:
        self.balancer = balancer
        self.lost: list[str] = []
        self.answers = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(number)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self) -> None:
        while not self.over.is_set():
            try:
                self.balancer.get()
                self.answers += 1
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(str(error))
            time.sleep(0.005)
