"""The server runs, listens, and answers with the current release."""

import json
from typing import Any

from roles.role import Target
from roles.wsgi import WsgiSettings, applies, manager_of
from roles.wsgi.manager import Systemd


def check_unit_is_enabled_and_running(host: Any, target: Target) -> None:
    found = manager_of(target)
    if not applies(target) or not isinstance(found, Systemd):
        return
    for unit in found.units:
        service = host.service(unit)
        assert service.is_enabled
        assert service.is_running


def check_current_release_answers(host: Any, target: Target) -> None:
    if not applies(target):
        return
    settings = target.of(WsgiSettings, "wsgi")
    ask = (
        "import sys, urllib.request as u;"
        "r = u.Request(sys.argv[1], headers={'Host': sys.argv[2]});"
        "a = u.urlopen(r, timeout=5);"
        "import json; print(json.dumps([a.status, str(a.headers) + a.read(65536).decode()]))"
    )
    if settings.local_address.startswith("/"):
        return  # a socket is asked by every deploy's own health check
    url = f"http://{settings.local_address}{settings.health.path}"
    asked = host.run("python3 -c %s %s %s", ask, url, settings.health.host)
    assert asked.rc == 0, asked.stderr
    status, text = json.loads(asked.stdout)
    assert status == settings.health.status
    assert not settings.health.release or target.release.id in text
