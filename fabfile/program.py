"""The ``fab`` command: Invoke's program with our tasks. Fabric itself is loaded by the first task
that needs SSH, so that ``fab --list`` answers at once."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from invoke import Exit, ParseError, Program

from fabfile import ns
from inventories.errors import UsageError
from inventories.nearest import did_you_mean


def _version() -> str:
    try:
        return version("fabfleet")
    except PackageNotFoundError:
        return "unknown"


class Fab(Program):
    """Invoke's program; what was typed wrong is said in our way, and ends with our exit code."""

    def parse_core(self, argv: list[str] | None) -> None:
        with explained():
            super().parse_core(argv)

    def parse_tasks(self) -> None:
        with explained():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        with explained():
            super().parse_cleanup()


@contextmanager
def explained() -> Iterator[None]:
    """Raises Invoke's Exit for what its parser does not understand."""
    try:
        yield
    except ParseError as error:
        raise Exit(_explanation(error), code=UsageError.exit_code) from None


def _explanation(error: ParseError) -> str:
    unknown = re.fullmatch(r"No idea what '(.*)' is!", str(error))
    if unknown is None:
        lacking = re.fullmatch(r"Flag <Argument: (\S+).*> needed value.*", str(error))
        return f"--{lacking[1]}: needs a value" if lacking else f"fab: {error}"
    word, task = unknown[1], error.context.name if error.context else None
    if not word.startswith("-"):
        return f"{word}: no such task.{did_you_mean(word, ns.task_names)} See fab --list"
    if error.context is None or task is None:
        hosts = "; hosts are chosen with --hosts" if word == "-H" else ""
        return (f"{word}: options stand after the task's name, as in "
                f"fab deploy --env=prod{hosts}. See fab --list")
    hint = did_you_mean(word, error.context.flags)
    return f"{word}: fab {task} has no such option.{hint} See fab --help {task}"


def main() -> None:
    # A polite end is told to us like Ctrl-C, so that we leave everything as tidy.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    Fab(namespace=ns, name="Fabfleet", binary="fab", version=_version()).run()


if __name__ == "__main__":
    main()
