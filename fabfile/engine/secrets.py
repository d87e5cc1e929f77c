"""Where a secret reference becomes its value: here, on the way to the host, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from inventories.errors import UsageError
from roles.command import SecretRef


@cache
def resolve(secret: SecretRef) -> str:
    """The value, looked up once. Raises :class:`UsageError`, which never quotes a value."""
    where = f"secret {secret.source}:{secret.name}"
    if secret.source == "env":
        if secret.name not in os.environ:
            raise UsageError(f"{where}: this environment variable is not set here; export it first")
        return os.environ[secret.name]
    if secret.source == "file":
        try:
            return Path(secret.name).expanduser().read_text().rstrip("\n")
        except OSError as error:
            raise UsageError(f"{where}: {error.strerror}") from None
    asked = subprocess.run(
        ["sh", "-c", secret.name], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )
    if asked.returncode != 0:
        raise UsageError(f"{where}: exit status {asked.returncode}: {asked.stderr.strip()}")
    return asked.stdout.rstrip("\n")
