"""Python programs of our own that run beside us on the controller."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_attached(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """``python WORDS`` with our own output; returns its exit status."""
    done = subprocess.run([sys.executable, *words], env={**os.environ, **environment},
                          stdin=subprocess.DEVNULL, check=False)
    return done.returncode


def build_sample(script: Path, target: Path) -> str:
    """Build the sample site's repository; returns what went wrong, or nothing."""
    done = subprocess.run([sys.executable, str(script), str(target)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""
