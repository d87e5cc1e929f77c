"""What the pending migrations allow: roll, expand then roll then contract, or stop and say why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fabfile.errors import Refused
from roles.migrations import Judged, Portion
from roles.migrations.judged import names_in

EXPAND, CONTRACT, ALL = "expand", "contract", "all"


def everything(judged: Judged, accepted: Sequence[str] = ()) -> Portion | None:
    """All that is pending at once, for when no code runs meanwhile. ``accepted``: names that the
    database has and this code has not.

    Raises :class:`Refused` where the history itself cannot be trusted.
    """
    _refuse_bad_history(judged, accepted)
    return _portion(ALL, judged, _everything_in(judged), ())


def while_it_serves(
    judged: Judged, accepted: Sequence[str], again: str, window: str = ""
) -> tuple[Portion | None, Portion | None]:
    """What runs before any host is switched, and what waits until no old code runs.

    ``accepted``: names that are not safe and run all the same; ``again``: the command that was
    typed; ``window``: the one that stops everything for it, if there is one. Raises
    :class:`Refused`, naming each migration that is not safe, why, and the remedy.
    """
    _refuse_bad_history(judged, accepted)
    _refuse_offenders(
        judged, judged.decision["offenders"], accepted,
        "these migrations are not safe while the old code serves:",
        [f"{window}    (stops everything while it migrates)"] if window else [], again)
    expand, contract = {}, {}
    for alias, plan in judged.plans.items():
        first = _before(plan["pending"], set(accepted))
        names = names_in(plan)
        expand[alias] = [name for name in names if name in first]
        contract[alias] = [name for name in names if name not in first]
    return (_portion(EXPAND, judged, expand, accepted),
            _portion(CONTRACT, judged, contract, accepted))


def with_new_code_only(
    judged: Judged, accepted: Sequence[str], again: str
) -> Portion | None:
    """All that is pending, where nothing but the code that wants it runs: only what would block a
    big table speaks against it. Raises :class:`Refused` for that."""
    _refuse_bad_history(judged, accepted)
    heavy = [each for each in judged.decision["offenders"] if each["heavy"]]
    _refuse_offenders(judged, heavy, accepted,
                      "these migrations keep everybody waiting for a big table:", [], again)
    return _portion(CONTRACT, judged, _everything_in(judged), accepted)


def refuse_old_code_later(
    judged: Judged, skipped: Sequence[str], accepted: Sequence[str], closes: bool,
    outside: Sequence[str] = (),
) -> None:
    """A host that was skipped comes back with the old code, at a moment of its own, and one outside
    of this run serves on with it. Raises :class:`Refused` where that could not live with what is to
    run now."""
    risky = [each["migration"] for plan in judged.plans.values() for each in plan["pending"]
             if each["phase"] not in ("any", "before")
             and (closes or each["migration"] in accepted)]
    if skipped and risky:
        raise Refused(
            f"--skip-unreachable: {', '.join(skipped)} would come back with code that cannot live "
            f"with {', '.join(risky)}; nothing that serves was changed. Bring it up, or take it "
            f"out of the inventory, first"
        )
    if outside and closes and risky:
        raise Refused(
            f"--hosts: {', '.join(outside)} would serve on meanwhile, and after, with code that "
            f"cannot live with {', '.join(risky)}; nothing that serves was changed. Let all hosts "
            f"take part"
        )


def refuse_other_plan(judged: Judged, approved: str) -> None:
    """Raises :class:`Refused` where the plan is not the one that somebody has read."""
    # Where none is left, the same command has run them before.
    if approved and judged.pending and not judged.hash.startswith(approved):
        raise Refused(
            f"--approved-plan={approved}: this is not the plan that was approved; now it is "
            f"{judged.hash[:12]} ({len(judged.pending)} pending). Read it again: "
            f"fab migrations.sql; nothing was changed"
        )
    if approved and len(approved) < 12:
        raise Refused(f"--approved-plan={approved}: expected at least 12 characters of the hash")


def _before(pending: Iterable[Mapping[str, Any]], accepted: set[str]) -> set[str]:
    """The names that run first: all but what must wait, and what those need."""
    by_name = {each["migration"]: each for each in pending}
    found: set[str] = set()

    def take(name: str) -> None:
        if name in by_name and name not in found:
            found.add(name)
            for parent in by_name[name]["dependencies"]:
                take(parent)

    for name, each in by_name.items():
        if each["phase"] != "after" and (not each["blocked_by"] or name in accepted):
            take(name)
    return found


def _portion(
    phase: str, judged: Judged, names: Mapping[str, Sequence[str]], accepted: Sequence[str]
) -> Portion | None:
    only = {alias: tuple(each) for alias, each in names.items() if each}
    if not only:
        return None
    expected = {alias: judged.expected[alias] for alias in only}
    return Portion(phase, only, expected, tuple(accepted))


def _refuse_unknown_names(judged: Judged, accepted: Sequence[str]) -> None:
    known = {each["migration"] for plan in judged.plans.values() for each in plan["pending"]}
    # The same command once more finds some of them applied.
    known |= {name for plan in judged.plans.values()
              for name in (*plan["ahead"], *plan["applied"])}
    for name in accepted:
        if name not in known:
            listed = ", ".join(judged.pending) or "none"
            raise Refused(f"--accept-risk={name}: this is not pending; these are: {listed}")


def _refuse_problems(judged: Judged, accepted: Sequence[str]) -> None:
    """Names of migrations that the database has and this code has not may be accepted."""
    found = []
    for alias, plan in judged.plans.items():
        where = f"{alias}: " if len(judged.plans) > 1 else ""
        found += [f"{where}{app} has several last migrations: {', '.join(names)}; merge them: "
                  f"manage.py makemigrations --merge"
                  for app, names in plan["conflicts"].items()]
        if plan["inconsistent"]:
            found.append(f"{where}{plan['inconsistent']}")
        ahead = [name for name in plan["ahead"] if name not in accepted]
        if ahead:
            found.append(
                f"{where}the database has migrations that this release has not: "
                f"{', '.join(ahead)}. To go back to an earlier release: fab rollback; to deploy "
                f"this one all the same, add "
                f"{' '.join(f'--accept-risk={name}' for name in [*accepted, *ahead])}"
            )
    if found:
        raise Refused("\n".join([*found, "nothing that serves was changed"]))


def _refuse_bad_history(judged: Judged, accepted: Sequence[str]) -> None:
    """Raises :class:`Refused` for what no window and no decision mends."""
    _refuse_unknown_names(judged, accepted)
    _refuse_problems(judged, accepted)
    impossible = [each for each in judged.decision["offenders"] if each["refused"]]
    if impossible:
        raise Refused("\n".join([
            "Django itself refuses these migrations:", *_told(judged, impossible),
            "nothing that serves was changed; apply the remedies"]))


def _refuse_offenders(
    judged: Judged, offenders: Sequence[Mapping[str, Any]], accepted: Sequence[str], what: str,
    ways: Sequence[str], again: str,
) -> None:
    """Raises :class:`Refused` for those that nobody accepted; ``ways`` are commands that go on all
    the same, beside accepting them."""
    left = [each for each in offenders if each["migration"] not in accepted]
    if not left:
        return
    names = dict.fromkeys([*accepted, *(each["migration"] for each in left)])
    risks = " ".join(f"--accept-risk={name}" for name in names)
    raise Refused("\n".join([
        what, *_told(judged, left),
        "nothing that serves was changed; apply the remedies, or go on with one of:",
        *(f"  {way}" for way in (*ways, f"{again} {risks}"))]))


def _everything_in(judged: Judged) -> Mapping[str, Sequence[str]]:
    return {alias: names_in(plan) for alias, plan in judged.plans.items()}


def _told(judged: Judged, offenders: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in offenders:
        where = f" ({each['database']})" if len(judged.plans) > 1 else ""
        yield f"  {each['migration']}{where}"
        yield from (f"    {reason}" for reason in each["reasons"])
        yield from (f"    remedy: {remedy}" for remedy in each["remedies"])
