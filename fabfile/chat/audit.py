"""The append-only record of all requests: ``<state>/chat/audit.jsonl``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Literal

Verdict = Literal[
    "allowed", "refused", "offered", "confirmed", "cancelled", "expired", "replayed", "forged",
    "failed", "ended",
]


class Audit:
    """Several processes may write into it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "audit.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, verdict: Verdict, **values: Any) -> None:
        """On disk when this returns; what cannot be recorded must not happen."""
        line = json.dumps({"at": round(time.time(), 3), "verdict": verdict, **values},
                          sort_keys=True)
        os.write(self._file, line.encode() + b"\n")
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)
