"""Look at the fleet; freeze and unfreeze it."""

from __future__ import annotations

from invoke import Context

from fabfile.tasks.command import command


@command
def status(context: Context, env: str = "", hosts: str | None = None, json: bool = False,
           inventory: str = "") -> None:
    """Where every host is: release, service, lock, unfinished runs."""
    from fabfile.overview import show_status

    show_status(env, inventory, hosts, json)


@command
def releases(context: Context, env: str = "", hosts: str | None = None, json: bool = False,
             inventory: str = "") -> None:
    """The releases on the hosts, the newest first; * is current."""
    from fabfile.overview import list_releases

    list_releases(env, inventory, hosts, json)


@command
def inventory_(context: Context, env: str = "", json: bool = False, inventory: str = "") -> None:
    """Hosts, groups and resolved settings; secrets are masked."""
    from fabfile.overview import show_inventory

    show_inventory(env, inventory, json)


@command
def lock(context: Context, env: str = "", reason: str = "", json: bool = False,
         inventory: str = "") -> None:
    """Show the lock; with --reason, freeze the fleet: no deploy until fab unlock."""
    from fabfile.freeze import freeze, show

    if reason:
        freeze(env, inventory, reason)
    else:
        show(env, inventory, json)


@command
def unlock(context: Context, env: str = "", inventory: str = "") -> None:
    """Lift a freeze, and clear what a run left that is gone. Never takes a living run's lock."""
    from fabfile.freeze import lift

    lift(env, inventory)


@command
def verify(context: Context, env: str = "", hosts: str | None = None, inventory: str = "") -> None:
    """Run the roles' testinfra checks on the real hosts."""
    from fabfile.verification import verify_hosts

    verify_hosts(env, inventory, hosts)
