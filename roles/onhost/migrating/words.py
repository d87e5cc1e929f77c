"""The words in which effects are told, and how several of them become one.

Phases. "before": old code works on the new schema, so it runs before the new code starts.
"after": new code works on the old schema, so it waits until no old code runs. "any": both.
"offline": neither. "unknown": only its author can say.

Locks are PostgreSQL's: SUX = SHARE UPDATE EXCLUSIVE, SH = SHARE, SRX = SHARE ROW EXCLUSIVE,
AX = ACCESS EXCLUSIVE. Costs are what is done under them: brief (the catalogue only), build
(an index), scan (every row is read), rewrite (every row is written).
"""

import collections

PHASES = ("any", "before", "after", "offline", "unknown")
LOCKS = ("none", "SUX", "SH", "SRX", "unknown", "AX")
COSTS = ("brief", "build", "scan", "rewrite")
BLOCKS = {
    "none": "nothing",
    "SUX": "nothing but other schema changes",
    "SH": "writes",
    "SRX": "writes",
    "unknown": "nobody knows what",
    "AX": "reads and writes",
}
OK = "ok"
MARK = ("say when it may run: `safe = Safe.before_deploy()` (django-safemigrate), "
        "`stage = Stage.PRE_DEPLOY` (django-syzygy), or `migrations.phases` in the inventory")


def effect(phase, old=OK, new=OK, locks=None, work=None, remedy="", **rest):
    """One consequence of an operation.

    rest: loses, loses_back (words), late (tables), subject (the table that it is about), creates
    (tables), renames {old: new}, facts {} ("refused": why Django itself will not do it).
    """
    found = {"phase": phase, "old": old, "new": new, "locks": locks or {}, "work": work or {},
             "remedy": remedy, "loses": "", "loses_back": "", "late": (), "subject": None,
             "creates": (), "renames": {}, "facts": {}}
    found.update(rest)
    return found


def nothing(why):
    """No SQL on this database."""
    return effect("any", facts={"no_sql": why})


def unknown(old, remedy, locks=None):
    """Only its author can say."""
    return effect("unknown", old, old, locks=locks, remedy=remedy)


def together(effects):
    """The effects of one operation, or the operations of one migration, as one."""
    whole = effect(join([each["phase"] for each in effects]))
    for each in effects:
        for table, lock in each["locks"].items():
            whole["locks"][table] = strongest([lock, whole["locks"].get(table, "none")])
        for table, cost in each["work"].items():
            whole["work"][table] = dearest([cost, whole["work"].get(table, "brief")])
        whole["facts"].update(each["facts"])
    for key in ("old", "new"):
        whole[key] = "; ".join(unique(e[key] for e in effects if e[key] != OK)) or OK
    for key in ("loses", "loses_back", "remedy"):
        whole[key] = "; ".join(unique(e[key] for e in effects if e[key]))
    late = {t for each in effects for t in each["late"]}
    early = {t for each in effects for t in each["locks"] if t not in each["late"]}
    whole["late"] = tuple(sorted(late - early))
    return whole


def join(phases):
    """The phase of several things that happen together; before + after = offline."""
    found = set(phases)
    if "offline" in found or {"before", "after"} <= found:
        return "offline"
    for phase in ("unknown", "before", "after"):
        if phase in found:
            return phase
    return "any"


def strongest(locks):
    return max(locks, key=LOCKS.index, default="none")


def dearest(costs):
    return max(costs, key=COSTS.index, default="brief")


def blocks(locks):
    """{"a": "AX", "b": "SH"} -> "reads and writes of a; writes of b"."""
    lines = []
    for lock in reversed(LOCKS):
        tables = sorted(t for t, each in locks.items() if each == lock)
        if tables:
            lines.append("%s of %s" % (BLOCKS[lock], ", ".join(tables)))
    return "; ".join(lines) or BLOCKS["none"]


def blocking(lock):
    return LOCKS.index(lock) >= LOCKS.index("SH")


def unique(words):
    return list(collections.OrderedDict.fromkeys(words))
