"""The one place of the lab that starts programs on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from fabfile.lab.model import LabError

LAST_LINES = 15


def run(
    argv: Sequence[str],
    *,
    where: str,
    stdin: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end and keep the output as text.

    Raises ``LabError`` starting with ``where`` when it cannot start, does not end within
    ``timeout`` seconds or, with ``check``, ends with another status than 0.
    """
    try:
        ended = subprocess.run(
            argv,
            input="" if stdin is None else stdin,
            text=True,
            encoding="utf-8",
            errors="replace",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{where}: the program {argv[0]} is missing on this machine") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{where}: `{_short(argv)}` did not end within {timeout:g} s") from None
    if check and ended.returncode != 0:
        said = _tail(ended.stderr) or _tail(ended.stdout) or "no output"
        raise LabError(f"{where}: `{_short(argv)}` ended with {ended.returncode}: {said}")
    return ended


def run_logged(
    argv: Sequence[str], *, where: str, log: Path, env: Mapping[str, str] | None = None
) -> None:
    """Run something long; its output goes to ``log``. Raises ``LabError`` with the last lines."""
    with log.open("ab") as output:
        ended = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            check=False,
        )
    if ended.returncode != 0:
        raise LabError(
            f"{where}: {argv[0]} ended with {ended.returncode}; the whole output is in {log}\n"
            f"{_tail(log.read_text(errors='replace'))}"
        )


def start_detached(argv: Sequence[str], *, where: str, log: Path, env: Mapping[str, str]) -> None:
    """Start something that outlives this process, in a session of its own.

    Forked twice: it never becomes our zombie, and no handle to it has to be kept.
    """
    with log.open("ab") as output:
        ended = subprocess.run(
            ["setsid", "--fork", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd="/",
            check=False,
        )
    if ended.returncode != 0:
        raise LabError(f"{where}: setsid ended with {ended.returncode}; see {log}")


def interactive(argv: Sequence[str]) -> int:
    """Run with this process's own terminal; the exit status."""
    return subprocess.call(argv)


def _short(argv: Sequence[str]) -> str:
    line = shlex.join(argv)
    return line if len(line) <= 200 else f"{line[:200]}..."


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])
