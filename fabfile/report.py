"""How a run ended, in words: what failed and why, where every host is, what to type next."""

from __future__ import annotations

from collections.abc import Mapping

from fabfile.engine.events import Failure
from fabfile.engine.outcome import Kind
from fabfile.engine.run import Result
from fabfile.plan import Plan
from roles.role import HostFacts


def failure_text(
    plan: Plan, result: Result, facts: Mapping[str, HostFacts], again: str
) -> str:
    lines: list[str] = []
    for failure in result.failures:
        lines += _failure(failure)
    if result.interrupted and not result.failures:
        lines.append(f"interrupted after the stage {result.reached or 'none'}")
    for host, step in result.running.items():
        lines.append(f"{host}: {step} may still be running there")
    if facts:
        lines.append("where every host is now:")
        lines += [f"  {line}" for line in states(facts, plan.release)]
    if again:
        lines.append(f"next: {again}")
    return "\n".join(lines)


def _failure(failure: Failure) -> list[str]:
    outcome, step = failure.outcome, failure.step
    kind = "" if outcome.kind is Kind.FAILED else f"{outcome.kind.value}: "
    reason = outcome.reason.strip().splitlines() or [f"exit status {outcome.exit}"]
    lines = [f"{step.host}: {step.name}: {kind}{reason[0]}"]
    lines += [f"    {line}" for line in reason[1:][-30:]]
    if failure.diagnosis:
        lines.append("  the last lines of its log:")
        lines += [f"    {line}" for line in failure.diagnosis.splitlines()[-30:]]
    if failure.recovered is True:
        lines.append(f"{step.host}: put back on the release it had")
    if failure.recovered is False:
        lines.append(f"{step.host}: COULD NOT BE PUT BACK; it needs a look")
    return lines


def states(facts: Mapping[str, HostFacts], release: str) -> list[str]:
    """One line a host: its current release, and whether a process really runs it."""
    width = max(map(len, facts), default=0)
    return [f"{name:{width}}  {_state(each, release)}" for name, each in facts.items()]


def _state(facts: HostFacts, release: str) -> str:
    if facts.current is None:
        return "nothing deployed yet"
    new = "new" if facts.current == release else "old"
    running = ", ".join(facts.running) or "nothing"
    runs = "" if facts.running == (facts.current,) else f"; running: {running}"
    services = ", ".join(f"{name} {state}" for name, state in facts.services.items())
    return f"{facts.current} ({new}){runs}{'; ' + services if services else ''}"
