"""Units named after releases: what the host needs so that the deploy user can start and stop them.

sudo knows no pattern that would allow just these units, so a small program of root's does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roles.app import AppSettings
from roles.role import Paths, Setup
from roles.templates import render
from roles.units import path

WORKERS, SERVERS = "workers", "servers"


def is_boot_unit(unit: str) -> bool:
    """Whether it only acts when the host boots, so that its state says nothing of now."""
    return unit.endswith((f"-{WORKERS}.service", f"-{SERVERS}.service"))


@dataclass(frozen=True)
class Instances:
    """``what`` they are called in the helper's and the boot unit's names; ``templates`` are the
    units' names before the ``@``, all of which fit the shell pattern ``pattern``; ``link`` is the
    socket that leads to the current release's, if there is one."""

    app: AppSettings
    what: str
    templates: Sequence[str]
    pattern: str
    link: str = ""

    @property
    def helper(self) -> str:
        return f"/usr/local/sbin/fabfleet-{self.app.name}-{self.what}"

    @property
    def boot(self) -> str:
        return f"{self.app.name}-{self.what}.service"

    @property
    def paths(self) -> list[str]:
        """All that :meth:`setup` brings."""
        units = [*(f"{template}@.service" for template in self.templates), self.boot]
        return [*map(path, units), self.helper]

    def probe(self) -> dict[str, Any]:
        return {"units": [self.boot], "files": self.paths, "instances": [self.pattern]}

    def setup(self, texts: Mapping[str, str]) -> Setup:
        """``texts`` are the template units, by their names before the ``@``."""
        told: dict[str, Any] = {
            "app": self.app, "what": self.what, "helper": self.helper, "link": self.link,
            "templates": self.templates, "pattern": self.pattern, "paths": Paths(self.app.folder),
        }
        files = {path(f"{name}@.service"): text for name, text in texts.items()}
        files[path(self.boot)] = render("app/templates/boot.service.j2", **told)
        program = render("app/templates/instances.sh.j2", **told)
        return Setup(files=files, programs={self.helper: program}, rules=(self.helper,),
                     units=(self.boot,))
