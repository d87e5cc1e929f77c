"""Prepare hosts, check them, and learn their keys."""

from __future__ import annotations

from invoke import Context

from fabfile.tasks.command import command


@command
def setup(
    context: Context, env: str = "", hosts: str | None = None, user: str = "root",
    dry_run: bool = False, yes: bool = False, inventory: str = "",
) -> None:
    """Prepare fresh Debian or Ubuntu hosts: packages, users, folders, units, sudo rules."""
    from fabfile.preparation import prepare_hosts

    prepare_hosts(env, inventory, hosts, user, dry_run, yes)


@command
def check(context: Context, env: str = "", hosts: str | None = None, json: bool = False,
          inventory: str = "") -> None:
    """Can every host be deployed to? Look, change nothing."""
    from fabfile.overview import check_hosts

    check_hosts(env, inventory, hosts, json)


@command
def trust(
    context: Context, env: str = "", hosts: str | None = None, replace: bool = False,
    yes: bool = False, inventory: str = "",
) -> None:
    """Accept hosts' SSH keys into the environment's known_hosts, after showing them."""
    from fabfile.preparation import trust_hosts

    trust_hosts(env, inventory, hosts, replace, yes)
