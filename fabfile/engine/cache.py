"""The controller's cache: exported trees, wheelhouses, clones. It can be deleted any time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """$FABFLEET_CACHE or the XDG cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("FABFLEET_CACHE") or f"{home}/fabfleet")


def made_once(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder ``<cache>/<kind>/<key>``, made by ``make(empty folder)`` where it is not there.

    It gets its name when it is complete, so that a crash or a second process never leaves half of
    one behind.
    """
    final = cache_folder() / kind / key
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=final.parent))
    try:
        new.chmod(0o755)
        make(new)
        try:
            new.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return final
