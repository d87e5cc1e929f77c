"""A copy of the new release on the migration host, outside the deploy root, to ask Django in.

It is removed on every way out, so that a dry run changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from shlex import quote
from typing import Any

from fabfile.engine import secrets
from fabfile.engine.outcome import Outcome
from fabfile.engine.transport import Call, Sync, Transport
from fabfile.errors import Failed
from fabfile.strategies.stages import of_roles
from roles.command import Action, OnHost, Run, Upload, command, then
from roles.onhost import ship
from roles.role import HostFacts, Paths, Target


@contextmanager
def copy(transport: Transport, target: Target) -> Iterator[Target]:
    """The target as it would be after staging, but below a temporary folder.

    Raises :class:`Failed` when the copy cannot be made.
    """
    # The name is ours, so that an interrupt at any moment finds what it has to remove; nobody
    # guesses it, and mkdir refuses one that is taken.
    folder = f"/tmp/fabfleet-dry-run-{token_hex(8)}"  # noqa: S108
    try:
        place = _placed(target, folder)
        _check(target, transport.run(target.host, Call(_layout(target, folder))))
        for role_step in of_roles("stage", place):
            if role_step.name in WANTED:
                for action in role_step.actions:
                    _check(target, _perform(transport, place, action, role_step.timeout))
        yield place
    finally:
        gone = command("rm", "-rf", folder).line
        transport.run(target.host, Call(f"{_hold(folder, '-x -w 90')}{gone}", timeout=120))


def _hold(folder: str, how: str = "-s") -> str:
    """Shell that holds the folder while a command writes into it, so that what an interrupt left
    running is waited for and cannot bring back what was removed."""
    return f"exec 9<{quote(folder)} || exit; flock {how} 9; "


WANTED = ("app.secrets", "release.upload", "release.publish", "python.uv", "python.wheelhouse",
          "python.venv")


def _layout(target: Target, folder: str) -> str:
    """The scratch root, with the real root's shared files and finished environments in it."""
    real = target.paths.root
    return then(
        command("mkdir", "-m", "755", folder),
        command("mkdir", "-p", f"{folder}/releases", f"{folder}/venvs",
                f"{folder}/.fabfleet/releases"),
        command("ln", "-s", f"{real}/shared", f"{folder}/shared"),
        *(command("ln", "-s", f"{real}/venvs/{venv}", f"{folder}/venvs/{venv}")
          for venv in target.facts.venvs),
    ).line


def _placed(target: Target, folder: str) -> Target:
    """The same target with ``folder`` as its root and nothing but its environments there."""
    facts: HostFacts = replace(target.facts, current=None, releases=(), statics=(), running=())
    paths = Paths(folder)
    runtime: dict[str, Any] = dict(target.runtime)
    for key in ("directory", "venv"):
        if runtime[key]:
            runtime[key] = runtime[key].replace(target.paths.root, folder, 1)
    return replace(target, facts=facts, paths=paths, runtime=runtime)


def _perform(transport: Transport, target: Target, action: Action, timeout: float) -> Outcome:
    hold = _hold(target.paths.root)
    if isinstance(action, Upload):
        sync = Sync(action.source, action.target, timeout=timeout, before=hold)
        return transport.sync(target.host, sync)
    if isinstance(action, Run):
        return transport.run(target.host, Call(f"{hold}{action.command.line}", timeout=timeout))
    assert isinstance(action, OnHost)
    files = {name: Path(file.path).read_bytes() for name, file in action.files.items()}
    files |= {name: secrets.resolve(each).encode() for name, each in action.secrets.items()}
    package = ship.package(action.program, action.arguments, files)
    line = ship.line(action.interpreter).line
    return transport.run(target.host, Call(f"{hold}{line}", package, timeout=timeout))


def _check(target: Target, outcome: Outcome) -> None:
    if not outcome:
        raise Failed(f"{target.name}: the scratch copy for the dry run failed: {outcome.reason}")
