"""Management commands of the application, on the migration host."""

from __future__ import annotations

import sys

from invoke import Context, Exit

from fabfile.errors import UsageError
from fabfile.tasks.command import command


@command
def manage(context: Context, env: str = "", inventory: str = "") -> None:
    """Run a management command where migrations run: fab manage --env=prod -- showmigrations."""
    from fabfile.management import run

    # Invoke joins what comes after -- with blanks, so that words with blanks would fall apart.
    words = sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else []
    if not words:
        raise UsageError("fab manage: expected a command after --, as in "
                         "fab manage --env=prod -- showmigrations catalog")
    raise Exit(code=run(env, inventory, words))
