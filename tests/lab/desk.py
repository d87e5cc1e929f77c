"""A host of the lab from which somebody works: with systemd, this checkout and a way to the others.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

from fabfile.engine.cache import cache_folder
from tests.lab.fleet import CHECKOUT, Fleet, wait_for

HOME = "/opt/desk"
NAME = "desk1"
# Takes notices, one a line.
LISTENER = """
import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/opt/desk/notices", "ab") as file:
            file.write(body + b"\\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


http.server.HTTPServer(("127.0.0.1", 9000), Handler).serve_forever()
"""
LISTENS = """[Service]
ExecStart=/usr/bin/python3 /opt/desk/listener.py
[Install]
WantedBy=multi-user.target
"""


# Big, and nothing that a deploy needs.
UNUSED = shutil.ignore_patterns("__pycache__", "mypy*", "botocore*", "ansible", "moto", "ruff*")


@dataclass(frozen=True)
class Desk:
    fleet: Fleet

    # --- furnishing ------------------------------------------------------------------------------

    def furnish(self, **settings: Any) -> None:
        """All that it needs to deploy; ``settings`` as for the fleet's inventory."""
        fleet, folder = self.fleet, self._inside(HOME)
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("fabfile", "roles", "inventories"):
            self._copy(CHECKOUT / part, f"checkout/{part}")
        self._copy(Path(sysconfig.get_paths()["purelib"]), "packages")
        for part in ("wheels", "uv"):
            self._copy(cache_folder() / part, f"cache/{part}")
        self.update_site()
        for name, path in (("key", fleet.lab.private_key), ("known_hosts", fleet.lab.known_hosts)):
            shutil.copy2(path, folder / name)
        shutil.copy2(Path(sys.executable).parent / "uv", self._inside("/usr/bin/uv"))
        fleet.write_inventory(
            release={"repository": f"{HOME}/site"},
            ansible_ssh_private_key_file=f"{HOME}/key",
            ansible_ssh_common_args=f"-F none -o UserKnownHostsFile={HOME}/known_hosts "
                                    f"-o GlobalKnownHostsFile=none -o IdentitiesOnly=yes",
            notifications={"webhook": {"url": {"file": f"{HOME}/hook"}}}, **settings)
        self._copy(fleet.inventory, "inventories")
        fleet.write_inventory(**settings)
        (folder / "hook").write_text("http://127.0.0.1:9000/")
        (folder / "notices").touch()
        (folder / "listener.py").write_text(LISTENER)
        (self._inside("/etc/systemd/system") / "listener.service").write_text(LISTENS)
        self.on("systemctl daemon-reload; systemctl enable -q --now listener.service; "
                f"chown -R root: {HOME}")

    def update_site(self) -> None:
        """What was committed since."""
        shutil.rmtree(self._inside(f"{HOME}/site"), ignore_errors=True)
        self._copy(self.fleet.site, "site")

    def _copy(self, source: Path, target: str) -> None:
        shutil.copytree(source, self._inside(f"{HOME}/{target}"), symlinks=True, ignore=UNUSED)

    def _inside(self, path: str) -> Path:
        machine = self.fleet.lab._named(NAME)
        return Path(f"/proc/{machine.first_pid()}/root{path}")

    @property
    def settings(self) -> str:
        """The file there with everybody's settings."""
        return f"{HOME}/inventories/{self.fleet.env}/group_vars/all.yml"

    # --- working there -------------------------------------------------------------

    def on(self, line: str, check: bool = True) -> str:
        return self.fleet.on(NAME, line, check)

    def python(self, *words: str, check: int = 0) -> subprocess.CompletedProcess[str]:
        """A module of ours; ``check`` is the exit status that it must have."""
        line = (f"cd {HOME} && exec env PYTHONPATH={HOME}/checkout:{HOME}/packages "
                f"FABFLEET_STATE={HOME}/state FABFLEET_CACHE={HOME}/cache "
                f"FABFLEET_INVENTORY={HOME}/inventories FABFLEET_ENV={self.fleet.env} "
                f"/usr/bin/python3 -P -m {join(words)}")
        done = self.fleet.lab.run(NAME, ["sh", "-c", line], check=False)
        assert done.returncode == check, f"{words}: {done}"
        return done

    def fab(self, *words: str, check: int = 0) -> subprocess.CompletedProcess[str]:
        return self.python("fabfile.program", *words, check=check)

    # --- what is scheduled ---------------------------------------------------------

    def schedule(self, *words: str) -> str:
        """Its id."""
        before = {each["id"] for each in self.scheduled()}
        self.fab("maintenance.schedule", "--at=90m", *words)
        (found,) = {each["id"] for each in self.scheduled()} - before
        return str(found)

    def scheduled(self) -> list[dict[str, Any]]:
        return list(json.loads(self.fab("maintenance.scheduled", "--json").stdout))

    def record(self, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.scheduled() if each["id"] == name]
        return found

    def move(self, name: str, seconds: float = 2, latest: float = 600) -> None:
        """As if it had been scheduled for so many seconds from now."""
        path = self._inside(f"{HOME}/state/scheduled/{name}.json")
        at = time.time() + seconds
        path.write_text(json.dumps({**json.loads(path.read_text()), "at": at,
                                    "latest": at + latest}))
        timer = self._inside(f"/etc/systemd/system/fabfleet-{name}.timer")
        lines = [f"OnCalendar=@{at:.0f}" if line.startswith("OnCalendar=") else line
                 for line in timer.read_text().splitlines()]
        timer.write_text("\n".join(lines) + "\n")
        self.on(f"systemctl daemon-reload; systemctl restart fabfleet-{name}.timer")

    def until(self, name: str, *states: str, seconds: float = 120) -> dict[str, Any]:
        """Its record, when it has one of these states and nothing more is to be said."""
        def look() -> dict[str, Any]:
            found = self.record(name)
            busy = self.on(f"systemctl is-active fabfleet-{name}.service || true").strip()
            return found if found["state"] in states and busy != "activating" else {}

        return wait_for(f"{name} is {' or '.join(states)}", look, seconds)

    def notices(self) -> list[tuple[str, str]]:
        """(task, kind) of all that were sent."""
        lines = (self._inside(HOME) / "notices").read_text().splitlines()
        return [(each["task"], each["kind"]) for each in map(json.loads, lines)]

    def runs(self) -> int:
        """How many runs there were."""
        folder = self._inside(f"{HOME}/state/shop-{self.fleet.env}")
        return len(list(folder.glob("*.jsonl")))

    def timers(self) -> str:
        return self.on("ls /etc/systemd/system | grep fabfleet- || true").strip()
