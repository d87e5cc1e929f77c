"""The WSGI servers: whole command lines, unit files and rules, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fabfile.environment import Environment
from fabfile.preparation import arguments as setup_arguments
from fabfile.strategies.preflight import problems
from inventories.errors import InventoryError
from roles.role import Target
from roles.wsgi import Wsgi, WsgiSettings
from roles.wsgi.manager import Systemd, manager_of
from roles.wsgi.servers import SERVERS
from tests.fabfile.fleets import UNIT, fresh, make_fleet, one_target, open_fleet, ready, told

APP = "config.wsgi:application"
MOD_WSGI = {"server": "mod_wsgi", "method": "reload"}
ACTIVATED = {"socket_activation": True}
SOCKET = "shop-wsgi.socket"
BOTH = {UNIT: "active", SOCKET: "active"}


def units_of(target: Target) -> Systemd:
    found = manager_of(target)
    assert isinstance(found, Systemd)
    return found


def sites(folder: Path, **wsgi: Any) -> Environment:
    return open_fleet(folder, ["web1"], wsgi=wsgi)


# --- command lines ------------------------------------------------------------------------

GRACEFUL = "unix_signal:15 gracefully_kill_them_all"
CLOSES = ("--add-header", "Connection: close")
LINES: Mapping[str, tuple[Mapping[str, Any], list[str]]] = {
    "gunicorn": ({}, [
        "gunicorn", "--bind", "127.0.0.1:8000", "--workers", "2", "--threads", "1",
        "--timeout", "30", "--graceful-timeout", "30", APP,
    ]),
    "gunicorn, all settings": ({
        "bind": "/run/shop/wsgi.sock", "workers": 3, "threads": 8, "timeout": 0,
        "graceful_timeout": 5, "options": ["--access-logformat", "it's $5 %(h)s"],
    }, [
        "gunicorn", "--bind", "unix:/run/shop/wsgi.sock", "--workers", "3", "--threads", "8",
        "--timeout", "0", "--graceful-timeout", "5", "--access-logformat", "it's $5 %(h)s", APP,
    ]),
    "uwsgi": ({"server": "uwsgi"}, [
        "uwsgi", "--master", *CLOSES, "--http-socket", "127.0.0.1:8000", "--processes", "2",
        "--threads", "1", "--enable-threads", "--lazy-apps", "--harakiri", "30",
        "--worker-reload-mercy", "30", "--hook-master-start", GRACEFUL, "--module", APP,
    ]),
    "uwsgi, all settings": ({
        "server": "uwsgi", "bind": "/run/shop/wsgi.sock", "workers": 3, "threads": 8, "timeout": 0,
        "graceful_timeout": 5, "options": ["--buffer-size", "32768"],
    }, [
        "uwsgi", "--master", *CLOSES, "--http-socket", "/run/shop/wsgi.sock", "--chmod-socket=666",
        "--processes", "3", "--threads", "8", "--enable-threads", "--lazy-apps",
        "--worker-reload-mercy", "5", "--hook-master-start", GRACEFUL,
        "--buffer-size", "32768", "--module", APP,
    ]),
    "uwsgi on systemd's socket": ({"server": "uwsgi", "bind": "*:80", **ACTIVATED}, [
        "uwsgi", "--master", *CLOSES, "--http-socket", "0.0.0.0:80", "--protocol", "http",
        "--processes", "2", "--threads", "1", "--enable-threads", "--lazy-apps", "--harakiri", "30",
        "--worker-reload-mercy", "30", "--hook-master-start", GRACEFUL, "--module", APP,
    ]),
    "granian": ({"server": "granian"}, [
        "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "8000",
        "--workers", "2", "--blocking-threads", "1", "--workers-kill-timeout", "30", APP,
    ]),
    "granian, all settings": ({
        "server": "granian", "bind": "/run/shop/wsgi.sock", "workers": 3, "threads": 8,
        "graceful_timeout": 0, "options": ["--no-ws"],
    }, [
        "granian", "--interface", "wsgi", "--uds", "/run/shop/wsgi.sock", "--uds-permissions",
        "666", "--workers", "3", "--blocking-threads", "8", "--workers-kill-timeout", "1",
        "--no-ws", APP,
    ]),
    "granian on every address": ({"server": "granian", "bind": "[::]:80"}, [
        "granian", "--interface", "wsgi", "--host", "::", "--port", "80",
        "--workers", "2", "--blocking-threads", "1", "--workers-kill-timeout", "30", APP,
    ]),
    "waitress": ({"server": "waitress"}, [
        "waitress-serve", "--listen", "127.0.0.1:8000", "--threads", "1", APP,
    ]),
    "waitress, all settings": ({
        "server": "waitress", "bind": "/run/shop/wsgi.sock", "threads": 8,
        "options": ["--channel-timeout", "60"],
    }, [
        "waitress-serve", "--unix-socket", "/run/shop/wsgi.sock", "--unix-socket-perms", "666",
        "--threads", "8", "--channel-timeout", "60", APP,
    ]),
    "mod_wsgi": (MOD_WSGI, ["mod_wsgi", APP]),
}


@pytest.mark.parametrize(("wsgi", "line"), LINES.values(), ids=list(LINES))
def test_the_command_line(tmp_path: Path, wsgi: Mapping[str, Any], line: list[str]) -> None:
    assert one_target(sites(tmp_path, **wsgi)).runtime["commands"]["wsgi"] == line


# --- units and rules ----------------------------------------------------------------------


def unit(kind: str, more: str = "", after: str = "") -> str:
    return f"""\
# Written by `fab hosts.setup`. It starts whatever release is current; a deploy never changes it.
[Unit]
Description=shop WSGI server
After=network-online.target
Wants=network-online.target
{after}StartLimitIntervalSec=0

[Service]
{kind}
User=deploy
ExecStart=/usr/bin/python3 -I /srv/shop/.fabfleet/launch.py wsgi
{more}TimeoutStartSec=90
TimeoutStopSec=35
Restart=always
RestartSec=1
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""


NOTIFY, EXEC = "Type=notify\nNotifyAccess=main", "Type=exec"
ON_ITS_SOCKET = "After=shop-wsgi.socket\nRequires=shop-wsgi.socket\n"
RUNTIME = "RuntimeDirectory=shop\n"
IN_RUN = {"bind": "/run/shop/wsgi.sock"}
MIXED = "KillMode=mixed\n"
UNITS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "gunicorn": ({}, unit(NOTIFY, MIXED)),
    "gunicorn on a path": (IN_RUN, unit(NOTIFY, RUNTIME + MIXED)),
    "gunicorn on systemd's socket": (ACTIVATED, unit(NOTIFY, MIXED, ON_ITS_SOCKET)),
    # systemd would remove the socket with the service's folder.
    "gunicorn on systemd's path": ({**ACTIVATED, **IN_RUN}, unit(NOTIFY, MIXED, ON_ITS_SOCKET)),
    "uwsgi": ({"server": "uwsgi"}, unit(NOTIFY, MIXED)),
    "granian": ({"server": "granian"}, unit(EXEC, MIXED)),
    "waitress": ({"server": "waitress"}, unit(EXEC, MIXED + "KillSignal=SIGINT\n")),
}


@pytest.mark.parametrize(("wsgi", "text"), UNITS.values(), ids=list(UNITS))
def test_the_unit(tmp_path: Path, wsgi: Mapping[str, Any], text: str) -> None:
    files = units_of(one_target(sites(tmp_path, **wsgi))).files
    assert files[f"/etc/systemd/system/{UNIT}"] == text


@pytest.mark.parametrize(("bind", "listens"), [
    ("127.0.0.1:8000", "ListenStream=127.0.0.1:8000\nBacklog=2048\n"),
    ("*:8000", "ListenStream=0.0.0.0:8000\nBacklog=2048\n"),
    ("[::]:8000", "ListenStream=[::]:8000\nBacklog=2048\n"),
    ("/run/shop/wsgi.sock", "ListenStream=/run/shop/wsgi.sock\nBacklog=2048\n"),
])
def test_the_socket(tmp_path: Path, bind: str, listens: str) -> None:
    files = units_of(one_target(sites(tmp_path, bind=bind, **ACTIVATED))).files
    assert files[f"/etc/systemd/system/{SOCKET}"] == f"""\
# Written by `fab hosts.setup`. systemd listens here, so that connections wait during a restart.
[Unit]
Description=shop WSGI server's socket
ConditionPathExists=/srv/shop/current

[Socket]
{listens}TriggerLimitIntervalSec=0

[Install]
WantedBy=sockets.target
"""


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("wsgi", [each for each, _ in UNITS.values()], ids=list(UNITS))
def test_systemd_understands_them(tmp_path: Path, wsgi: Mapping[str, Any]) -> None:
    paths = []
    for path, text in units_of(one_target(sites(tmp_path, **wsgi))).files.items():
        if text:
            paths.append(tmp_path / Path(path).name)
            paths[-1].write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True,
                          text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "shop-wsgi" in line or "/prod/" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def setup(tmp_path: Path, **wsgi: Any) -> Mapping[str, Any]:
    environment = open_fleet(tmp_path, ["web1"], own={"web1": {"ansible_user": "deploy"}},
                             app={"user": "www"}, wsgi=wsgi)
    return setup_arguments(environment, environment.hosts[0])


def rules(*words: str) -> str:
    lines = "".join(f"deploy ALL=(root) NOPASSWD: /usr/bin/systemctl {each}\n" for each in words)
    return f"""\
# Written by `fab hosts.setup`: what deploy may do for shop, and nothing more.
Defaults:deploy !requiretty
{lines}# deploy writes the code that www runs, so this gives it nothing new.
deploy ALL=(www) NOPASSWD: ALL
"""


SERVICE_RULES = rules(f"start {UNIT}", f"stop {UNIT}", f"restart {UNIT}")


@pytest.mark.parametrize(("wsgi", "text"), [
    ({}, SERVICE_RULES),
    ({"server": "waitress"}, SERVICE_RULES),
    (ACTIVATED, rules(f"start {UNIT}", f"stop {SOCKET} {UNIT}", f"restart {UNIT}")),
    (MOD_WSGI, rules("start apache2.service", "stop apache2.service", "reload apache2.service")),
    ({**MOD_WSGI, "method": "touch", "unit": "httpd.service"},
     rules("start httpd.service", "stop httpd.service")),
    ({"manager": "supervisor"}, rules()),
])
def test_the_sudoers_rules(tmp_path: Path, wsgi: Mapping[str, Any], text: str) -> None:
    assert setup(tmp_path, **wsgi)["sudoers"] == ["/etc/sudoers.d/fabfleet-shop", text]


def test_setup_removes_a_socket_that_is_not_wanted_any_more(tmp_path: Path) -> None:
    service, socket = (f"/etc/systemd/system/{each}" for each in (UNIT, SOCKET))
    plain, activated = setup(tmp_path), setup(tmp_path, **ACTIVATED)
    assert (set(plain["units"]), plain["gone"]) == ({service}, [socket])
    assert (set(activated["units"]), activated["gone"]) == ({service, socket}, [])
    apache = setup(tmp_path, **MOD_WSGI)
    assert (apache["units"], apache["gone"]) == ({}, [])


# --- what hosts are told ------------------------------------------------------------------


def first_lines(target: Target) -> dict[str, str]:
    return {moment: told(getattr(Wsgi(), moment)(target))[0].partition(": ")[2]
            for moment in ("stop", "start", "restart")}


SUDO = "sudo -n /usr/bin/systemctl"


@pytest.mark.parametrize(("wsgi", "lines"), [
    (ACTIVATED, {"stop": f"{SUDO} stop {SOCKET} {UNIT}", "start": f"{SUDO} start {UNIT}",
                 "restart": f"{SUDO} restart {UNIT}"}),
    (MOD_WSGI, {"stop": f"{SUDO} stop apache2.service", "start": f"{SUDO} start apache2.service",
                "restart": f"{SUDO} reload apache2.service"}),
    ({**MOD_WSGI, "method": "touch"},
     {"stop": f"{SUDO} stop apache2.service", "start": f"{SUDO} start apache2.service",
      "restart": "touch /srv/shop/.fabfleet/launch.py"}),
])
def test_what_the_host_is_told(
    tmp_path: Path, wsgi: Mapping[str, Any], lines: Mapping[str, str]
) -> None:
    assert first_lines(one_target(sites(tmp_path, **wsgi))) == lines


def test_supervisor_is_told_the_server_s_own_signal(tmp_path: Path) -> None:
    wsgi = {"server": "waitress", "manager": "supervisor"}
    line = first_lines(one_target(sites(tmp_path, **wsgi)))["restart"]
    assert '"stop_signal": "INT"' in line


@pytest.mark.parametrize("server", SERVERS)
def test_the_application_is_imported_before_anything_that_serves_is_touched(
    tmp_path: Path, server: str
) -> None:
    """In a process of its own, by a step that judges the release."""
    wsgi = {"server": server, "method": SERVERS[server].method}
    target = one_target(sites(tmp_path, **wsgi))
    (step,) = Wsgi().stage(target)
    program = "null" if server == "mod_wsgi" else f'"{SERVERS[server].command(WsgiSettings())[0]}"'
    assert step.judges
    assert told([step]) == [
        f"wsgi.check: python3 -I /srv/shop/.fabfleet/launch.py --release {target.release.id} -- "
        'python check.py {"application": "config.wsgi:application", '
        f'"arguments": ["--deploy", "--fail-level", "ERROR"], "server": {program}}}'
    ]


# --- what speaks against a deploy ---------------------------------------------------------


def against(environment: Environment, **facts: Any) -> list[str]:
    return problems(make_fleet(environment, ready("web1", **facts)))


def test_a_socket_that_is_missing_or_another_one(tmp_path: Path) -> None:
    environment = sites(tmp_path, **ACTIVATED)
    anew = "fab hosts.setup --env=prod --hosts=web1"
    changed = ("is not what these settings make of it; somebody changed it, or the settings "
               f"changed. Write it anew: {anew}")
    assert against(environment, services=BOTH) == []
    assert against(environment, services={**BOTH, SOCKET: "missing"}) == [
        f"web1: the unit {SOCKET} is not installed; prepare the host once as root: {anew}"]
    assert against(environment, services={**BOTH, SOCKET: "missing"}, files={"x": "y"}) == [
        f"web1: the unit {SOCKET} is not installed; prepare the host once as root: {anew}",
        f"web1: /etc/systemd/system/{UNIT} is not installed; prepare the host once as root: {anew}"]
    left = one_target(environment).facts.files
    plain = sites(tmp_path)
    assert against(plain, files=left) == [
        f"web1: /etc/systemd/system/{UNIT} {changed}",
        f"web1: /etc/systemd/system/{SOCKET} must not be there with these settings; remove it, and "
        f"stop what it started: {anew}"]


def test_a_host_without_apache(tmp_path: Path) -> None:
    environment = sites(tmp_path, **MOD_WSGI)
    assert against(environment, services={"apache2.service": "active"}) == []
    assert problems(make_fleet(environment, fresh("web1", services={
        "apache2.service": "missing"}))) == [
        "web1: the unit apache2.service is not on this host; install Apache and mod_wsgi there, as "
        "docs/wsgi.md shows"]


# --- what is refused ----------------------------------------------------------------------

OLD_CODE = ("its first process keeps the folder, the environment and the packages of the release "
            "that it was started with, so that a reload would serve the old code")
REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "gunicorn reloads": (
        {"method": "reload"}, f"method: expected restart for gunicorn: {OLD_CODE}; with "
        "socket_activation a restart refuses no connection, got 'reload'"),
    "uwsgi reloads": (
        {"server": "uwsgi", "method": "reload"}, f"method: expected restart for uwsgi: {OLD_CODE}; "
        "with socket_activation a restart refuses no connection, got 'reload'"),
    "granian reloads": (
        {"server": "granian", "method": "reload"}, f"method: expected restart for granian: "
        f"{OLD_CODE}; a restart lets the requests in flight finish, got 'reload'"),
    "waitress reloads": (
        {"server": "waitress", "method": "reload"}, f"method: expected restart for waitress: "
        f"{OLD_CODE}; a restart lets the requests in flight finish, got 'reload'"),
    "gunicorn is touched": (
        {"method": "touch"}, "method: expected restart: touch is for mod_wsgi, and gunicorn would "
        "not notice it, got 'touch'"),
    "Apache restarts": (
        {"server": "mod_wsgi"}, "method: expected reload (Apache's graceful, which ends requests "
        "that take longer than 3 s) or touch (which waits for Apache's shutdown-timeout) for "
        "mod_wsgi, as a restart of Apache refuses connections"),
    "die-on-term": (
        {"server": "uwsgi", "options": ["--die-on-term"]}, "options: expected no --die-on-term: it "
        "drops the requests in flight; leave it out, as TERM lets them finish already"),
    "need-app": (
        {"server": "uwsgi", "options": ["--need-app=1"]}, "options: expected no --need-app: one "
        "worker that cannot import the application would end all of them; leave it out, as the "
        "application is imported before the old code stops"),
    "daemons": (
        {"options": ["--daemon"]}, "options: expected no --daemon: the service's first process has "
        "to stay, or nobody knows when it ends; leave it out"),
    "granian's timeout": (
        {"server": "granian", "timeout": 9}, "timeout: expected nothing here: granian has no such "
        "limit, got 9"),
    "waitress's workers": (
        {"server": "waitress", "workers": 2}, "workers: expected nothing here: waitress is one "
        "process; set threads instead, got 2"),
    "waitress's graceful_timeout": (
        {"server": "waitress", "graceful_timeout": 60}, "graceful_timeout: expected nothing here: "
        "waitress itself ends what runs for more than 5 s after it is told to stop; take another "
        "server for longer requests, got 60"),
    "Apache's workers": (
        {**MOD_WSGI, "workers": 2}, "workers: expected nothing here: it belongs into Apache's "
        "configuration, as docs/wsgi.md shows, got 2"),
    "Apache under supervisor": (
        {**MOD_WSGI, "manager": "supervisor"}, "manager: expected systemd for mod_wsgi, as Apache "
        "is the service, got 'supervisor'"),
    "a unit that is ours": (
        {"unit": "shop.service"}, "unit: expected nothing here: only mod_wsgi runs in a unit that "
        "is not ours, got 'shop.service'"),
    "no unit": (
        {**MOD_WSGI, "unit": "apache2 *"}, "unit: expected the name of a service, as in "
        "apache2.service, got 'apache2 *'"),
    "a function": (
        {"server": "granian", "application": "config:make()"}, "application: expected module:name, "
        "as only gunicorn calls a function for it, got 'config:make()'"),
    "granian's socket": (
        {"server": "granian", **ACTIVATED}, "socket_activation: expected false: granian takes no "
        "socket from systemd; gunicorn and uwsgi do, got True"),
    "supervisor's socket": (
        {"manager": "supervisor", **ACTIVATED}, "socket_activation: expected false: supervisor "
        "opens no sockets; systemd does, got True"),
    "a socket on a name": (
        {"bind": "localhost:8000", **ACTIVATED}, "socket_activation: expected false: systemd "
        "listens on IP addresses only, so give wsgi.bind one, got True"),
}


@pytest.mark.parametrize(("wsgi", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_refused(tmp_path: Path, wsgi: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InventoryError) as error:
        sites(tmp_path, **wsgi)
    where = f"{tmp_path}/prod/hosts.yml: web.vars.wsgi"
    assert str(error.value).removeprefix(where).lstrip(" .:") == message
