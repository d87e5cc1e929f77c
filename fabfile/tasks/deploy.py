"""Bring a release to every host: plan, deploy, rollback."""

from __future__ import annotations

from collections.abc import Sequence

from invoke import Context

from fabfile.tasks.command import command


@command
def deploy(
    context: Context, env: str = "", ref: str = "", worktree: bool = False,
    hosts: str | None = None, strategy: str = "", maintenance: bool = False,
    accept_risk: Sequence[str] | None = None, approved_plan: str = "", batch: str = "",
    on_failure: str = "", skip_unreachable: bool = False, outside_window: bool = False,
    dry_run: bool = False, yes: bool = False, json: bool = False, inventory: str = "",
) -> None:
    """Deploy a release to every host, one at a time, migrations once."""
    from fabfile.course import Wish, carry_out, show_only

    wish = Wish(env, inventory, hosts, ref or None, worktree, strategy, yes, json, maintenance,
                tuple(accept_risk or ()), approved_plan, batch, on_failure, skip_unreachable,
                outside_window)
    if dry_run:
        show_only(wish)
    else:
        carry_out(wish)


@command
def finish(context: Context, env: str = "", accept_risk: Sequence[str] | None = None,
           yes: bool = False, inventory: str = "") -> None:
    """Run the migrations that had to wait until no old code runs."""
    from fabfile.schema import finish_deploy

    finish_deploy(env, inventory, tuple(accept_risk or ()), yes)


@command
def plan(
    context: Context, env: str = "", ref: str = "", worktree: bool = False,
    hosts: str | None = None, strategy: str = "", maintenance: bool = False,
    accept_risk: Sequence[str] | None = None, approved_plan: str = "", batch: str = "",
    on_failure: str = "", skip_unreachable: bool = False, json: bool = False,
    inventory: str = "",
) -> None:
    """Show what a deploy would run; change nothing."""
    from fabfile.course import Wish, show_only

    show_only(Wish(env, inventory, hosts, ref or None, worktree, strategy, True, json, maintenance,
                   tuple(accept_risk or ()), approved_plan, batch, on_failure,
                   skip_unreachable))


@command
def rollback(
    context: Context, env: str = "", to: str = "", hosts: str | None = None, reverse: bool = False,
    maintenance: bool = False, accept_risk: Sequence[str] | None = None, dry_run: bool = False,
    yes: bool = False, json: bool = False, inventory: str = "",
) -> None:
    """Go back to an earlier release, one host at a time, where the database allows it."""
    from fabfile.going_back import Wish, roll_back

    wish = Wish(env, inventory, hosts, to or None, reverse, maintenance, tuple(accept_risk or ()),
                yes, json)
    roll_back(wish, dry_run)
