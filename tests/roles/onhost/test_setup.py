"""What ``fab hosts.setup`` makes, as far as that needs no root."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from pathlib import Path

from roles.onhost import ship
from tests.roles.onhost.programs import strict_umask


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_server_reaches_the_page_whatever_the_umask_of_root_is(tmp_path: Path) -> None:
    folder = tmp_path / "fabfleet" / "shop-prod"
    told = {"page": {"folder": str(folder), "files": ["closed.map"]}, "deploy": getpass.getuser()}
    whole, _, main = ship.text("setup").decode().rpartition("\n\n\n")
    assert main == "main()\n"
    with strict_umask():
        subprocess.run([sys.executable, "-I", "-c",
                        f"import json; ARGUMENTS = json.loads({json.dumps(told)!r})\n"
                        f"{whole}\n\n\npage()"], check=True)
    assert [mode(folder.parent), mode(folder)] == [0o755, 0o711]
    assert mode(folder / "closed.map") == 0o644
