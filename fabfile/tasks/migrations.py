"""What is pending in the database, its SQL, and the job alone."""

from __future__ import annotations

from collections.abc import Sequence

from invoke import Context

from fabfile.tasks.command import command


@command
def pending(context: Context, env: str = "", ref: str = "", worktree: bool = False,
            json: bool = False, inventory: str = "") -> None:
    """What a deploy would migrate, and what that means for the code that runs."""
    from fabfile.schema import show_pending

    show_pending(env, inventory, ref or None, worktree, json)


@command
def sql(context: Context, env: str = "", ref: str = "", worktree: bool = False,
        inventory: str = "") -> None:
    """The SQL of it as one file, with the hash that approves it on top."""
    from fabfile.schema import show_sql

    show_sql(env, inventory, ref or None, worktree)


@command
def run(context: Context, env: str = "", accept_risk: Sequence[str] | None = None,
        yes: bool = False, inventory: str = "") -> None:
    """Only migrate: what is pending in the release that serves."""
    from fabfile.schema import run_job

    run_job(env, inventory, tuple(accept_risk or ()), yes)
