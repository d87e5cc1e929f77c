"""Waiting for those who are connected, accepted or not."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from tests.roles.onhost.programs import Done, run


def settle(address: str, seconds: float = 5) -> Done:
    return run("settle", {"address": address, "seconds": seconds})


@pytest.mark.parametrize("kind", ["port", "path"])
def test_who_was_not_even_accepted_is_waited_for(kind: str, tmp_path: Path) -> None:
    family = socket.AF_INET if kind == "port" else socket.AF_UNIX
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind(("127.0.0.1", 0) if kind == "port" else str(tmp_path / "s"))
        listener.listen()
        name = listener.getsockname()
        address = f"127.0.0.1:{name[1]}" if kind == "port" else name
        assert settle(address).answer == {"connected": 0}
        client.connect(name)
        began = time.monotonic()
        assert settle(address, 0.5).answer["connected"] >= 1
        assert time.monotonic() - began >= 0.5

        def leave() -> None:
            listener.accept()[0].close()
            client.close()

        threading.Timer(0.3, leave).start()
        assert settle(address, 10).answer == {"connected": 0}
        assert time.monotonic() - began < 8
