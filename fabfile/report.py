"""How a run ended, in words: what failed and why, where every host is, what to type next."""

from __future__ import annotations

from collections.abc import Mapping

from fabfile.display.lines import fold, headline
from fabfile.engine.events import Failure
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.run import Result
from fabfile.plan import Plan
from roles.instances import is_boot_unit
from roles.role import HostFacts


def failure_text(
    plan: Plan, result: Result, facts: Mapping[str, HostFacts], silent: Mapping[str, Outcome],
    again: str,
) -> str:
    """``facts`` are of the hosts that answer now, ``silent`` are the others."""
    lines = _told(result.failures)
    lines += _sudo_hint(plan, result.failures)
    for host, back in result.reverted.items():
        lines.append(f"{host}: was done, and is back on the release it had" if back else
                     f"{host}: was done, and COULD NOT BE PUT BACK; it needs a look")
    if result.interrupted and not result.failures:
        lines.append(f"interrupted after the stage {result.reached or 'none'}")
    for host, step in result.running.items():
        lines.append(f"{host}: {step} may still be running there")
    if facts or silent:
        lines.append("where every host is now:")
        lines += [f"  {line}" for line in states(facts, plan.release)]
        lines += [f"  {name}  did not answer: {each.reason}" for name, each in silent.items()]
    if again:
        lines.append(f"next: {again}")
    return "\n".join(lines)


def _told(failures: list[Failure]) -> list[str]:
    """Hosts that failed in the same way are told of together."""
    alike: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in failures:
        key = (failure.step.name, failure.outcome.kind.value, _neutral(failure))
        alike.setdefault(key, []).append(failure)
    return [line for group in alike.values() for line in _failure(group)]


def _neutral(failure: Failure) -> str:
    return failure.outcome.reason.strip().replace(_about(failure), "\0")


def _failure(group: list[Failure]) -> list[str]:
    first = group[0]
    outcome, step = first.outcome, first.step
    hosts = fold(map(_about, group))
    kind = "" if outcome.kind is Kind.FAILED else f"{outcome.kind.value}: "
    reason = outcome.reason.strip().splitlines() or [f"exit status {outcome.exit}"]
    lines = [f"{hosts}: {step.name}: {kind}{headline(outcome.reason)}"]
    lines += [f"    {line}" for line in reason[-30:] if len(reason) > 1]
    for failure in group:
        if failure.diagnosis:
            lines.append(f"  {failure.step.host}: the last lines of its log:")
            lines += [f"    {line}" for line in unrepeated(failure.diagnosis.splitlines())[-30:]]
    for failure in group:
        if failure.recovered is True:
            lines.append(f"{_host(failure)}: put back on the release it had")
        if failure.recovered is False:
            lines.append(f"{_host(failure)}: COULD NOT BE PUT BACK; it needs a look")
    return lines


def _host(failure: Failure) -> str:
    """Whose turn it was."""
    return failure.turn or failure.step.host


def _about(failure: Failure) -> str:
    """The host that it is about: what a balancer is asked is about whose turn it is."""
    return failure.turn if failure.step.rotation else failure.step.host


def _sudo_hint(plan: Plan, failures: list[Failure]) -> list[str]:
    """sudo puts its own name before what it refuses, whatever the language."""
    hosts = fold(each.step.host for each in failures if each.outcome.stderr.startswith("sudo: "))
    if not hosts:
        return []
    setup = f"fab hosts.setup --env={plan.environment} --hosts={hosts}"
    return [f"{hosts}: sudo lacks the rules that a deploy needs; write them anew: {setup}"]


def unrepeated(lines: list[str]) -> list[str]:
    """The same line many times in a row is shown once, with the number."""
    shown: list[tuple[str, int]] = []
    for line in lines:
        if shown and shown[-1][0] == line:
            shown[-1] = (line, shown[-1][1] + 1)
        else:
            shown.append((line, 1))
    return [line if count == 1 else f"{line} ({count} times)" for line, count in shown]


def states(facts: Mapping[str, HostFacts], release: str | None) -> list[str]:
    """One line a host: its current release, and whether a process really runs it. With ``release``
    it is said which hosts have that one."""
    width = max(map(len, facts), default=0)
    return [f"{name:{width}}  {_state(each, release)}" for name, each in facts.items()]


def _state(facts: HostFacts, release: str | None) -> str:
    if facts.current is None:
        return "nothing deployed yet"
    new = "" if release is None else " (new)" if facts.current == release else " (old)"
    working = facts.working
    running = ", ".join(working) or "nothing"
    runs = "" if working == (facts.current,) else f"; running: {running}"
    if facts.draining:
        runs += f"; also there: {', '.join(facts.draining)}"
    services = ", ".join(f"{name} {state}" for name, state in facts.services.items()
                         if not is_boot_unit(name))
    return f"{facts.current}{new}{runs}{'; ' + services if services else ''}"
