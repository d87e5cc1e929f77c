"""The ``fab`` command: Invoke's program with our tasks. Fabric itself is loaded by the first task
that needs SSH, so that ``fab --list`` answers at once."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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

    def _make_pairs(self, *words: Any, **options: Any) -> list[tuple[str, str | None]]:
        pairs: list[tuple[str, str | None]] = super()._make_pairs(*words, **options)
        return sorted((_typed(name.partition(" (")[0]), text) for name, text in pairs)


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
    word = unknown[1]
    task = _typed(error.context.name) if error.context and error.context.name else None
    if not word.startswith("-"):
        known = [_typed(name) for name in ns.task_names]
        return f"{word}: no such task.{did_you_mean(word, known)} See fab --list"
    if error.context is None or task is None:
        hosts = "; hosts are chosen with --hosts" if word == "-H" else ""
        return (f"{word}: options stand after the task's name, as in "
                f"fab deploy --env=prod{hosts}. See fab --list")
    hint = did_you_mean(word, error.context.flags)
    return f"{word}: fab {task} has no such option.{hint} See fab --help {task}"


def _typed(task: str) -> str:
    """``deploy`` for deploy.deploy: the default task of a collection is typed like this."""
    collection, _, name = task.rpartition(".")
    is_default = collection in ns.collections and ns.collections[collection].default == name
    return collection if is_default else task


def main() -> None:
    # A polite end is told to us like Ctrl-C, so that we leave everything as tidy.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        Fab(namespace=ns, name="Fabfleet", binary="fab", version=_version()).run()
    except BrokenPipeError:
        # Whoever read our output is gone, which is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
