"""The commit that a ref means now, asked by a process of its own: git may wait for a server for
ever, and gets none of the bot's tokens.

    python -P -m fabfile.chat.commit ENVIRONMENT INVENTORY REF

prints it, or nothing for a plain folder. Exit 2, with the reason, where there is none.
"""

from __future__ import annotations

import sys

from fabfile.engine.source import commit_of
from fabfile.environment import open_environment
from fabfile.errors import FabfleetError
from roles.release import ReleaseSettings

PROGRAM = (sys.executable, "-P", "-m", "fabfile.chat.commit")


def main(name: str, inventory: str, ref: str) -> int:
    try:
        environment = open_environment(name, inventory or None)
        settings = environment.of(ReleaseSettings, "release")
        where = environment.hosts[0].where("release")
        print(commit_of(settings, where, ref or None) or "")
    except FabfleetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
