"""Judged migrations as text: what may be done, then what each one means for the code that runs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fabfile.display.lines import COLOURS
from roles.onhost.migrating import deciding, words
from roles.onhost.migrating.plan import whole_hash

Plans = Mapping[str, Mapping[str, Any]]
Decision = Mapping[str, Any]
Migration = Mapping[str, Any]

WIDTH = 100
INDENT = " " * 11
SHOWN = 4
PHASE_COLOURS = {
    "any": "green", "before": "green", "after": "yellow", "offline": "red", "unknown": "red",
}  # fmt: skip
DECISION_COLOURS = {"expand": "green", "expand-contract": "yellow", "stop": "red"}
WHILE = {
    "brief": "briefly", "build": "while it builds an index", "scan": "while it reads all rows",
    "rewrite": "while it writes all rows anew",
}  # fmt: skip
FIRST_AID = {
    "conflicts": "merge them: manage.py makemigrations --merge",
    "inconsistent": "repair the history by hand: manage.py showmigrations",
    "ahead": "deploy a release that has them, or take them back with one",
}


def lines(plans: Plans, decision: Decision, colour: bool) -> list[str]:
    """``plans`` as ``read_plan`` has them, by alias; ``decision`` as ``decide_together``."""
    shown = Paper(colour)
    shown.write("", headline(plans, decision), colour=DECISION_COLOURS.get(decision["decision"]))
    for alias, each in plans.items():
        if len(plans) > 1:
            shown.write("", f"database {alias}: {about(each)}")
        for problem in deciding.problems_of(each):
            shown.write("  ", problem, "stop: ", "red")
        for aid in (FIRST_AID[key] for key in FIRST_AID if each[key]):
            shown.write("  ", aid, "instead: ")
        remedies = {found["migration"]: found["remedies"]
                    for found in decision["databases"][alias]["offenders"]}
        for migration in each["pending"]:
            shown.migration(migration, each, remedies.get(migration["migration"], []))
    if any(each["pending"] for each in plans.values()):
        shown.write("", f"plan {whole_hash(plans)}")
    return shown.lines


def about(one: Mapping[str, Any]) -> str:
    server = " ".join(filter(None, (one["vendor"], one["server_version"])))
    return f"{server}, {len(one['pending']) or 'nothing'} pending"


# --------------------------------------------------------------------------- the decision


def headline(plans: Plans, decision: Decision) -> str:
    """The decision in words."""
    pending = distinct(each["migration"] for one in plans.values() for each in one["pending"])
    many = f"{counted(len(pending), 'migration')} pending"
    if decision["decision"] == "nothing":
        return "no migrations pending"
    if decision["decision"] == "stop":
        return f"stop: {many if pending else 'no migrations pending'}: {why_stop(plans, decision)}"
    if all(one["first"] for one in plans.values() if one["pending"]):
        return f"{many}: the first here, so no code runs that could mind (expand, then roll)"
    if decision["decision"] == "expand":
        return f"{many}: safe while the old code serves (expand, then roll)"
    found = {key: distinct(name for one in decision["databases"].values() for name in one[key])
             for key in ("expand", "contract")}
    if not found["expand"]:
        return f"{many}: safe when no old code runs any more (roll, then contract)"
    return (f"{many}: {len(found['expand'])} safe while the old code serves, "
            f"{len(found['contract'])} when none runs any more (expand, roll, contract)")


def why_stop(plans: Plans, decision: Decision) -> str:
    """What a person has to do, or to say, before it goes on."""
    if decision["problems"]:
        return "the history of migrations is not in order"
    offenders = distinct(found["migration"] for found in decision["offenders"])
    refused = distinct(each["migration"] for one in plans.values() for each in one["pending"]
                       if each["refused"])
    risky = [name for name in offenders if name not in refused]
    reasons = []
    if refused:
        reasons.append(f"Django refuses {', '.join(refused)}")
    if risky:
        verb = "needs" if len(risky) == 1 else "need"
        reasons.append(f"{', '.join(risky)} {verb} a maintenance window "
                       f"or {' '.join(f'--accept-risk={name}' for name in risky)}")
    return "; ".join(reasons)


# --------------------------------------------------------------------------- one migration


class Paper:
    """Lines of at most WIDTH characters, coloured or not."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour
        self.lines: list[str] = []

    def write(
        self, indent: str, text: str, label: str = "", colour: str | None = None, hang: int = 2
    ) -> None:
        """``colour`` is the label's, or that of all if there is no label."""
        first, *rest = textwrap.wrap(
            label + text, WIDTH, initial_indent=indent, break_long_words=False,
            subsequent_indent=indent + " " * hang, break_on_hyphens=False,
        )  # fmt: skip
        if colour and label:
            first = first.replace(label.rstrip(), self.paint(label.rstrip(), colour), 1)
        elif colour:
            first, *rest = (self.paint(each, colour) for each in (first, *rest))
        self.lines += [first, *rest]

    def paint(self, text: str, colour: str) -> str:
        return f"\033[{COLOURS[colour]}m{text}\033[0m" if self.colour else text

    def migration(self, each: Migration, one: Mapping[str, Any], remedies: Iterable[str]) -> None:
        """Its name and what it does, and beneath whatever is not as one would wish."""
        phase, done = each["phase"], some(op["description"] for op in each["operations"])
        label, colour = f"{phase:<9}", PHASE_COLOURS[phase]
        if one["first"]:
            self.write("  ", each["migration"], label, colour)
            return
        self.write("  ", f"{each['migration']}: {done or 'no operations'}", label, colour,
                   hang=len(label))
        for label, text in remarks(each, one["vendor"]):
            self.write(INDENT, text, label, "red" if label in STOPPING else None)
        for remedy in remedies:
            self.write(INDENT, remedy, "instead: ")


STOPPING = ("stop: ", "heavy: ", "blocked: ", "refused: ", "loses: ")


def remarks(each: Migration, vendor: str) -> Iterator[tuple[str, str]]:
    """(label, words), the gravest last but for what it costs to go back."""
    if each["marker"]:
        yield "marked: ", marker(each)
    elif each["phase"] != each["judged"] and each["behind"]:
        yield "", f"waits for {some(each['behind'])}"
    yield from effects(each)
    for text in locks(each, vendor):
        yield "", text
    for heavy in each["heavy"]:
        yield "heavy: ", deciding.heavy_words(heavy, each["waits_for_backfill"])
    if each["blocked_by"]:
        yield "blocked: ", deciding.blocked_words(each)
    for why in each["refused"]:
        yield "refused: ", why
    if lost := some(op["loses_data"] for op in each["operations"]):
        yield "loses: ", lost
    yield "", way_back(each)


def marker(each: Migration) -> str:
    """Who said so, and whether we would have said the same."""
    mark = each["marker"]
    text = f"{mark['from']} = {mark['value']!r}"
    if mark["phase"] == "unknown" and mark["from"] != "overrides":
        text += ", which we do not understand"
    if mark["delay"]:
        text += f", {mark['delay']:g} s later"
    return text if mark["phase"] == each["judged"] else f"{text}; judged {each['judged']}"


def effects(each: Migration) -> Iterator[tuple[str, str]]:
    """What breaks, and in whose hands."""
    old, new = (some(op[key] for op in each["operations"] if op[key] != words.OK)
                for key in ("old_code", "new_code"))
    if old and old == new:
        yield "old and new code: ", old
        return
    if each["judged"] == "offline" and not any(
        op["phase"] in {"offline", "unknown"} for op in each["operations"]
    ):
        yield "", deciding.split_words(each)
    if old:
        yield "old code after it: ", old
    if new:
        yield "new code before it: ", new


def locks(each: Migration, vendor: str) -> Iterator[str]:
    """A line for the tables that are locked alike for equally long."""
    groups: dict[tuple[str, str], list[str]] = {}
    for table, lock in sorted(each["locks"].items(), key=lambda item: words.LOCKS.index(item[1]),
                              reverse=True):  # fmt: skip
        if lock != "none":
            filled = table in each["waits_for_backfill"]
            how = "while it fills in data" if filled else WHILE[each["work"].get(table, "brief")]
            size = weight(each["sizes"].get(table), vendor)
            groups.setdefault((lock, how), []).append(f"{table} ({size})")
    for (lock, how), tables in groups.items():
        name = f"{lock} lock" if vendor == "postgresql" else "lock"
        yield f"{name} on {some(tables)}: blocks {words.BLOCKS[lock]} {how}"


def way_back(each: Migration) -> str:
    """Whether it can be taken back, and at what cost."""
    if not each["reversible"]:
        stuck = some(op["description"] for op in each["operations"] if not op["reversible"])
        return f"not reversible: {stuck}"
    lost = some(op["loses_data_on_reverse"] for op in each["operations"])
    whole = lost.startswith(("going back", "reversing"))  # a sentence, not a thing
    if not lost:
        return "reversible"
    return f"reversible, but {lost if whole else f'going back loses {lost}'}"


# --------------------------------------------------------------------------- words


def distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def some(texts: Iterable[str]) -> str:
    """The first few of them, each once, and how many more there are."""
    found = distinct(filter(None, texts))
    more = len(found) - SHOWN
    if more <= 1:
        return "; ".join(found)
    return "; ".join([*found[:SHOWN], f"and {more} more"])


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def weight(size: int | None, vendor: str) -> str:
    """A table's size as people say it; SQLite knows only its file's."""
    if size is None:
        return "size unknown"
    return human(size) if vendor != "sqlite" else f"in a file of {human(size)}"


def human(size: int) -> str:
    """1234567 -> "1.2 MB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            found = size / factor
            return f"{found:.1f} {unit}" if found < 9.95 else f"{found:.0f} {unit}"
    return f"{size} bytes"
