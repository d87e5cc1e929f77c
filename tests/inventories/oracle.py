"""What ``ansible-inventory --list`` says of many inventories, paying for its imports only once.

Run as a program: paths as arguments, a JSON list of listings on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def listings(paths: Sequence[Path], home: Path) -> list[dict[str, object]]:
    """One listing a path; ``home`` is a scratch folder that hides the user's own configuration."""
    half = len(paths) // 2
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(_asked, (paths[:half], paths[half:]), (home, home))
        return [listing for answers in halves for listing in answers]


def _asked(paths: Sequence[Path], home: Path) -> list[dict[str, object]]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    config = home / "ansible.cfg"
    config.touch()
    done = subprocess.run(
        [sys.executable, __file__, *map(str, paths)],
        env=inherited | {"ANSIBLE_HOME": str(home), "ANSIBLE_CONFIG": str(config)},
        cwd=home,
        stdout=subprocess.PIPE,
        check=True,
    )
    answers: list[dict[str, object]] = json.loads(done.stdout)
    return answers


def _listed(path: str) -> object:
    """In a forked child, so that Ansible's globals are fresh each time."""
    from ansible.cli.inventory import InventoryCLI

    with tempfile.TemporaryFile() as output, open(os.devnull, "wb") as nowhere:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            InventoryCLI.cli_executor(["ansible-inventory", "-i", path, "--list"])
        _, status = os.waitpid(child, 0)
        output.seek(0)
        if status:
            raise SystemExit(f"{path}: ansible-inventory ended with {status}")
        return json.load(output)


if __name__ == "__main__":
    print(json.dumps([_listed(path) for path in sys.argv[1:]]))
