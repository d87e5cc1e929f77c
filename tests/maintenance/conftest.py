"""A balancer in front of one server, with the piece of configuration that can close it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.balancers import servers
from tests.balancers.conftest import entered
from tests.maintenance.front import Front

# As `fab maintenance.config` tells for Apache.
NEEDED = ("rewrite", "headers", "asis")
# A 503 that is nginx's own.
BUSY = """
location = /busy { return 503; }
"""
SCRIPT = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"web1"]
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: a socket's may have 107 bytes."""
    where = Path(tempfile.mkdtemp(prefix="ff-", dir="/tmp"))
    where.chmod(0o755)
    yield where
    shutil.rmtree(where)


@pytest.fixture
def more() -> dict[str, list[str]]:
    """Other settings of the site; a test says which."""
    return {}


@pytest.fixture
def haproxy(folder: Path, more: dict[str, list[str]]) -> Iterator[Front]:
    front = Front("haproxy", folder, more)
    front.prepare()
    with servers.backends("web1") as made, ExitStack() as stack:
        opened = servers.haproxy(folder, made, frontend=front.config)
        front.served_at(entered(stack, opened).port)
        yield front


@pytest.fixture
def nginx(folder: Path, more: dict[str, list[str]]) -> Iterator[Front]:
    front = Front("nginx", folder, more)
    front.prepare()
    http, _, server = front.config.partition("# --- second part")
    with servers.backends("web1") as made, ExitStack() as stack:
        opened = servers.nginx(folder, made, http, f"# {server}{BUSY}")
        front.served_at(entered(stack, opened).port)
        yield front


@pytest.fixture
def apache(folder: Path, more: dict[str, list[str]]) -> Iterator[Front]:
    """Apache as a proxy for all of ``/``."""
    front = Front("apache", folder, more)
    front.prepare()
    with servers.backends("web1") as made, ExitStack() as stack:
        behind = f"http://127.0.0.1:{made['web1'].port}/"
        opened = servers.apache(folder, f"{front.config}ProxyPass / {behind}\n",
                                [*NEEDED, "proxy", "proxy_http"])
        front.served_at(entered(stack, opened).port)
        yield front


@pytest.fixture
def mod_wsgi(folder: Path, more: dict[str, list[str]]) -> Iterator[Front]:
    """Apache that is the application's server itself."""
    front = Front("apache", folder, more)
    front.prepare()
    script = folder / "web.py"
    script.write_text(SCRIPT)
    site = f"""\
{front.config}
WSGIDaemonProcess web1 processes=1 threads=2
WSGIProcessGroup web1
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {script}
<Directory {folder}>
    Require all granted
</Directory>
"""
    with ExitStack() as stack:
        opened = servers.apache(folder, site, [*NEEDED, "wsgi"])
        front.served_at(entered(stack, opened).port)
        yield front


@pytest.fixture(params=["haproxy", "nginx", "apache", "mod_wsgi"])
def front(request: pytest.FixtureRequest) -> Front:
    found: Front = request.getfixturevalue(request.param)
    return found
