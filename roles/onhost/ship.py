"""How a program reaches a host: one line of shell, everything else over standard input.

A program is one file of this folder, or a module of one of its folders, named ``folder.module``;
such a module has a function ``main(arguments)`` and travels with all modules beside it. What it is
given as files is in ``arguments["files"]``.
"""

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
    folder, dot, module = program.partition(".")
    if not dot:
        return (FOLDER / f"{program}.py").read_bytes()
    sources = {path.stem: path.read_text(encoding="utf-8")
               for path in sorted((FOLDER / folder).glob("*.py")) if path.stem != "__init__"}
    head = (FOLDER / "bundle.py").read_text(encoding="utf-8")
    given = "ARGUMENTS, globals().get('FILES')"
    call = f"become('fabfleet_{folder}', {sources!r}, {module!r}, {given})"
    return f"{head}\n\n{call}\n".encode()


def standalone(program: str, arguments: Mapping[str, Any]) -> bytes:
    """The source of a file that runs the program, for work that outlives its connection."""
    return f"ARGUMENTS = {json.loads(json.dumps(arguments))!r}\n".encode() + text(program)


def line(interpreter: Command) -> Command:
    """The shell line that starts a program from standard input."""
    return command(*interpreter.words, "-c", BOOT)


def package(program: str, arguments: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    """What goes to standard input.

    Arguments may name another program that this one is to start: {"ships": {"program",
    "arguments"}}; it travels as the file "program", and this one once more as the file "self".
    """
    source = text(program)
    if "ships" in arguments:
        other = standalone(**arguments["ships"])
        arguments = {name: each for name, each in arguments.items() if name != "ships"}
        files = {**files, "program": other, "self": source}
    header = {
        "name": f"{program}.py",
        "size": len(source),
        "arguments": dict(arguments),
        "files": [[name, len(content)] for name, content in files.items()],
    }
    return json.dumps(header).encode() + b"\n" + source + b"".join(files.values())
