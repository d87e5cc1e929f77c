"""What a program says, line by line, among whatever the project prints."""

import contextlib
import io
import os
import sys


class Lines(io.TextIOWrapper):
    """Standard output or error that never fails for a letter, and knows whether a line is open."""

    open_line = False  # of both together: they are one log

    def write(self, text):
        count = super().write(text)
        if text:
            Lines.open_line = not str(text).endswith("\n")
        return count


def take_over():
    """Before anything of the project is imported: handlers of its logging keep what they find."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        mine = Lines(stream.detach(), encoding="utf-8", errors="backslashreplace",
                     line_buffering=True)
        setattr(sys, name, mine)
        setattr(sys, "__%s__" % name, mine)


def write(text):
    """Whole lines in one piece, behind everything that was said before: a thread, or a program
    that a migration starts, may say something at the same time. sys.stdout may be the project's
    own meanwhile."""
    for stream in (sys.__stdout__, sys.__stderr__, sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or no file at all
            stream.flush()
    start = "\n" if Lines.open_line else ""
    Lines.open_line = False
    rest = (start + text + "\n").encode("utf-8", "backslashreplace")
    while rest:
        rest = rest[os.write(1, rest):]
