"""Run one of the programs of ``roles/onhost`` on the controller, as a process of its own.

    python -P -m fabfile.engine.here balancing.command '{"action": "look", ...}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from roles.onhost import ship


def main(words: Sequence[str]) -> None:
    program, arguments = words
    code = compile(ship.text(program), f"{program}.py", "exec")
    exec(code, {"__name__": "__main__", "ARGUMENTS": json.loads(arguments), "FILES": {}})  # noqa: S102 - our own text


if __name__ == "__main__":
    main(sys.argv[1:])
