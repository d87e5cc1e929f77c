"""``fab`` that is killed by SIGKILL right after one line of its journal is on disk.

    kill_at.py WHERE WORDS...

WHERE is the number of the line, or its name as :func:`name` makes it, such as
``started/release.upload/web2`` or ``stage/roll``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from fabfile.engine.journal import Journal
from fabfile.program import main


def name(event: Mapping[str, Any]) -> str:
    """A name for a journal's line that is the same in every run of the same deploy."""
    if event["event"] in ("started", "finished"):
        return f"{event['event']}/{event['step']}/{event['host']}"
    plan = event.get("plan", "")
    what = plan["name"] if isinstance(plan, Mapping) else plan
    return "/".join(filter(None, (event["event"], what or event.get("stage"))))


def arm(where: str) -> None:
    written = 0
    write = Journal.write

    def write_and_die(self: Journal, event: str, **values: Any) -> None:
        nonlocal written
        write(self, event, **values)
        written += 1
        if where in (str(written), name({"event": event, **values})):
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.write = write_and_die  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.argv = ["fab", *sys.argv[2:]]
    main()
