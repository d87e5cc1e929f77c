"""One migration, from its judged operations."""

import hashlib
import sys

from .words import blocking, blocks, dearest, join, strongest


def judged_migration(migration, operations, parents, mark, transactional):
    """One migration from its judged operations; sizes and the other migrations come later.

    -> {"app", "name", "migration": "app.name", "phase", "judged": the join of its operations,
    "marker": as `marker`, "operations": [as `classify`], "lock", "blocks", "locks", "held": {table:
    lock kept until the end of its one transaction}, "waits_for_backfill": [tables locked while a
    by-hand step runs], "cost", "work", "tables", "sizes": {locked table: bytes, None where
    nobody says}, "atomic": in one transaction, where the database can, "reversible", "sha256",
    "dependencies": ["app.name"], "behind": [those that run after], "blocked_by": [the same, for a
    before], "heavy": [as `plan.weigh`], "refused": [words]}
    """
    own = join([each["phase"] for each in operations])
    locks, work = {}, {}
    for each in operations:
        for table, lock in each["locks"].items():
            locks[table] = strongest([lock, locks.get(table, "none")])
        for table, cost in each["work"].items():
            work[table] = dearest([cost, work.get(table, "brief")])
    atomic = bool(migration.atomic) and transactional
    held, waiting = held_to_the_end(operations, atomic)
    for table, cost in waiting.items():
        work[table] = dearest([cost, work.get(table, "brief")])
    return {
        "app": migration.app_label,
        "name": migration.name,
        "migration": "%s.%s" % (migration.app_label, migration.name),
        "phase": mark["phase"] if mark else own,
        "judged": own,
        "marker": mark,
        "operations": operations,
        "lock": strongest(locks.values()),
        "blocks": blocks(locks),
        "locks": locks,
        "held": held,
        "waits_for_backfill": sorted(waiting),
        "cost": dearest(work.values()),
        "work": work,
        "tables": sorted(locks),
        "sizes": {},
        "atomic": atomic,
        "reversible": all(each["reversible"] for each in operations),
        "sha256": file_hash(migration),
        "dependencies": parents,
        "behind": [],
        "blocked_by": [],
        "heavy": [],
        "refused": refusals(operations, migration.atomic),
    }


def held_to_the_end(operations, atomic):
    """{table: lock} that one transaction keeps, and what by-hand steps cost while they wait.

    -> (held, work). AddField, then RunPython in one file: nobody reads the table for the whole
    backfill, so the backfill counts as a scan under that lock.
    """
    if not atomic:
        return {}, {}
    held, work, late = {}, {}, {}
    for each in operations:
        if each["phase"] == "unknown" or each["facts"].get("by_hand"):
            work.update({t: "scan" for t, lock in held.items() if blocking(lock)})
        for table, lock in each["locks"].items():
            kept = late if table in each["late"] else held
            kept[table] = strongest([lock, kept.get(table, "none")])
    for table, lock in late.items():
        held[table] = strongest([lock, held.get(table, "none")])
    return held, work


def refusals(operations, atomic):
    """What Django will refuse to do, known before it tries; no window helps."""
    found = ["%s needs `atomic = False` on the migration" % each["operation"]
             for each in operations
             if atomic and each["operation"] in ("AddIndexConcurrently", "RemoveIndexConcurrently")]
    return found + [each["facts"]["refused"] for each in operations if "refused" in each["facts"]]


def file_hash(migration):
    """sha256 of the migration's file, or None where it has none."""
    module = sys.modules.get(type(migration).__module__)
    try:
        with open(module.__file__, "rb") as text:
            return hashlib.sha256(text.read()).hexdigest()
    except (AttributeError, TypeError, OSError):
        return None
