"""How a program reaches a host: one line of shell, everything else over standard input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from roles.command import Command, command

FOLDER = Path(__file__).parent

# Reads a JSON header line, then the program, then the files it was given, and becomes the program.
BOOT = (
    "import sys,json;i=sys.stdin.buffer;h=json.loads(i.readline());p=i.read(h['size']);"
    "exec(compile(p,h['name'],'exec'),dict(__name__='__main__',ARGUMENTS=h['arguments'],"
    "FILES={n:i.read(k) for n,k in h['files']}))"
)


@cache
def text(program: str) -> bytes:
    """The source of one program."""
    return (FOLDER / f"{program}.py").read_bytes()


def line(interpreter: Command) -> Command:
    """The shell line that starts a program from standard input."""
    return command(*interpreter.words, "-c", BOOT)


def package(program: str, arguments: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """What goes to standard input."""
    source = text(program)
    header = {
        "name": f"{program}.py",
        "size": len(source),
        "arguments": dict(arguments),
        "files": [[name, len(content)] for name, content in files.items()],
    }
    return json.dumps(header).encode() + b"\n" + source + b"".join(files.values())
