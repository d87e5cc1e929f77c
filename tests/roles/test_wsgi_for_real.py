"""The WSGI servers themselves, started by the launcher with the lines that we make.

Needs uv to fetch the servers; Apache's part needs Debian's apache2 and libapache2-mod-wsgi-py3 (or
the folder FABFLEET_APACHE, where these packages were unpacked).
"""

from __future__ import annotations

import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from roles.app import AppSettings
from roles.onhost import ship
from roles.wsgi import WsgiSettings
from roles.wsgi.manager import Systemd
from tests.migrations.matrix import Unable, python_of
from tests.roles.onhost.programs import make_current, put_release

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300), pytest.mark.xdist_group("wsgi")]

SITE = """\
import os, time
RELEASE = {release!r}
def application(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [(RELEASE + " " + os.environ["RELEASE_ID"]).encode()]
"""
# systemd's part: the socket is file descriptor 3, and the variables name this very process.
HAND_OVER = """\
import os, sys
os.dup2(int(sys.argv[1]), 3) if sys.argv[1] != "3" else os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
SERVERS: dict[str, dict[str, Any]] = {
    "gunicorn": {},
    "gunicorn-threads": {"threads": 4},
    "uwsgi": {"server": "uwsgi"},
    "uwsgi-threads": {"server": "uwsgi", "threads": 4},
    "granian": {"server": "granian"},
    "granian-threads": {"server": "granian", "threads": 4},
    "waitress": {"server": "waitress", "threads": 4},
}


@pytest.fixture(scope="session")
def venv() -> Path:
    try:
        wanted = ["gunicorn", "pyuwsgi", "granian", "waitress"]
        return python_of("wsgi-servers", wanted).parent.parent
    except Unable as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Site:
    """A deploy root with the releases r1 (current) and r2, and one server at a time."""

    def __init__(self, root: Path, venv: Path | None, **wsgi: Any) -> None:
        self.root, self.port = root, free_port()
        self.started: list[subprocess.Popen[bytes]] = []
        self.wsgi = WsgiSettings(application="site_of_ours:application",
                                 bind=f"127.0.0.1:{self.port}", **wsgi)
        (root / ".fabfleet").mkdir()
        (root / ".fabfleet" / "launch.py").write_bytes(ship.text("launch"))
        (root / "venvs").mkdir()
        if venv:
            (root / "venvs" / "v").symlink_to(venv)
        for name in ("r1", "r2"):
            tree = put_release(root, name, venv="v" if venv else None,
                               environment={"RELEASE_ID": name},
                               commands={"wsgi": self.wsgi.command})
            (tree / "site_of_ours.py").write_text(SITE.format(release=name))
        make_current(root, "r1")

    def start(self, listener: socket.socket | None = None) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-I", str(self.root / ".fabfleet" / "launch.py"), "wsgi"]
        handed: tuple[int, ...] = ()
        if listener:
            handed = (listener.fileno(),)
            line = [sys.executable, "-c", HAND_OVER, str(handed[0]), *line]
        with (self.root / "log").open("ab") as log:
            server = subprocess.Popen(line, stdout=log, stderr=log, cwd="/", pass_fds=handed)
        self.started.append(server)
        return server

    @property
    def stop_signal(self) -> signal.Signals:
        """The one that our unit names."""
        texts = Systemd(self.wsgi, AppSettings(name="shop"), "python3", "deploy").files.values()
        named = re.search(r"^KillSignal=(\w+)$", "\n".join(texts), re.MULTILINE)
        return signal.Signals[named.group(1)] if named else signal.SIGTERM

    def stop(self, server: subprocess.Popen[bytes]) -> int:
        server.send_signal(self.stop_signal)
        return server.wait(40)

    def ask(self, seconds: float = 0) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            connection.request("GET", f"/?{seconds}")
            answer = connection.getresponse()
            body = answer.read().decode()
            return body if answer.status == 200 else f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()

    def serves(self, *answers: str) -> None:
        until = time.monotonic() + 30
        while (said := self.ask()) not in answers:
            log = self.root / "log"
            text = log.read_text() if log.exists() else ""
            assert time.monotonic() < until, f"{said}\n{text[-2000:]}"
            time.sleep(0.05)


Make = Callable[..., Site]


@pytest.fixture
def make(tmp_path: Path, venv: Path) -> Iterator[Make]:
    """Makes a site; whatever it started is over when the test is."""
    made: list[Site] = []

    def of(**wsgi: Any) -> Site:
        made.append(Site(tmp_path, venv, **wsgi))
        return made[-1]

    yield of
    for server in (each for site in made for each in site.started):
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def asking(site: Site, clients: int = 8) -> Iterator[Counter[str]]:
    """What that many clients are answered, each in short requests one after the other."""
    answers: Counter[str] = Counter()
    over = threading.Event()

    def client() -> None:
        while not over.is_set():
            answers[said := site.ask(0.05)] += 1
            if said.startswith("Connection"):
                time.sleep(0.05)  # nobody asks a port that is closed as fast as it can say so

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for each in threads:
        each.start()
    try:
        yield answers
    finally:
        over.set()
        for each in threads:
            each.join()


def in_flight(site: Site, seconds: float, act: Callable[[], object]) -> list[str]:
    """The answers to two requests of so many seconds, while whose run something is done."""
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(site.ask(seconds))) for _ in range(2)]
    for each in threads:
        each.start()
    time.sleep(0.5)
    act()
    for each in threads:
        each.join()
    return answers


@pytest.mark.parametrize("name", SERVERS)
def test_the_unit_s_signal_lets_requests_finish(name: str, make: Make) -> None:
    site = make(**SERVERS[name])
    server = site.start()
    site.serves("r1 r1")
    ended: list[int] = []
    assert in_flight(site, 2, lambda: ended.append(site.stop(server))) == ["r1 r1"] * 2
    assert ended == [0]
    make_current(site.root, "r2")
    server = site.start()
    site.serves("r2 r2")
    assert site.stop(server) == 0


@pytest.mark.parametrize(("name", "named", "cut"), [
    ("waitress", signal.SIGTERM, ["RemoteDisconnected"] * 2),
    ("uwsgi", signal.SIGINT, ["RemoteDisconnected"] * 2),
])
def test_another_signal_would_not(
    name: str, named: signal.Signals, cut: list[str], make: Make
) -> None:
    site = make(**SERVERS[name])
    server = site.start()
    site.serves("r1 r1")
    assert in_flight(site, 2, lambda: server.send_signal(named)) == cut
    server.wait(20)


def test_waitress_waits_for_five_seconds_and_no_more(make: Make) -> None:
    site = make(**SERVERS["waitress"])
    server = site.start()
    site.serves("r1 r1")
    assert in_flight(site, 8, lambda: site.stop(server)) == ["RemoteDisconnected"] * 2


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn-threads", "uwsgi", "uwsgi-threads"])
def test_a_restart_on_systemd_s_socket_loses_nothing(
    name: str, make: Make
) -> None:
    site = make(**SERVERS[name], socket_activation=True)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", site.port))
        listener.listen(2048)
        server = site.start(listener)
        site.serves("r1 r1")
        with asking(site) as answers:
            for release in ("r2", "r1", "r2"):
                time.sleep(0.5)
                make_current(site.root, release)
                assert site.stop(server) == 0
                server = site.start(listener)
                site.serves(f"{release} {release}")
        assert site.stop(server) == 0
    assert set(answers) == {"r1 r1", "r2 r2"}


@pytest.mark.parametrize("name", SERVERS)
def test_a_plain_restart_loses_what_was_not_begun(
    name: str, make: Make
) -> None:
    """Connections are refused, those in the backlog reset; waitress drops what waits for a thread.

    How many that are depends on the machine: `-rP` shows it.
    """
    site = make(**SERVERS[name])
    server = site.start()
    site.serves("r1 r1")
    with asking(site) as answers:
        time.sleep(0.5)
        make_current(site.root, "r2")
        assert site.stop(server) == 0
        server = site.start()
        site.serves("r2 r2")
        time.sleep(0.3)
    assert site.stop(server) == 0
    print(name, dict(answers))
    served = {"r1 r1", "r2 r2"}
    lost = {"ConnectionRefusedError", "ConnectionResetError"}
    if name == "waitress":
        lost.add("RemoteDisconnected")
    assert served < set(answers) <= served | lost


@pytest.mark.parametrize("name", ["gunicorn", "uwsgi", "granian"])
def test_why_nothing_is_reloaded(name: str, make: Make) -> None:
    """HUP brings new workers, and they serve the old release."""
    site = make(**SERVERS[name])
    server = site.start()
    site.serves("r1 r1")
    make_current(site.root, "r2")
    server.send_signal(signal.SIGHUP)
    time.sleep(6)
    # uWSGI's wheel may not find itself again when it starts itself anew.
    allowed = {"r1 r1", "ConnectionRefusedError"} if name == "uwsgi" else {"r1 r1"}
    assert {site.ask() for _ in range(20)} <= allowed


# --- Apache -------------------------------------------------------------------------------

DEBIAN = Path(os.environ.get("FABFLEET_APACHE", "/"))
APACHE = DEBIAN / "usr/sbin/apache2"
MODULES = DEBIAN / "usr/lib/apache2/modules"
CONF = """\
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {log}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
User {user}
Group {user}
WSGISocketPrefix {folder}/wsgi
WSGIDaemonProcess shop user={user} group={user} processes=2 threads=4 shutdown-timeout=30
WSGIProcessGroup shop
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {root}/.fabfleet/launch.py
<Directory {root}/.fabfleet>
  <Files launch.py>
    Require all granted
  </Files>
</Directory>
"""


@pytest.fixture
def apache() -> Iterator[tuple[Site, subprocess.Popen[bytes]]]:
    if not APACHE.exists() or not (MODULES / "mod_wsgi.so").exists():
        pytest.skip("needs apache2 and libapache2-mod-wsgi-py3")
    # Apache's own user has to be let in, which pytest's folders do not.
    root = Path("/tmp", f"fabfleet-apache-{os.getpid()}")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o755)
    site = Site(root, None, server="mod_wsgi", method="reload")
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = root / "apache"
    folder.mkdir()
    conf = CONF.format(folder=folder, port=site.port, modules=MODULES, user=user, root=root,
                       log=root / "log").replace("Group nobody", "Group nogroup")
    conf = conf.replace("group=nobody", "group=nogroup")
    (folder / "conf").write_text(conf)
    server = subprocess.Popen([APACHE, "-f", folder / "conf", "-DFOREGROUND"])
    try:
        site.serves("r1 r1")
        yield site, server
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(root)


@pytest.mark.parametrize("method", ["reload", "touch"])
def test_apache_serves_the_new_release_and_loses_nothing(
    method: str, apache: tuple[Site, subprocess.Popen[bytes]]
) -> None:
    site, server = apache

    def renew() -> None:
        make_current(site.root, "r2")
        if method == "reload":
            server.send_signal(signal.SIGUSR1)
        else:
            (site.root / ".fabfleet" / "launch.py").touch()
        site.serves("r2 r2")

    assert in_flight(site, 2, renew) == ["r1 r1"] * 2
    with asking(site) as answers:
        for release in ("r1", "r2"):
            time.sleep(1)
            make_current(site.root, release)
            if method == "reload":
                server.send_signal(signal.SIGUSR1)
            else:
                (site.root / ".fabfleet" / "launch.py").touch()
            time.sleep(2)
            before = answers.copy()
            time.sleep(0.5)
            assert set(answers - before) == {f"{release} {release}"}
    assert set(answers) == {"r1 r1", "r2 r2"}


@pytest.mark.parametrize(("method", "answer"), [("reload", "status 500"), ("touch", "r1 r1")])
def test_how_long_apache_waits(
    method: str, answer: str, apache: tuple[Site, subprocess.Popen[bytes]]
) -> None:
    """graceful for 3 s, whatever is set; touch for the shutdown-timeout."""
    site, server = apache

    def renew() -> None:
        make_current(site.root, "r2")
        if method == "reload":
            server.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
        else:
            (site.root / ".fabfleet" / "launch.py").touch()
        site.serves("r2 r2")

    assert in_flight(site, 6, renew) == [answer] * 2
