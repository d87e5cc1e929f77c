"""Commands of one's own, as they run on hosts and on the controller."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.roles.onhost.programs import Done, run

CHECKOUT = Path(__file__).resolve().parents[2]


def told(folder: Path, action: str, **changes: Any) -> dict[str, Any]:
    lines = {
        "drain": f"echo drained >{folder}/$FABFLEET_SERVER",
        "undrain": f"echo up >{folder}/$FABFLEET_SERVER",
        "state": f"echo it is; cat {folder}/$FABFLEET_SERVER",
    }
    return {
        "action": action, "lines": {**lines, **changes.pop("lines", {})}, "server": "web1",
        "environment": {"FABFLEET_SERVER": "web1"}, "deadline": 0.3, "up_deadline": 0.3,
        "then": "fail", **changes,
    }


def tell(folder: Path, action: str, **changes: Any) -> Done:
    return run("balancing.command", told(folder, action, **changes))


def test_out_and_in_again(tmp_path: Path) -> None:
    assert tell(tmp_path, "drain").answer == {"servers": [
        {"balancer": "command", "server": "web1", "status": "drained", "up": False,
         "drained": True}]}
    assert tell(tmp_path, "look").answer["servers"][0]["status"] == "drained"
    assert tell(tmp_path, "undrain").answer["servers"][0]["up"]


def test_one_that_fails(tmp_path: Path) -> None:
    done = tell(tmp_path, "drain", lines={"drain": "echo no; echo why >&2; exit 3"})
    assert (done.exit, done.err) == (
        1, "echo no; echo why >&2; exit 3: exit status 3: no\nwhy\n")


def test_the_state_has_to_become_what_was_asked(tmp_path: Path) -> None:
    busy = {"state": "echo draining"}
    done = tell(tmp_path, "drain", lines=busy)
    assert (done.exit, done.err) == (
        1, "asked 'echo draining', answered 'draining' instead of 'drained' after 0.3 s\n")
    assert tell(tmp_path, "drain", lines=busy, then="go-on").exit == 0
    assert tell(tmp_path, "undrain", lines=busy, then="go-on").exit == 1
    assert tell(tmp_path, "drain", lines={"state": "true"}).err.startswith(
        "asked 'true', answered 'nothing'")


def test_without_a_state_nobody_waits(tmp_path: Path) -> None:
    assert tell(tmp_path, "drain", lines={"state": ""}).answer["servers"][0]["status"] == "unknown"


def test_on_the_controller(tmp_path: Path) -> None:
    def here(action: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        words = ["-m", "fabfile.engine.here", "balancing.command",
                 json.dumps(told(tmp_path, action, **changes))]
        return subprocess.run([sys.executable, *words], cwd=CHECKOUT, capture_output=True,
                              text=True, check=False)

    assert json.loads(here("drain").stdout)["servers"][0]["drained"]
    failed = here("drain", lines={"drain": "exit 3"})
    assert (failed.returncode, failed.stderr) == (1, "exit 3: exit status 3: \n")
