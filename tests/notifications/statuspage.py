"""As much of Statuspage as a maintenance needs; what its documentation does not know is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.loopback import Loopback, Quiet

PAGE, TOKEN = "kctbh9vrtdwd", "st4tus-t0ken"
COMPONENTS = ("shop1", "shop2")
STATES = {"operational", "under_maintenance", "degraded_performance", "partial_outage",
          "major_outage", ""}
STATUSES = {"scheduled", "in_progress", "verifying", "completed"}
TYPES = {
    "name": str, "status": str, "body": str, "scheduled_for": str, "scheduled_until": str,
    "scheduled_auto_in_progress": bool, "scheduled_auto_completed": bool,
    "auto_transition_to_maintenance_state": bool, "auto_transition_to_operational_state": bool,
    "deliver_notifications": bool, "component_ids": list, "components": dict,
}


@dataclass
class Statuspage:
    """``incidents`` hold the updates of each; ``states`` are the components'. ``failures`` are the
    statuses of the first answers, ``seconds`` what each takes; ``nameless`` answers have no id; one
    that ``drips`` comes a letter at a time, and never ends."""

    incidents: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, "operational"))
    asked: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    seconds: float = 0
    nameless: bool = False
    drips: bool = False
    url: str = ""
    updated: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, method: str, path: str, key: str, body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        time.sleep(self.seconds)
        if self.failures:
            return self.failures.pop(0), {"error": "not now"}
        if key != f"OAuth {TOKEN}":
            return 401, {"error": "Could not authenticate"}
        told = json.loads(body)["incident"]
        wrong = [name for name, value in told.items()
                 if name not in TYPES or not isinstance(value, TYPES[name])]
        known = (set(told.get("component_ids", ())) | set(told.get("components", ()))) <= set(
            COMPONENTS) and set(told.get("components", {}).values()) <= STATES
        if wrong or not known or told["status"] not in STATUSES:
            return 422, {"error": [f"{wrong} is not valid"]}
        base = f"/v1/pages/{PAGE}/incidents"
        if method == "POST" and path == base:
            name = f"inc{len(self.incidents) + 1}"
            start, end = (datetime.fromisoformat(told[each])
                          for each in ("scheduled_for", "scheduled_until"))
            if not told["name"] or end <= start:
                return 422, {"error": ["scheduled_until must be after scheduled_for"]}
            self.incidents[name] = []
        else:
            name = path.removeprefix(f"{base}/")
            if method != "PATCH" or name not in self.incidents:
                return 404, {"error": "Not Found"}
        self.incidents[name].append(told)
        self.states |= told.get("components", {})
        if method == "PATCH":
            self.updated.set()
        return (201 if method == "POST" else 200), {
            "name": told.get("name"), **({} if self.nameless else {"id": name}),
            "incident_updates": self.incidents[name]}

    def told(self, incident: str = "inc1") -> list[tuple[str, str]]:
        return [(each["status"], each["body"]) for each in self.incidents[incident]]


@contextmanager
def statuspage(**how: Any) -> Iterator[Statuspage]:
    """One on loopback."""
    page = Statuspage(**how)

    class Handler(Quiet):
        def do_POST(self) -> None:  # noqa: N802 - its name is given
            status, told = page.answer(self.command, self.path, self.headers["Authorization"],
                                       self.read())
            if not page.drips:
                self.say(status, json.dumps(told).encode())
                return
            self.say(status, b"", {"Content-Length": str(10**9)})
            while not page.ended.wait(0.1):
                self.wfile.write(b" ")

        do_PATCH = do_POST  # noqa: N815 - their names are given

    with Loopback(Handler) as server:
        page.url = server.url
        yield page
        page.ended.set()
