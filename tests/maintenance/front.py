"""What closes a site, as the programs on its host know it, and what its visitors get."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inventories.model import Host
from roles import maintenance
from roles.command import OnHost
from roles.maintenance import Driver, MaintenanceSettings, Reason, Site
from roles.role import Step
from tests.roles.onhost.programs import Done, run

PASS = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Answer:
    """``headers`` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


class Front:
    """The host in front is this machine; its files are in ``folder``. ``more``: other settings of
    the site; ``name``: which it is."""

    def __init__(
        self, driver: Driver, folder: Path, more: Mapping[str, list[str]] | None = None,
        name: str = "shop",
    ) -> None:
        self.host = f"{name}.test"
        self.state = folder / name
        settings = MaintenanceSettings.model_validate({
            "driver": driver, "folder": str(self.state), "socket": str(folder / "admin.sock"),
            "allow": ["192.0.2.0/24"], "trusted_proxies": ["127.0.0.1"], "always": ["/ping"],
            **(more or {})})
        self.site = Site(f"{name}-prod", settings, (), f"http://{self.host}/", "/check",
                         names=(self.host,))
        self.port = 0

    @property
    def config(self) -> str:
        return maintenance.config(self.site)

    def prepare(self) -> None:
        """As ``hosts.setup`` does."""
        self.state.mkdir(mode=0o711)
        for name in maintenance.seeds(self.site.settings.driver):
            (self.state / name).touch()

    def served_at(self, port: int) -> None:
        there = {"ansible_host": "127.0.0.1", "ansible_python_interpreter": sys.executable}
        host = Host("proxy1", ("proxy",), there, {}, "", {})
        self.port = port
        self.site = replace(self.site, url=f"http://{self.host}:{port}/", hosts=(host,))

    # --- what we do ----------------------------------------------------------------------------

    def close(self, reason: str = "", until: float = 0, **more: Any) -> Done:
        return self._run(maintenance.close(self.site, Reason(reason, "eve@desk", until, **more)))

    def open(self) -> Done:
        return self._run(maintenance.open_again(self.site))

    def look(self) -> Done:
        return self._run(maintenance.look(self.site))

    def smoke(self) -> Done:
        return self._run(maintenance.smoke(self.site))

    def _run(self, steps: tuple[Step, ...]) -> Done:
        (action,) = steps[0].actions
        assert isinstance(action, OnHost)
        return run(action.program, {**action.arguments, "run": "run1"}, {"pass": PASS.encode()})

    # --- what visitors get ---------------------------------------------------------------------

    def get(
        self, path: str = "/", cookie: str = "", method: str = "GET", source: str = "127.0.0.1",
        **headers: str,
    ) -> Answer:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=10, source_address=(source, 0))
        sent = {"Host": f"{self.host}:{self.port}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if cookie:
            sent["Cookie"] = f"a=b; {self.site.cookie}={cookie}"
        connection.request(method, path, "x=1" if method == "POST" else None, headers=sent)
        found = connection.getresponse()
        body = found.read().decode()
        connection.close()
        named = {name.lower(): value for name, value in found.getheaders()}
        return Answer(found.status, named, body)
