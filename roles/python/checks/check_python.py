"""The release's virtual environment can be used."""

import json
from typing import Any

from roles.role import Target


def check_virtual_environment_starts(host: Any, target: Target) -> None:
    meta = f"{target.paths.state}/releases/{target.release.id}/runtime.json"
    venv = json.loads(host.file(meta).content_string)["venv"]
    if venv is None:
        return  # the application has no dependency lock
    assert host.run("%s -c pass", f"{venv}/bin/python").rc == 0
