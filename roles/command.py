"""The words a role speaks: commands as data.

Nothing here runs anything. Every word quotes itself; ``Raw`` is the marked exception, and a secret
is a reference that is looked up on the way to the host, never text in a command.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Raw:
    """Shell text that must reach the host unquoted: a redirection, a variable."""

    text: str


Word = str | Raw


@dataclass(frozen=True)
class Command:
    """One shell command, or several joined by :func:`then`, :func:`either` or :func:`pipe`."""

    words: tuple[Word, ...] = ()
    joint: str = ""
    parts: tuple[Command, ...] = ()

    @property
    def line(self) -> str:
        """The whole shell line that a host sees."""
        if not self.parts:
            return " ".join(w.text if isinstance(w, Raw) else shlex.quote(w) for w in self.words)
        return f" {self.joint} ".join(
            f"{{ {part.line}; }}" if part.parts and part.joint != self.joint else part.line
            for part in self.parts
        )


def command(*words: Word) -> Command:
    """One command from its words."""
    return Command(words=words)


def then(*parts: Command) -> Command:
    """``a && b``: the next only when the one before succeeded."""
    return _join("&&", parts)


def either(*parts: Command) -> Command:
    """``a || b``: the next only when the one before failed."""
    return _join("||", parts)


def pipe(*parts: Command) -> Command:
    """``a | b``."""
    return _join("|", parts)


def _join(joint: str, parts: tuple[Command, ...]) -> Command:
    return parts[0] if len(parts) == 1 else Command(joint=joint, parts=parts)


def as_user(user: str | None, inner: Command) -> Command:
    """``inner`` as another user of the host, without ever asking for a password."""
    if user is None:
        return inner
    words = ("sh", "-c", inner.line) if inner.parts else inner.words
    return command("sudo", "-n", "-u", user, "--", *words)


def as_root(inner: Command) -> Command:
    """``inner`` through sudo; a rule written by ``fab hosts.setup`` has to allow exactly this."""
    words = ("sh", "-c", inner.line) if inner.parts else inner.words
    return command("sudo", "-n", *words)


@dataclass(frozen=True)
class LocalFile:
    """A file on the controller whose bytes go to a host; ``digest`` is its SHA-256."""

    path: str
    digest: str


@dataclass(frozen=True)
class SecretRef:
    """Where a secret is found on the controller: an environment variable, a file or a command."""

    source: str
    name: str

    def __str__(self) -> str:
        return f"<secret {self.source}:{self.name}>"


@dataclass(frozen=True)
class Run:
    """Run ``command`` in a shell on the host."""

    command: Command
    kind: str = field(default="run", init=False)

    @property
    def shown(self) -> str:
        return self.command.line


@dataclass(frozen=True)
class OnHost:
    """Run one of the programs of ``roles/onhost`` on the host.

    The program's text, its ``arguments`` (JSON) and the bytes of its ``files`` travel over standard
    input, so that nothing is left behind and no argument shows in the host's process list.
    ``prefix`` is put before the interpreter: another user, another interpreter.
    """

    program: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, LocalFile] = field(default_factory=dict)
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    interpreter: Command = Command(words=("python3", "-I"))
    kind: str = field(default="onhost", init=False)

    @property
    def shown(self) -> str:
        shown: dict[str, Any] = dict(self.arguments)
        shown.update({name: f"<{file.digest[:12]}>" for name, file in self.files.items()})
        shown.update({name: str(secret) for name, secret in self.secrets.items()})
        return f"{self.interpreter.line} {self.program}.py {json.dumps(shown, sort_keys=True)}"


@dataclass(frozen=True)
class Upload:
    """Bring the folder ``source`` of the controller to ``target`` on the host, exactly.

    Files whose content equals the one below ``link_to`` on the host become hard links to it.
    Everything that is in ``target`` and not in ``source`` is deleted.
    """

    source: str
    target: str
    link_to: str | None = None
    digest: str = ""
    kind: str = field(default="upload", init=False)

    @property
    def shown(self) -> str:
        linked = f" (unchanged files linked to {self.link_to})" if self.link_to else ""
        return f"rsync {self.source}/ -> {self.target}/{linked}"


@dataclass(frozen=True)
class OnController:
    """Run ``line`` in a shell on the controller, with the run's facts as environment variables."""

    line: str
    environment: Mapping[str, str] = field(default_factory=dict)
    kind: str = field(default="controller", init=False)

    @property
    def shown(self) -> str:
        return self.line


Action = Run | OnHost | Upload | OnController
