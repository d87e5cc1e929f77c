"""Paths as a person reads them."""

from __future__ import annotations

from pathlib import Path


def shown(path: Path) -> str:
    """``path`` relative to the current directory where it lies below it, else as it is."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
