"""Our own tasks as processes of their own, which outlive whoever asked for them.

    python -P -m fabfile.engine.children DESCRIPTOR WORD...

runs the words and writes their exit status into the open file, which stays locked meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FAB = (sys.executable, "-P", "-m", "fabfile.program")
# The exit status of what ended without one: it was killed, or never began.
GONE = -1


@dataclass(frozen=True)
class Answer:
    """How a task ended, and what it printed."""

    status: int
    out: str
    err: str


def ask(
    words: Sequence[str], environment: Mapping[str, str], seconds: float | None = None,
    folder: str | None = None,
) -> Answer:
    """Wait for a task that only looks; what takes longer than ``seconds`` is ended, and so is what
    nobody waits for any more."""
    process = subprocess.Popen(
        words, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return Answer(GONE, out, f"{err}did not end within {seconds:g} s")
    except BaseException:  # Ctrl-C does not reach it, as its session is its own
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Answer(_told(process.returncode), out, err)


def start(
    words: Sequence[str], environment: Mapping[str, str], output: Path, status: Path
) -> None:
    """Start a task that goes on whatever becomes of us. Both files must not exist yet."""
    out, told = _new(output), _new(status)
    try:
        # The lock is the open file's, so the keeper has it from its first moment to its last.
        fcntl.flock(told, fcntl.LOCK_EX)
        keeper = (sys.executable, "-P", "-m", "fabfile.engine.children", str(told))
        process = subprocess.Popen(
            [*keeper, *words], env=environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, pass_fds=(told,), start_new_session=True,
        )
    finally:
        os.close(out)
        os.close(told)
    # As long as we are there, its end is taken note of, so that nothing is left of it.
    threading.Thread(target=process.wait, daemon=True).start()


def _new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def ended(status: Path) -> int | None:
    """The exit status; None as long as it works, GONE where nobody is left to tell."""
    try:
        with status.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            text = file.read()
    except BlockingIOError:
        return None
    except FileNotFoundError:
        return GONE
    return int(text) if text else GONE


def main(words: Sequence[str]) -> None:
    descriptor, *task = words
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever ends the whole group ends the task, and we tell how.
        signal.signal(each, lambda *_: None)
    status = subprocess.run(task, stdin=subprocess.DEVNULL, check=False).returncode
    os.write(int(descriptor), str(_told(status)).encode())


def _told(status: int) -> int:
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    main(sys.argv[1:])
