"""The page in the site's place, by hand."""

from __future__ import annotations

from collections.abc import Sequence

from invoke import Context

from fabfile.tasks.command import command


@command
def on(context: Context, env: str = "", reason: str = "", until: str = "", allow: str = "",
       yes: bool = False, inventory: str = "") -> None:
    """Close the site: show everybody the maintenance page."""
    from fabfile.maintenance import close

    close(env, inventory, reason, until, allow, yes)


@command
def off(context: Context, env: str = "", yes: bool = False, inventory: str = "") -> None:
    """Open the site again."""
    from fabfile.maintenance import open_again

    open_again(env, inventory, yes)


@command
def status(context: Context, env: str = "", json: bool = False, inventory: str = "") -> None:
    """Say whether the site is closed, since when, why, and how to open it."""
    from fabfile.maintenance import show

    show(env, inventory, json)


@command
def config(context: Context, env: str = "", inventory: str = "") -> None:
    """Print what the server in front of the site needs in its configuration, once."""
    from fabfile.maintenance import show_config

    show_config(env, inventory)


@command
def next_(context: Context, env: str = "", inventory: str = "") -> None:
    """Show when the next maintenance windows are."""
    from fabfile.windows import show_next

    show_next(env, inventory)


@command
def schedule(
    context: Context, env: str = "", at: str = "", window: str = "", ref: str = "",
    accept_risk: Sequence[str] | None = None, approved_plan: str = "",
    outside_window: bool = False, yes: bool = False, inventory: str = "",
) -> None:
    """Let this machine deploy in a maintenance window, by itself: this release, this plan."""
    from fabfile.schedule import Asked, add

    add(Asked(env, inventory, at, window, ref, tuple(accept_risk or ()), approved_plan,
              outside_window, yes))


@command
def scheduled(context: Context, env: str = "", json: bool = False) -> None:
    """Show what is scheduled on this machine, and what became of it."""
    from fabfile.schedule import show

    show(env, json)


@command
def cancel(context: Context, id: str = "") -> None:  # noqa: A002 - it is the option's name
    """Take back what is scheduled."""
    from fabfile.schedule import cancel as take_back

    take_back(id)
