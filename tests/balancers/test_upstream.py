"""Servers in nginx's configuration, wherever and however they stand."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from roles.onhost import ship

TEXT = """\
# upstream web { server 10.0.0.9:8000; }
upstream "other" { server 10.0.0.1:8000; }
upstream web {
    least_conn;
    server 10.0.0.1:8000 weight=5 max_fails=3;  # server 10.0.0.1:8000;
    server	"10.0.0.2:8000"	down
        weight=2;
    server [fd00::3]:8000; server unix:/run/a.sock backup;
    server web4; # down;
    map_like { server 10.0.0.1:8000; }
}
server { listen 80; server_name "a;b"; location / { proxy_pass http://web; } }
"""


@pytest.fixture(scope="module")
def upstream() -> ModuleType:
    path = ship.FOLDER / "balancing" / "upstream.py"
    spec = importlib.util.spec_from_file_location("upstream_of_nginx", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_servers_are_found(upstream: ModuleType) -> None:
    found = upstream.servers(TEXT, ["web"])
    assert [(each.address, each.parameters) for each in found] == [
        ("10.0.0.1:8000", ["weight=5", "max_fails=3"]), ("10.0.0.2:8000", ["down", "weight=2"]),
        ("[fd00::3]:8000", []), ("unix:/run/a.sock", ["backup"]), ("web4", []),
    ]
    both = upstream.servers(TEXT, ["other", "web"])
    assert [each.upstream for each in both] == ["other"] + ["web"] * 5


@pytest.mark.parametrize(("server", "port", "address"), [
    ("10.0.0.1", 8000, "10.0.0.1:8000"), ("10.0.0.1", 0, "10.0.0.1:8000"),
    ("10.0.0.1:8000", 0, "10.0.0.1:8000"), ("10.0.0.1", 80, None), ("10.0.0", 0, None),
    ("[fd00::3]", 0, "[fd00::3]:8000"), ("web4", 0, "web4"), ("web4", 80, None),
])
def test_names(upstream: ModuleType, server: str, port: int, address: str | None) -> None:
    found = upstream.servers(TEXT, ["web"])
    assert [each.address for each in found if each.is_called(server, port)] == (
        [address] if address else [])


def test_only_the_one_word_changes(upstream: ModuleType) -> None:
    def put(text: str, number: int, down: bool) -> str:
        return str(upstream.changed(text, [upstream.servers(text, ["web"])[number]], down))

    out = put(TEXT, 0, True)
    assert out == TEXT.replace("max_fails=3;", "max_fails=3 down;")
    assert put(out, 0, True) == out
    assert put(out, 0, False) == TEXT
    assert put(TEXT, 1, False) == TEXT.replace('"\tdown\n', '"\n')
    assert put(TEXT, 4, True) == TEXT.replace("web4;", "web4 down;")
    assert put(TEXT, 2, False) == TEXT
