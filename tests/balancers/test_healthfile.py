"""The flag on the code host, and a page that heeds it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.balancers.servers import CHECK, Backend
from tests.roles.onhost.programs import Done, run


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    return tmp_path / "out-of-rotation"


@pytest.fixture
def app(web: dict[str, Backend], flag: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Its page answers 503 while the flag is there."""
    monkeypatch.setattr(Backend, "healthy", property(lambda _: not flag.exists()), raising=False)
    return web["web1"]


def tell(flag: Path, action: str, app: Backend | None = None, **changes: Any) -> Done:
    arguments = {
        "action": action, "file": str(flag), "server": "web1", "seconds": 0.5,
        "page": CHECK if app else None, "address": f"127.0.0.1:{app.port if app else 1}",
        "host": "localhost", "up_deadline": 0.5,
    }
    return run("balancing.healthfile", {**arguments, **changes})


def took(began: float) -> float:
    return time.monotonic() - began


def test_out_and_in_again(app: Backend, flag: Path) -> None:
    began = time.monotonic()
    out = tell(flag, "drain", app)
    assert (out.exit, out.err, took(began) > 0.5) == (0, "", True)
    assert out.answer["servers"] == [{"balancer": str(flag), "server": "web1", "status": "out",
                                      "up": False, "drained": True}]
    assert flag.read_text() == "out of rotation for a deploy by Fabfleet\n"
    assert flag.stat().st_mode & 0o777 == 0o644
    # Again: what the balancer noticed long ago is not waited for.
    os.utime(flag, (time.time() - 60,) * 2)
    began = time.monotonic()
    assert tell(flag, "drain", app, seconds=30).exit == 0
    assert took(began) < 10
    began = time.monotonic()
    assert tell(flag, "undrain", app).answer["servers"][0]["status"] == "in"
    assert took(began) > 0.5
    assert not flag.exists()
    began = time.monotonic()
    assert tell(flag, "undrain", app, seconds=30).exit == 0
    assert took(began) < 10


def test_an_application_that_does_not_look(web: dict[str, Backend], flag: Path) -> None:
    done = tell(flag, "drain", web["web1"])
    assert done.exit == 1
    assert done.err == (
        f"the application does not heed {flag} (the variable OUT_OF_ROTATION_FILE): GET /check on "
        f"127.0.0.1:{web['web1'].port}: 200 instead of 503\n")
    assert not flag.exists()


def test_a_host_that_does_not_serve_is_out_as_well(flag: Path, web: dict[str, Backend]) -> None:
    assert tell(flag, "drain", web["web1"], address="127.0.0.1:1", seconds=0).exit == 0


def test_it_stays_out_when_the_page_stays_ill(flag: Path, web: dict[str, Backend]) -> None:
    app = web["web1"]
    app.healthy = False
    assert tell(flag, "drain", app, seconds=0).exit == 0
    done = tell(flag, "undrain", app)
    assert done.exit == 1
    assert done.err.startswith(f"stays out: without {flag} still GET /check on ")
    assert flag.exists()
    threading.Timer(0.5, setattr, (app, "healthy", True)).start()
    assert tell(flag, "undrain", app, up_deadline=10).exit == 0


def test_without_a_page_nobody_is_asked(flag: Path) -> None:
    assert tell(flag, "drain").exit == 0
    assert tell(flag, "look").answer["servers"][0]["drained"]
    assert tell(flag, "undrain").exit == 0
    assert not tell(flag, "look").answer["servers"][0]["drained"]


def test_somebody_s_own_flag_stays(flag: Path) -> None:
    flag.write_text("disk is dying, ann\n")
    for action in ("drain", "undrain"):
        done = tell(flag, action)
        assert (done.exit, done.err) == (
            1, f"{flag}: is not ours (it says 'disk is dying, ann'): somebody took this host out. "
               "Remove it, or leave this host out of the run\n")
    assert flag.read_text() == "disk is dying, ann\n"


def test_no_folder_for_it(tmp_path: Path) -> None:
    path = tmp_path / "no" / "flag"
    done = tell(path, "drain")
    assert (done.exit, done.err) == (1, f"{path}: No such file or directory\n")
