"""Every task is made with :func:`command`: errors become a message and an exit code."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from invoke import Context, Exit, Task

from inventories.errors import FabfleetError, UsageError

OPTIONS = {
    "env": "the environment, a folder in inventories/ (default: $FABFLEET_ENV)",
    "inventory": "the folder that holds the environments (default: $FABFLEET_INVENTORY)",
    "hosts": "only these hosts: names, globs, groups, ranges, as in web[1-3],@worker!worker2",
    "yes": "do not ask",
    "json": "machine-readable output",
    "ref": "branch, tag or commit to deploy",
    "worktree": "deploy the work tree as it is, with its uncommitted changes",
    "dry_run": "show what would run; change nothing",
    "strategy": "rolling, together or blue-green (default: as in the inventory)",
    "outside_window": "close the site though no maintenance window is open",
    "maintenance": "stop everything while it migrates",
    "accept_risk": "run this migration (app.name) though it is not safe; once for each",
    "approved_plan": "only this plan of migrations may run: its hash, from fab migrations.sql",
    "reverse": "take migrations back that the older release cannot live with",
    "batch": "how many hosts at a time: 2, 25%, or a list such as 1,5,100%",
    "on_failure": "when a roll fails, stop or revert the hosts that were done",
    "skip_unreachable": "leave out hosts that do not answer; they have to catch up later",
    "to": "the release to go back to (default: the last good one)",
    "reason": "why",
    "at": "when: a moment such as \"2026-12-01 02:00 Europe/London\", or 90m from now",
    "window": "the maintenance window in which it is to run: its name",
    "id": "what fab maintenance.scheduled calls it",
    "until": "the expected end: 90m, 2h, or \"2026-12-01 02:00 Europe/London\"",
    "allow": "addresses for which it stays open, as in 192.0.2.7,198.51.100.0/24",
    "host": "the host's name",
    "user": "who logs in to prepare the hosts: root, or a user with sudo (default: root)",
    "replace": "accept a changed key too",
    "file": "the dump to restore: a path on the migration host, or a name as fab backup.list shows",
    "soak": "the long tests as well",
    "only": "only tests whose name matches, as pytest -k has it",
    "no_lab": "without the lab of systemd hosts",
}


def command(body: Callable[..., None]) -> Task[Callable[..., None]]:
    """A task whose errors are messages; no traceback is shown unless FABFLEET_DEBUG is set."""

    @functools.wraps(body)
    def guarded(context: Context, *words: Any, **options: Any) -> None:
        try:
            if type(context) is not Context:
                raise UsageError("-H: Fabfleet takes hosts from the inventory; use --hosts after "
                                 "the task's name")
            body(context, *words, **options)
            sys.stdout.flush()
        except Exit:
            raise  # the task itself says how it ends
        except FabfleetError as error:
            if os.environ.get("FABFLEET_DEBUG"):
                raise
            raise Exit(str(error), code=error.exit_code) from None
        except KeyboardInterrupt:
            raise Exit("interrupted", code=130) from None
        except BrokenPipeError:
            # Whoever read our output is gone, which is no error of ours.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=141) from None
        except Exception as error:
            if os.environ.get("FABFLEET_DEBUG"):
                raise
            raise Exit(_unexpected(error), code=1) from None

    names = body.__code__.co_varnames[1 : body.__code__.co_argcount]
    texts = {name.replace("_", "-"): OPTIONS[name] for name in names}
    lists = [name for name in names if name == "accept_risk"]
    return Task(guarded, auto_shortflags=False, help=texts, iterable=lists)


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        # A folder that may not be written, a program that is missing: no defect of ours.
        return f"{error.filename}: {error.strerror}"
    return (f"this is a defect of Fabfleet, please report it: {type(error).__name__}: {error}\n"
            f"(FABFLEET_DEBUG=1 shows where)")
