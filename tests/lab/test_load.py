"""Twenty thousand requests and more over a roll and back: each balancer driver, three and ten
hosts, each WSGI server. For minutes each, so they only run as a soak; they print their figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.fleet import Fleet, wait_for
from tests.lab.load import Load, Visitor, crowd, visited
from tests.sites.history import tree

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

ENOUGH = 20_000
OPERATIONS = "config/operations.py"
HAPROXY: dict[str, Any] = {"driver": "haproxy", "backend": "web", "deadline": 20}
UPSTREAM = "/etc/nginx/conf.d/shop-upstream.conf"
APACHE = """cat > /etc/apache2/sites-available/000-default.conf <<'E'
Listen 8000
WSGIDaemonProcess shop user=shop group=shop processes=2 threads=4 shutdown-timeout=30
WSGIProcessGroup shop
WSGIApplicationGroup %{GLOBAL}
WSGIScriptAlias / /srv/shop/.fabfleet/launch.py
<Directory /srv/shop/.fabfleet>
  <Files launch.py>
    Require all granted
  </Files>
</Directory>
E
systemctl restart apache2"""
# What a team might have of its own: lbctl drain|ready|state SERVER
LBCTL = """#!/usr/bin/python3
import csv, io, socket, sys

verb, server = sys.argv[1:]
line = "show stat" if verb == "state" else "set server web/%s state %s" % (server, verb)
asked = socket.socket(socket.AF_UNIX)
asked.connect("/run/haproxy/admin.sock")
asked.sendall((line + "\\n").encode())
answer = asked.makefile().read()
if verb == "state":
    rows = csv.DictReader(io.StringIO(answer.lstrip("# ")))
    (row,) = [row for row in rows if row["svname"] == server]
    idle = row["scur"] == row["qcur"] == "0"
    print("up" if row["status"] == "UP" else "drained" if idle else "busy")
"""


def there_and_back(
    fleet: Fleet, address: str, new: str = "v2", visitors: Sequence[Visitor] = ()
) -> Load:
    """Roll to ``new`` and back until enough was asked."""
    with visited(address, visitors or crowd()) as load:
        wait_for("somebody got an answer", lambda: load.asked > 20)
        while load.asked < ENOUGH:
            fleet.fab("deploy", f"--ref={new}", check=0, timeout=400)
            fleet.fab("rollback", check=0, timeout=400)
    print(load)
    return load


def until_asked(load: Load, number: int) -> None:
    wait_for(f"{number} requests", lambda: load.asked >= number)


def begin(fleet: Fleet, ref: str = "v1", **settings: Any) -> None:
    fleet.reset()
    fleet.write_inventory(**settings)
    fleet.fab("hosts.setup", check=0)
    fleet.fab("deploy", f"--ref={ref}", check=0, timeout=300)


def nothing_lost(load: Load) -> None:
    assert load.lost == []
    assert len(load.answers) == 2
    assert load.asked >= ENOUGH


def test_haproxy_three_hosts(three: Fleet) -> None:
    begin(three, balancer=HAPROXY)
    nothing_lost(there_and_back(three, three.address["proxy1"]))


def test_haproxy_ten_hosts(ten: Fleet) -> None:
    begin(ten, balancer=HAPROXY)
    nothing_lost(there_and_back(ten, ten.address["proxy1"]))


def test_without_a_driver_some_are_lost(three: Fleet) -> None:
    begin(three)
    assert there_and_back(three, three.address["proxy1"]).lost


def test_nginx(edge: Fleet) -> None:
    """It is not allowed to try a second server, so that nothing hides what a first one lost. What
    is lost is what a reload by itself loses: requests on kept connections that nginx closes."""
    servers = "".join(f"    server {edge.address[host]}:8000;\n" for host in edge.web)
    edge.on("proxy1", f"""cat > {UPSTREAM} <<'E'
upstream shop {{
{servers}}}
E
rm -f /etc/nginx/sites-enabled/default
cat > /etc/nginx/conf.d/shop.conf <<'E'
server {{
    listen 8080;
    location / {{ proxy_pass http://shop; proxy_next_upstream off; }}
}}
E
systemctl restart nginx""")
    begin(edge, balancer={"driver": "nginx", "nginx": {"config": UPSTREAM}, "deadline": 30,
                          "backend": "shop", "server": "{address}", "port": 8000})
    address = f"{edge.address['proxy1']}:8080"
    load = there_and_back(edge, address)
    assert [each for each in load.lost if "RemoteDisconnected" not in each] == []
    assert [each for each in load.lost if " kept: " not in each] == []
    assert load.asked >= ENOUGH
    # Any reload of nginx closes idle connections; whoever asks on one at that moment asks again.
    with visited(address, crowd()) as reloaded:
        for _ in range(40):
            edge.on("proxy1", "systemctl reload nginx")
            until_asked(reloaded, reloaded.asked + 200)
    print(f"nothing but 40 reloads: {reloaded}")


def test_health_file(three: Fleet) -> None:
    """HAProxy looks at the health page, which heeds the file; nobody talks to its socket."""
    source = tree("v2")[OPERATIONS].data.decode()
    heeding = source.replace("def healthz(request):\n", (
        "def healthz(request):\n    import os\n"
        "    if os.path.exists(os.environ['OUT_OF_ROTATION_FILE']):\n"
        "        return HttpResponse('out of rotation', status=503)\n"))
    assert heeding != source
    for tag in ("file1", "file2"):
        three.commit(tag, {OPERATIONS: heeding, "docs/tag.txt": tag})
    begin(three, "file1", wsgi={"health": {"deadline": 10, "path": "/version"}},
          balancer={"driver": "health-file", "health_file": {"seconds": 3, "page": "/healthz"}})
    nothing_lost(there_and_back(three, three.address["proxy1"], "file2"))


def test_commands(three: Fleet) -> None:
    begin(three, balancer=HAPROXY)  # so that the deploy user may talk to the socket
    path = "/usr/local/bin/lbctl"
    three.on("proxy1", f"cat > {path} <<'E'\n{LBCTL}E\nchmod 755 {path}")
    three.write_inventory(balancer={"driver": "command", "deadline": 20, "command": {
        "on": "balancers", "drain": "lbctl drain $FABFLEET_SERVER",
        "undrain": "lbctl ready $FABFLEET_SERVER", "state": "lbctl state $FABFLEET_SERVER"}})
    nothing_lost(there_and_back(three, three.address["proxy1"]))


@pytest.fixture
def unhashed(three: Fleet) -> Fleet:
    """The sample with all servers among its packages, as tags servers1 and servers2."""
    lock = tree("v2")["requirements.txt"].data.decode()
    pins = re.sub(r" \\\n +--hash=\S+", "", lock) + "granian\npyuwsgi\nwaitress\n"
    for tag in ("servers1", "servers2"):
        three.commit(tag, {"requirements.txt": pins, "docs/tag.txt": tag})
    return three


@pytest.mark.parametrize("server", ["gunicorn", "uwsgi", "granian", "waitress"])
def test_each_server(unhashed: Fleet, server: str) -> None:
    more: dict[str, Any] = {"waitress": {"threads": 4}}.get(server, {"workers": 2})
    begin(unhashed, "servers1", balancer=HAPROXY, wsgi={
        "server": server, "options": ["--no-control-socket"] if server == "gunicorn" else [],
        **more})
    nothing_lost(there_and_back(unhashed, unhashed.address["proxy1"], "servers2"))


@pytest.mark.parametrize("method", ["reload", "touch"])
def test_mod_wsgi(apache: Fleet, method: str) -> None:
    apache.everywhere(lambda host: apache.on(host, APACHE))
    begin(apache, balancer=HAPROXY, wsgi={
        "server": "mod_wsgi", "method": method, "unit": "apache2.service", "options": None},
        python={"interpreter": "python3.11"})
    # It answers so fast that visitors who never pause take the whole machine from HAProxy's checks.
    visitors = [replace(each, pause=0.01) for each in crowd()]
    nothing_lost(there_and_back(apache, apache.address["proxy1"], visitors=visitors))
