"""Back the databases up, look at what there is, and practise the restore."""

from __future__ import annotations

from invoke import Context

from fabfile.tasks.command import command


@command
def take(context: Context, env: str = "", dry_run: bool = False, json: bool = False,
         inventory: str = "") -> None:
    """Back every database up now, on the migration host; each dump is read back whole."""
    from fabfile.backups import take as run

    run(env, inventory, dry_run, json)


@command
def list_(context: Context, env: str = "", json: bool = False, inventory: str = "") -> None:
    """The backups that there are, the newest first, and the last drill."""
    from fabfile.backups import show

    show(env, inventory, json)


@command
def drill(context: Context, env: str = "", file: str = "", json: bool = False,
          inventory: str = "") -> None:
    """Restore the newest backup into a scratch database, compare, and drop it again."""
    from fabfile.backups import practise

    practise(env, inventory, file, json)
