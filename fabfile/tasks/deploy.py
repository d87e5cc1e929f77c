"""Bring a release to every host: plan, deploy, rollback."""

from __future__ import annotations

from invoke import Context

from fabfile.tasks.command import command


@command
def deploy(
    context: Context, env: str = "", ref: str = "", worktree: bool = False,
    hosts: str | None = None, strategy: str = "", dry_run: bool = False, yes: bool = False,
    json: bool = False, inventory: str = "",
) -> None:
    """Deploy a release to every host, one at a time, migrations once."""
    from fabfile.course import Wish, carry_out, show_only

    wish = Wish(env, inventory, hosts, ref or None, worktree, strategy, yes, json)
    if dry_run:
        show_only(wish)
    else:
        carry_out(wish)


@command
def plan(
    context: Context, env: str = "", ref: str = "", worktree: bool = False,
    hosts: str | None = None, strategy: str = "", json: bool = False, inventory: str = "",
) -> None:
    """Show what a deploy would run; change nothing."""
    from fabfile.course import Wish, show_only

    show_only(Wish(env, inventory, hosts, ref or None, worktree, strategy, True, json))


@command
def rollback(
    context: Context, env: str = "", to: str = "", hosts: str | None = None, dry_run: bool = False,
    yes: bool = False, json: bool = False, inventory: str = "",
) -> None:
    """Go back to an earlier release, one host at a time; the database stays as it is."""
    from fabfile.course import show_plans
    from fabfile.session import confirm, connected
    from fabfile.strategies import rollback as strategy

    with connected(env, inventory, hosts, json) as session:
        session.probe()
        facts = [session.facts[host.name] for host in session.hosts]
        chosen = strategy.choose(facts, session.environment.name, to or None)
        fleet = session.fleet_of(chosen)
        plan = strategy.plan(fleet)
        show_plans(session, json, full=dry_run, plans=[plan])
        if dry_run:
            return
        confirm(session, yes)
        with session.run("rollback") as run:
            fleet = session.fleet_of(chosen)
            again = f"fab rollback --env={session.environment.name} --to={chosen}"
            run.execute_or_fail(strategy.plan(fleet), again)
        session.lines.write(f"every host is back on {chosen}")
