"""A fleet of the lab as the tests use it: its own inventory, its own state, and ways to look at it
that do not go through Fabfleet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fabfile.lab import Lab, LabHost
from tests.lab import kill_at
from tests.sites import history

CHECKOUT = Path(__file__).resolve().parents[2]
ROOT = "/srv/shop"
KEPT = "/root/kept"
# Collects static files as soon as the host's /tmp/hold is gone; see Fleet.hold.
HELD_BACK = ["sh", "-c", "mkdir -p $STATIC_ROOT; while [ -e /tmp/hold ]; do sleep 0.05; done; "
                         "exec python manage.py collectstatic --noinput --verbosity 0"]
# Waits until a table named gate is there, and leaves a row for each time it was run.
GATE = """
import time

from django.db import migrations


def note(apps, what):
    apps.get_model("catalog", "AuditEntry").objects.create(what=what)


def wait_for_the_gate(apps, schema_editor):
    note(apps, "gate: waiting")
    with schema_editor.connection.cursor() as cursor:
        while True:
            cursor.execute("select to_regclass('gate')")
            if cursor.fetchone()[0]:
                break
            time.sleep(0.05)
    note(apps, "gate: passed")


class Migration(migrations.Migration):
    atomic = False
    dependencies = (("catalog", "0005_note_stock"),)
    stage = "pre_deploy"
    operations = (migrations.RunPython(wait_for_the_gate, migrations.RunPython.noop),)
"""
T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T], seconds: float = 20) -> T:
    """The first true answer of ``condition``; fails with ``what`` at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


class Fleet:
    """``web`` web hosts, a database and a proxy, which with ``edge`` has nginx, too; with
    ``apache`` the web hosts have that; with ``desk`` there is a host to work from (``desk.py``).
    ``number`` keeps labs of parallel runs apart."""

    def __init__(
        self, folder: Path, web: int, number: int, edge: bool = False, apache: bool = False,
        desk: bool = False,
    ) -> None:
        self.folder = folder
        self.env = f"t{number}"
        self.net = f"10.{90 + number}.0"
        self.web = [f"web{i}" for i in range(1, web + 1)]
        self.address = {name: f"{self.net}.{10 + i}" for i, name in enumerate(self.web, 1)}
        self.address |= {"db1": f"{self.net}.101", "proxy1": f"{self.net}.102"}
        server = ("web", "apache") if apache else ("web",)
        groups: dict[str, tuple[str, ...]] = dict.fromkeys(self.web, server)
        groups["db1"] = ("db", "queue")
        groups["proxy1"] = ("proxy", "edge") if edge else ("proxy",)
        if desk:
            self.address["desk1"] = f"{self.net}.103"
            groups["desk1"] = ("desk",)
        hosts = [LabHost(name, self.address[name], groups[name]) for name in groups]
        self.lab = Lab(self.env, hosts)
        self.site = folder / "site"
        self.state = folder / "state"
        self.inventory = folder / "inventories"
        self.started: list[subprocess.Popen[str]] = []

    # --- up and down ---------------------------------------------------------------------------

    def up(self) -> None:
        self.lab.up(lambda line: None)
        history.build(self.site)
        self.write_inventory()
        self.fab("hosts.setup", check=0)

    def write_inventory(self, **settings: Any) -> Path:
        """The inventory of this fleet; ``settings`` replace keys of a role's mapping, as in
        ``wsgi={"workers": 1}``, or take a variable away with None."""
        folder = self.inventory / self.env
        (folder / "group_vars").mkdir(parents=True, exist_ok=True)
        hosts = {
            "web": {"hosts": {name: {"ansible_host": self.address[name]} for name in self.web}},
            "db": {"hosts": {"db1": {"ansible_host": self.address["db1"]}}},
            "proxy": {"hosts": {"proxy1": {"ansible_host": self.address["proxy1"]}}},
        }
        variables: dict[str, Any] = {
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": str(self.lab.private_key),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self.lab.known_hosts} "
                                       f"-o GlobalKnownHostsFile=none -o IdentitiesOnly=yes",
            "app": {
                "name": "shop",
                "user": "shop",
                "env": {
                    "SECRET_KEY": "x" * 60,
                    "ALLOWED_HOSTS": "*",
                    "DATABASE_URL": f"postgres://shop:shop@{self.address['db1']}:5432/shop",
                    "HOST_NAME": "{{ inventory_hostname }}",
                },
                "urls": [f"http://{self.address['proxy1']}/"],
            },
            "release": {"repository": str(self.site), "ref": "v1"},
            "migrations": {"host": "web1"},
            "wsgi": {
                "application": "config.wsgi:application",
                "bind": "0.0.0.0:8000",
                "options": ["--no-control-socket"],
                "health": {"deadline": 10},
            },
        }
        for role, changes in settings.items():
            if isinstance(changes, dict):
                merged = {**variables.get(role, {}), **changes}
                variables[role] = {k: v for k, v in merged.items() if v is not None}
            elif changes is None:
                variables.pop(role, None)
            else:
                variables[role] = changes
        (folder / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False))
        (folder / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables, sort_keys=False))
        return folder

    def alone(self, host: str, **settings: dict[str, Any]) -> str:
        """A web host as an environment of its own, whose name it returns: with its own lock, but
        the same database. ``settings`` as for :meth:`write_inventory`."""
        source, folder = self.inventory / self.env, self.inventory / f"{self.env}-{host}"
        hosts = yaml.safe_load((source / "hosts.yml").read_text())
        variables = yaml.safe_load((source / "group_vars" / "all.yml").read_text())
        variables["migrations"] = {"host": host}
        for role, changes in settings.items():
            variables[role] = {**variables.get(role, {}), **changes}
        (folder / "group_vars").mkdir(parents=True, exist_ok=True)
        only = {**hosts, "web": {"hosts": {host: hosts["web"]["hosts"][host]}}}
        (folder / "hosts.yml").write_text(yaml.safe_dump(only))
        (folder / "group_vars" / "all.yml").write_text(yaml.safe_dump(variables))
        return folder.name

    # --- the tool ------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "FABFLEET_INVENTORY": str(self.inventory),
            "FABFLEET_ENV": self.env,
            "FABFLEET_STATE": str(self.state),
            "PYTHONPATH": str(CHECKOUT),
        }

    def start(
        self, *words: str, driver: str | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """``fab WORDS`` in the background; ``driver`` is a script to start instead of fab."""
        program = [driver] if driver else ["-m", "fabfile.program"]
        process = subprocess.Popen(
            [sys.executable, *program, *words], cwd=CHECKOUT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**self.environment, **(environment or {})}, start_new_session=True,
        )
        self.started.append(process)
        return process

    def end_started(self) -> None:
        """What a test began and did not end."""
        for process in self.started:
            with process:
                process.kill()
        self.started.clear()

    def fab(
        self, *words: str, check: int | None = None, timeout: float = 120, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """``fab WORDS`` to its end; ``check`` is the exit status it must have."""
        process = self.start(*words, **more)
        out, err = process.communicate(timeout=timeout)
        done = subprocess.CompletedProcess(words, process.returncode, out, err)
        if check is not None:
            assert done.returncode == check, f"{words}: exit {done.returncode}\n{out}\n{err}"
        return done

    def begin(self, *words: str, at: str) -> subprocess.Popen[str]:
        """``fab WORDS`` in the background, whose journal has the line ``at`` now; lines are named
        as in ``started/release.switch/web1`` or ``stage/roll``."""
        known = len(self.journals())
        process = self.start(*words)
        wait_for("the run has begun", lambda: len(self.journals()) > known, 60)
        wait_for(at, lambda: at in map(kill_at.name, self.journal()), 60)
        return process

    def release_id(self, *words: str) -> str:
        """What ``fab deploy WORDS`` would call its release."""
        plans = json.loads(self.fab("plan", "--json", *words, check=0).stdout)["plans"]
        return str(plans[0]["release"])

    def journals(self, env: str = "") -> list[Path]:
        return sorted((self.state / f"shop-{env or self.env}").glob("*.jsonl"))

    def journal(self, env: str = "") -> list[dict[str, Any]]:
        """The events of the newest run."""
        lines = self.journals(env)[-1].read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def lock_record(self) -> dict[str, Any]:
        """What stands in the lock's file on web1; {} where it is free."""
        found: dict[str, Any] = json.loads(self.on("web1", f"cat {ROOT}/.fabfleet/lock") or "{}")
        return found

    # --- the hosts, looked at without the tool --------------------------------------------------

    def on(self, host: str, line: str, check: bool = True) -> str:
        """A shell line as root inside the host, without SSH."""
        return self.lab.run(host, ["sh", "-c", line], check=check).stdout

    def sql(self, statement: str, database: str = "shop") -> list[list[str]]:
        """Rows of a query, straight from the database host."""
        words = ["runuser", "-u", "postgres", "--", "psql", "-qAt", "-F", "\t", "-d", database,
                 "-c", statement]
        out = self.lab.run("db1", words).stdout
        return [line.split("\t") for line in out.splitlines()]

    def dump(self) -> str:
        """The whole database as SQL; two dumps of the same content are equal."""
        words = ["runuser", "-u", "postgres", "--", "pg_dump", "shop"]
        out = self.lab.run("db1", words).stdout
        # A dump brackets itself with a random word.
        kept = (line for line in out.splitlines() if not line.startswith(("\\restrict", "\\unres")))
        return "\n".join(kept)

    def main_pid(self, host: str) -> int:
        """The process that systemd keeps as the service; 0 where there is none."""
        return int(self.on(host, "systemctl show -p MainPID --value shop-wsgi.service"))

    def main_pids(self) -> dict[str, int]:
        return {host: self.main_pid(host) for host in self.web}

    def currents(self) -> dict[str, str]:
        return {host: self.current(host) for host in self.web}

    def serving(self) -> dict[str, str]:
        """The release that each host's server names in its answer, or ""."""
        return {host: str(self.answer(host).get("release", "")) for host in self.web}

    def current(self, host: str) -> str:
        """The id of the release that is current on a host, or ""."""
        return self.on(host, f"readlink {ROOT}/current || true").strip().removeprefix("releases/")

    def answer(self, host: str, path: str = "/healthz", timeout: float = 3) -> dict[str, Any]:
        """The JSON that the host's own server answers; {} where it does not."""
        port = "" if host == "proxy1" else ":8000"
        try:
            with urllib.request.urlopen(
                f"http://{self.address[host]}{port}{path}", timeout=timeout
            ) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (OSError, ValueError, urllib.error.HTTPError):
            return {}

    def status_of(self, host: str, path: str, timeout: float = 3) -> int:
        """The HTTP status that a host answers, at the port where its visitors ask; 0 where it does
        not."""
        port = "" if host == "proxy1" else ":8000"
        try:
            with urllib.request.urlopen(
                f"http://{self.address[host]}{port}{path}", timeout=timeout
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, HTTPException):
            return 0

    def migrations(self) -> list[str]:
        """Applied migrations of the sample's own app, one entry per row."""
        if not self.sql("select to_regclass('django_migrations')")[0][0]:
            return []
        rows = self.sql("select name from django_migrations where app='catalog' order by id")
        return [row[0] for row in rows]

    def reset(self) -> None:
        """As after hosts.setup, but with the virtual environments and uv still there."""
        for host in self.web:
            self.on(host, f"systemctl stop shop-wsgi.service; systemctl reset-failed; cd {ROOT} && "
                          f"rm -rf current releases static && cd .fabfleet 2>/dev/null && "
                          f"rm -rf releases runs jobs history.jsonl lock freeze || true")
        self.reset_database()
        self.write_inventory()

    def reset_database(self, template: str = "template1") -> None:
        # By force: whoever was connected, as workers are, connects again in no time.
        self.sql("drop database if exists shop with (force)", "postgres")
        self.sql(f"create database shop owner shop template {template}", "postgres")

    # --- back to a known state, in a second ------------------------------------------------------

    def everywhere(self, act: Callable[[str], T]) -> dict[str, T]:
        """``act`` on every web host at once."""
        with ThreadPoolExecutor(len(self.web)) as pool:
            return dict(zip(self.web, pool.map(act, self.web), strict=True))

    def remember(self) -> None:
        """Keep hosts and database as they are now, for :meth:`recall`."""
        self.everywhere(lambda host: self.on(
            host, f"systemctl stop shop-wsgi.service && rsync -aH --delete --exclude=/venvs "
                  f"--exclude=/.fabfleet/tools {ROOT}/ {KEPT}/ && "
                  f"rm -rf {KEPT}/venvs && cp -al {ROOT}/venvs {KEPT}/venvs"))
        self.sql("drop database if exists shop_kept", "postgres")
        self.sql("create database shop_kept owner shop template shop", "postgres")
        self.recall()

    def recall(self) -> None:
        """Hosts and database as they were at :meth:`remember`, and all of them serving."""
        self.everywhere(lambda host: self.on(
            host, f"rm -f /tmp/hold; systemctl stop shop-wsgi.service; "
                  f"flock -w 60 {ROOT}/.fabfleet/busy true && "
                  f"rsync -aHc --delete --exclude=/venvs --exclude=/.fabfleet/tools "
                  f"{KEPT}/ {ROOT}/ && "
                  # A release of another story may have pruned them.
                  f"cp -aln {KEPT}/venvs {ROOT}/"))
        self.reset_database("shop_kept")
        self.write_inventory()
        self.everywhere(lambda host: self.on(host, "systemctl start shop-wsgi.service"))
        wait_for("every host serves through the proxy", lambda: self.behind_proxy() == {*self.web})

    def behind_proxy(self) -> set[str]:
        """The hosts that the proxy sends requests to now; it takes them in turn, mostly."""
        return {str(self.answer("proxy1").get("host")) for _ in range(3 * len(self.web))}

    def commit(self, tag: str, files: Mapping[str, str], parent: str = "v2") -> None:
        """A commit of the site on top of ``parent`` in which ``files`` are as given here."""
        committer = "Test <test@fabfleet.invalid> 1770000000 +0000"
        lines = [f"commit refs/tags/{tag}", f"committer {committer}",
                 f"data {len(tag)}", tag, f"from refs/tags/{parent}^0"]
        for path, content in files.items():
            size = len(content.encode())
            lines += [f"M 100644 inline {path}", f"data {size}", content]
        stream = "\n".join([*lines, "done", ""]).encode()
        history.git(self.site, "fast-import", "--quiet", "--force", "--done", stdin=stream)

    # --- a migration that lasts as long as a test wants ------------------------------------------

    def add_gate(self) -> None:
        """The tag ``gate``: v2 with one more migration, which waits for :meth:`open_gate`."""
        self.commit("gate", {"catalog/migrations/0006_gate.py": GATE})

    def open_gate(self) -> None:
        self.sql("create table gate()")

    def at_gate(self) -> list[str]:
        """What that migration has noted: one ``gate: waiting`` for each time it was run."""
        if not self.sql("select to_regclass('catalog_auditentry')")[0][0]:
            return []
        rows = self.sql("select what from catalog_auditentry where what like 'gate:%' order by id")
        return [row[0] for row in rows]

    def hold(self, *hosts: str) -> None:
        """From now on static files are not collected there, until :meth:`let_go`."""
        self.write_inventory(static={"command": HELD_BACK})
        for host in hosts:
            self.on(host, "touch /tmp/hold")

    def let_go(self, *hosts: str) -> None:
        for host in hosts:
            self.on(host, "rm -f /tmp/hold")

    # --- processes -------------------------------------------------------------------------------

    def pids(self, host: str, pattern: str) -> list[int]:
        """The processes of a host, by its own numbers, whose command line matches."""
        # No shell: a pipe's half that is not yet what it shall be would match its own line.
        return self._pgrep(host, "-f", "--", pattern)

    def services(self, host: str, pattern: str) -> list[int]:
        """Those that systemd itself started: what they fork looks like them until it is itself."""
        return self._pgrep(host, "-P", "1", "-f", "--", pattern)

    def _pgrep(self, host: str, *words: str) -> list[int]:
        found = self.lab.run(host, ["pgrep", *words], check=False)
        assert found.returncode in (0, 1), found.stderr
        return [int(pid) for pid in found.stdout.split()]

    def working(self, host: str) -> list[str]:
        """What runs as the user who deploys, but for the connections themselves."""
        found = self.on(host, "pgrep -a -u deploy || true").splitlines()
        return [line for line in found if " sshd: " not in line and "systemd" not in line
                and "(sd-pam)" not in line]

    def until_quiet(self) -> None:
        """Wait until no command of a dead run works on any host."""
        wait_for("all hosts are quiet", lambda: not any(map(self.working, self.web)), 60)

    @contextmanager
    def sampled(
        self, look: Callable[[], T], every: float = 0.05
    ) -> Iterator[list[tuple[float, T]]]:
        """(time, answer) of ``look`` all the while, from a thread of its own."""
        samples: list[tuple[float, T]] = []
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(every):
                samples.append((time.monotonic(), look()))

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            yield samples
        finally:
            stop.set()
            thread.join()
