"""The tables of docs/migrations.md, from what the databases did.

    python -m tests.migrations.page        measures everything and rewrites the page's tables
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.migrations import matrix

PAGE = matrix.ROOT / "docs" / "migrations.md"
BEGIN, END = "<!-- measured: {} -->\n", "<!-- end -->"
SHOWN = "5.2-postgresql"
COUNTED = [run for run in matrix.RUNS if not run.startswith("newest")]
NAMES = {"postgresql": "PostgreSQL", "mysql": "MariaDB", "sqlite": "SQLite"}

Case = Mapping[str, Any]


def operations(answers: matrix.Answers) -> str:
    """One row an operation."""
    head = (
        "| operation | old code on the new schema | new code on the old schema | phase | lock |\n"
    )
    rows = [
        f"| {case['title']} | {how(case['old_at_new'])} | {how(case['new_at_old'])} "
        f"| {phase(case)} | {locks(case)} |\n"
        for case in answers[SHOWN]["cases"]
    ]
    return head + "|---|---|---|---|---|\n" + "".join(rows)


def phase(case: Case) -> str:
    if case["judged"] == case["measured"]:
        return f"**{case['judged']}**"
    return f"**{case['judged']}** (measured: {case['measured']}; {case['stricter']})"


def how(errors: Mapping[str, str]) -> str:
    """{"shop_item insert": error, ...} -> the kinds of work that fail, in a few words."""
    if not errors:
        return "ok"
    if any(what.endswith("read all") for what in errors):
        gone = tables_read(errors)
        deleted = {table(what) for what in errors if what.endswith("delete the first")}
        others = sorted(deleted - set(gone))
        also = f", and deleting from {', '.join(others)}" if others else ""
        return f"fails: every query of {', '.join(gone)}{also}"
    inserts = {table(what) for what in errors if what.endswith(" insert")}
    rest = [what for what in errors if table(what) not in inserts or not writes(what)]
    return "fails: " + ", ".join(
        [f"INSERT into {name}" for name in sorted(inserts)] + unique(map(kind, rest))
    )


def writes(what: str) -> bool:
    """Whether an action begins with a new row, so that it fails wherever INSERT does."""
    return what.split(" ", 1)[1].startswith(("insert", "delete new"))


def tables_read(errors: Iterable[str]) -> list[str]:
    return unique(table(what) for what in errors if what.endswith("read all"))


def table(what: str) -> str:
    return what.split()[0].removeprefix("shop_")


def kind(what: str) -> str:
    """One action of the harness as people say it."""
    name, action = table(what), what.split(" ", 1)[1].removeprefix("(proxy) ")
    if ": " in action:
        field, value = action.rsplit(" ", 1)[0], action.split(": ")[1]
        field = action.split(": ")[0].removeprefix("insert").removeprefix("m2m").strip()
        return f"writing {field}: {value}" if field else f"writing {value}"
    if action.startswith("m2m"):
        return f"using {action.split()[1]}"
    if action.startswith("read"):
        return f"filter and join by {action.split()[-1]}"
    if action.startswith("delete"):
        return f"deleting from {name}"
    return "INSERT" if action.startswith("insert") else "saving"


def locks(case: Case) -> str:
    """What was seen in pg_locks, and the work under it."""
    found = [
        f"{lock} on {table(name)}" + (f" ({case['work'][name]})" if name in case["work"] else "")
        for name, lock in sorted(case["locks"].items())
    ]
    return ", ".join(found) or "none"


def counts(answers: matrix.Answers) -> str:
    """How many operations are judged as measured, stricter, laxer."""
    rows = []
    for run in COUNTED:
        django, vendor = run.split("-")
        cases = answers[run]["cases"]
        equal = sum(case["judged"] == case["measured"] for case in cases)
        lax = sum(laxer(case) for case in cases)
        stricter = len(cases) - equal - lax
        rows.append(f"| {django} | {NAMES[vendor]} | {equal} | {stricter} | {lax} |\n")
    return "| Django | database | as measured | stricter | laxer |\n|---|---|---|---|---|\n" + (
        "".join(rows)
    )


def laxer(case: Case) -> bool:
    return bool(
        (case["judged"] in {"any", "before"} and case["old_at_new"])
        or (case["judged"] in {"any", "after"} and case["new_at_old"])
    )


def unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def filled(text: str, answers: matrix.Answers) -> str:
    """The page with its tables as they were measured."""
    for name, block in (("operations", operations(answers)), ("counts", counts(answers))):
        begin = BEGIN.format(name)
        before, rest = text.split(begin, 1)
        text = before + begin + block + END + rest.split(END, 1)[1]
    return text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(filled(PAGE.read_text(), matrix.measured(Path(folder))))


if __name__ == "__main__":
    main()
