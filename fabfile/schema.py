"""The tasks about migrations alone: what is pending, its SQL, the job, the end of a deploy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fabfile.agreement import backed_up, contract, readable
from fabfile.course import looked, show_plans
from fabfile.display import migrations as text
from fabfile.display.lines import fold
from fabfile.engine.django import ask_plan, question
from fabfile.errors import Refused
from fabfile.plan import Plan
from fabfile.session import Run, Session, confirm, connected
from fabfile.strategies import blue_green, migrating
from fabfile.strategies.scheduling import paused
from fabfile.strategies.stages import migrate_stage
from fabfile.strategies.targets import Fleet
from roles.migrations import Judged


def show_pending(env: str, inventory: str, ref: str | None, worktree: bool, as_json: bool) -> None:
    """``fab migrations``."""
    with connected(env, inventory, json=as_json) as session:
        answer = _ask(session, ref, worktree)
        if as_json:
            print(json.dumps(answer, indent=1, sort_keys=True))
            return
        for line in text.lines(answer["plans"], answer["decision"], session.lines.colour):
            session.lines.write(line)


def show_sql(env: str, inventory: str, ref: str | None, worktree: bool) -> None:
    """``fab migrations.sql``: to standard output, and nothing else there."""
    with connected(env, inventory, json=True) as session:
        answer = _ask(session, ref, worktree, sql=True)
        typed = f" --ref={ref}" if ref else " --worktree" if worktree else ""
        print("\n".join(_sql(answer, f"--env={session.environment.name}{typed}")))


def _ask(session: Session, ref: str | None, worktree: bool, **more: Any) -> dict[str, Any]:
    """The answer of the release that a deploy would bring, staged or not."""
    _refuse_none(session)
    exported = session.export(ref, worktree)
    session.probe()
    fleet = session.fleet(exported)
    with readable(session, fleet) as target:
        found = question(session.transport, target, **more)
    return {"environment": session.environment.name, "release": fleet.release.id, **found}


def _sql(answer: Mapping[str, Any], typed: str) -> Iterator[str]:
    """``typed``: the options that choose this release."""
    yield f"-- plan {answer['hash']}"
    yield (f"-- of release {answer['release']} for {answer['environment']}; to run this and "
           f"nothing else:")
    yield f"--   fab deploy {typed} --approved-plan={answer['hash'][:12]}"
    for alias, plan in answer["plans"].items():
        if not plan["pending"]:
            yield f"-- {alias}: nothing is pending"
        for each in plan["pending"]:
            yield ""
            where = f" in {alias}" if len(answer["plans"]) > 1 else ""
            yield f"-- {each['migration']}{where}: {each['phase']}; blocks {each['blocks']}"
            yield from answer["sql"][alias][each["migration"]]


def run_job(env: str, inventory: str, accepted: Sequence[str], yes: bool) -> None:
    """``fab migrations.run``: what is pending in the release that the migration host serves."""
    with connected(env, inventory) as session:
        fleet = _serving(session)
        again = f"fab migrations.run --env={session.environment.name}"
        everywhere = {each.current for each in session.facts.values()} == {fleet.release.id}
        confirm(session.environment, yes)
        with session.run("migrations.run") as run:
            judged = ask_plan(session.transport, fleet.migration)
            if everywhere:
                portion = migrating.with_new_code_only(judged, accepted, again)
            else:
                portion, _ = migrating.while_it_serves(judged, accepted, again)
            portion = backed_up(session, fleet.migration, judged, portion)
            if portion is None:
                session.lines.write(_nothing(judged, fleet))
                return
            stages = paused(fleet, migrate_stage(fleet, portion))
            plan = Plan("migrate", fleet.environment, fleet.release.id, "migrate", stages)
            run.execute_or_fail(plan, again)
        session.lines.write(f"applied: {', '.join(portion.names)}")


def finish_deploy(env: str, inventory: str, accepted: Sequence[str], yes: bool) -> None:
    """``fab deploy.finish``: what had to wait until no old code runs."""
    with connected(env, inventory) as session:
        session.probe()
        if not blue_green.behind(_fleet(session)):
            _refuse_none(session)
        confirm(session.environment, yes)
        again = f"fab deploy.finish --env={session.environment.name}"
        with session.run("deploy.finish") as run:
            fleet = _followed(run, again)
            _refuse_others(fleet)
            judged, portion = None, None
            if session.environment.has_migrations:
                judged = ask_plan(session.transport, fleet.migration)
                portion = migrating.with_new_code_only(judged, accepted, again)
                portion = backed_up(session, fleet.migration, judged, portion)
            if portion is None:
                session.lines.write(_nothing(judged, fleet))
                return
            contract(run, replace(fleet, contract=portion))
        session.lines.write(f"applied: {', '.join(portion.names)}")


def _followed(run: Run, again: str) -> Fleet:
    """The fleet, after the group that waits got the release too."""
    fleet = _fleet(run.session)
    behind = blue_green.behind(fleet)
    if not behind:
        return fleet
    lacking = [each.name for each in behind if fleet.release.id not in each.facts.releases]
    if lacking:
        raise Refused(f"{fold(lacking)}: {fleet.release.id} is not there; bring it: "
                      f"fab deploy --env={fleet.environment}")
    plan = blue_green.follow(fleet)
    show_plans(run.session, False, full=False, plans=[plan])
    run.execute_or_fail(plan, again)
    run.session.probe()
    return _fleet(run.session)


def _refuse_others(fleet: Fleet) -> None:
    others = [each.name for each in fleet.targets if each.facts.current != fleet.release.id]
    if others:
        raise Refused(
            f"{', '.join(others)}: not on {fleet.release.id} yet, and old code cannot live "
            f"with what is pending; deploy {fleet.release.id} there first"
        )


def _nothing(judged: Judged | None, fleet: Fleet) -> str:
    held = ", ".join(judged.pending if judged else ())
    return (f"these have to wait for the new code: {held}" if held
            else f"nothing is pending in {fleet.release.id}")


def _refuse_none(session: Session) -> None:
    if not session.environment.has_migrations:
        host = session.environment.migration_host
        raise Refused(f"{host.where('migrations', 'command')}: is empty, so there are none")


def _serving(session: Session) -> Fleet:
    _refuse_none(session)
    session.probe()
    return _fleet(session)


def _fleet(session: Session) -> Fleet:
    """The fleet with the release that it serves: the migration host's, or the one of the group that
    its balancer sends requests to."""
    seen = looked(session, session.fleet_of(""))
    authority = session.environment.migration_host
    serving = [each.host for each in seen.targets if each.name in seen.rotating]
    release = session.deployed_on(serving[0] if serving else authority)
    return replace(session.fleet_of(release), rotating=seen.rotating)
