"""Where a secret reference becomes its value: here, on the way to the host, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from inventories.errors import UsageError
from roles.command import SecretRef

# Seconds for a command: long enough to type a passphrase somewhere.
PATIENCE = 60.0


@cache
def resolve(secret: SecretRef) -> str:
    """The value, looked up once. Raises :class:`UsageError`, which never quotes a value."""
    where = f"secret {secret.source}:{secret.name}"
    if secret.source == "env":
        if secret.name not in os.environ:
            raise UsageError(f"{where}: this environment variable is not set here; export it first")
        return os.environ[secret.name]
    try:
        return (_read if secret.source == "file" else _asked)(secret.name).rstrip("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{where}: is no text in UTF-8") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of nobody
        raise UsageError(f"{where}: {getattr(error, 'strerror', None) or error}") from None


def _read(name: str) -> str:
    return Path(name).expanduser().read_text("utf-8")


def _asked(line: str) -> str:
    try:
        done = subprocess.run(
            ["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"gave no answer within {PATIENCE:g} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
