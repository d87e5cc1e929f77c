"""The WSGI servers: how each is started, how it is told to stop, and what it must not be told.

Whatever is said here of signals was measured (docs/wsgi.md). All but Apache are started by
``launch.py``, so their first process holds the folder, the environment and the packages of one
release for as long as it lives. Nothing that such a process forks can serve another release, and so
none of them is reloaded: new code comes with a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roles.wsgi import WsgiSettings

OLD_CODE = ("its first process keeps the folder, the environment and the packages of the release "
            "that it was started with, so that a reload would serve the old code")
NO_RESTART = ("expected reload (Apache's graceful, which ends requests that take longer than 3 s) "
              "or touch (which waits for Apache's shutdown-timeout) for mod_wsgi, as a restart of "
              "Apache refuses connections")
APACHE = "belongs into Apache's configuration, as docs/wsgi.md shows"


@dataclass(frozen=True)
class Server:
    """``lacks`` are settings that it has no option for, with the remedy; ``harmful`` are options
    that would break a promise. ``notifies``: it tells systemd when it listens. ``takes_socket``: it
    serves on a socket that systemd opened."""

    command: Callable[[WsgiSettings], list[str]]
    method: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    harmful: Mapping[str, str] = field(default_factory=dict)
    notifies: bool = False
    takes_socket: bool = False
    stop_signal: str = "TERM"

    def refused_option(self, options: list[str]) -> str:
        """Why these options cannot be, or nothing."""
        for option in options:
            name = option.partition("=")[0]
            if name in self.harmful:
                return f"expected no {name}: {self.harmful[name]}"
        return ""


def gunicorn(wsgi: WsgiSettings) -> list[str]:
    bind = f"unix:{wsgi.bind}" if wsgi.socket_path else wsgi.bind
    return [
        "gunicorn", "--bind", bind, "--workers", str(wsgi.workers),
        "--threads", str(wsgi.threads), "--timeout", str(wsgi.timeout),
        "--graceful-timeout", str(wsgi.graceful_timeout), *wsgi.options, wsgi.application,
    ]


def uwsgi(wsgi: WsgiSettings) -> list[str]:
    # By itself TERM means to load everything anew at once, and die-on-term to drop every request.
    # It closes every connection and does not say so, which a proxy that reuses them trips over.
    words = ["uwsgi", "--master", "--add-header", "Connection: close",
             "--http-socket", wsgi.address]
    if wsgi.socket_activation:
        words += ["--protocol", "http"]  # or it takes systemd's socket for one of its own protocol
    elif wsgi.socket_path:
        words += ["--chmod-socket=666"]
    words += ["--processes", str(wsgi.workers), "--threads", str(wsgi.threads),
              "--enable-threads", "--lazy-apps"]
    if wsgi.timeout:
        words += ["--harakiri", str(wsgi.timeout)]
    return [
        *words, "--worker-reload-mercy", str(wsgi.graceful_timeout),
        "--hook-master-start", "unix_signal:15 gracefully_kill_them_all",
        *wsgi.options, "--module", wsgi.application,
    ]


def granian(wsgi: WsgiSettings) -> list[str]:
    if wsgi.socket_path:
        where = ["--uds", wsgi.bind, "--uds-permissions", "666"]
    else:
        host, _, port = wsgi.address.rpartition(":")
        where = ["--host", host.strip("[]"), "--port", port]
    return [
        "granian", "--interface", "wsgi", *where, "--workers", str(wsgi.workers),
        "--blocking-threads", str(wsgi.threads),
        "--workers-kill-timeout", str(max(1, wsgi.graceful_timeout)),
        *wsgi.options, wsgi.application,
    ]


def waitress(wsgi: WsgiSettings) -> list[str]:
    where = ["--listen", wsgi.address]
    if wsgi.socket_path:
        where = ["--unix-socket", wsgi.bind, "--unix-socket-perms", "666"]
    return ["waitress-serve", *where, "--threads", str(wsgi.threads), *wsgi.options,
            wsgi.application]


def mod_wsgi(wsgi: WsgiSettings) -> list[str]:
    """Nothing is started: ``launch.py``, as Apache's WSGI script, looks the application up here."""
    return ["mod_wsgi", wsgi.application]


DETACHED = "the service's first process has to stay, or nobody knows when it ends; leave it out"

SERVERS: Mapping[str, Server] = {
    "gunicorn": Server(
        gunicorn, "restart", notifies=True, takes_socket=True,
        harmful={"--daemon": DETACHED, "-D": DETACHED},
    ),
    "uwsgi": Server(
        uwsgi, "restart", notifies=True, takes_socket=True,
        harmful={
            "--die-on-term": "it drops the requests in flight; leave it out, as TERM lets them "
                             "finish already",
            "--need-app": "one worker that cannot import the application would end all of them; "
                          "leave it out, as the application is imported before the old code stops",
            "--daemonize": DETACHED, "-d": DETACHED, "--daemonize2": DETACHED,
        },
    ),
    "granian": Server(
        granian, "restart",
        lacks={"timeout": "expected nothing here: granian has no such limit"},
    ),
    "waitress": Server(
        waitress, "restart", stop_signal="INT",
        lacks={
            "workers": "expected nothing here: waitress is one process; set threads instead",
            "timeout": "expected nothing here: waitress has no such limit",
            "graceful_timeout": "expected nothing here: waitress itself ends what runs for more "
                                "than 5 s after it is told to stop; take another server for longer "
                                "requests",
        },
    ),
    "mod_wsgi": Server(
        mod_wsgi, "reload",
        lacks=dict.fromkeys(("workers", "threads", "timeout", "graceful_timeout", "options"),
                            f"expected nothing here: it {APACHE}"),
    ),
}


def refused_method(server: str, method: str) -> str:
    """Why new code cannot come to this server in this way, or nothing."""
    if method == "beside":
        return ("expected reload or touch for mod_wsgi: Apache is one service, of which no second "
                "could start beside it" if server == "mod_wsgi" else "")
    if server == "mod_wsgi" or method == "restart":
        return ""
    if method == "touch":
        return f"expected restart: touch is for mod_wsgi, and {server} would not notice it"
    instead = ("with socket_activation a restart refuses no connection"
               if SERVERS[server].takes_socket else "a restart lets the requests in flight finish")
    return f"expected restart for {server}: {OLD_CODE}; {instead}"
