"""Tables that come, go, or get another name."""

from .facts import automatic, constrained_tables, names_of
from .scene import constraints_work
from .words import OK, effect


def new_table(model, scene):
    """A table, and the constraints from it to tables that are there already."""
    table, name = names_of(model)
    targets = sorted(set(constrained_tables(model)) - {table})
    old = OK if not targets else OK + (
        ", but deleting a row of %s fails once new code has written rows that point to it"
        % ", ".join(targets))
    return effect(
        "before", OK, "fails: table %s is not there%s" % (
            table, ", also when a row of %s is deleted" % ", ".join(targets) if targets else ""),
        locks=dict.fromkeys(targets, "SRX"), late=tuple(targets),
        subject=table, creates=(table,),
        loses_back="the table %s with all rows" % table,
        facts={"old_code_note": old, "model": name},
    )


def dropped_table(model, scene):
    table, _ = names_of(model)
    held = sorted(constrained_tables(model))
    others = [each for each in held if each != table]
    locks = dict.fromkeys([*held, table], "AX")
    fate = {"subject": table, "loses": "the table %s with all rows" % table,
            "loses_back": "reversing makes an empty table %s: its rows are gone" % table}
    left = [each for each in others if each not in scene.created]
    if left and constraints_work(scene):
        return effect(
            "offline", "fails: table %s is gone" % table, left_behind(table, left), locks=locks,
            remedy=DROP_CONSTRAINTS_FIRST, **fate)
    return effect("after", "fails: table %s is gone" % table, locks=locks, **fate)


# Measured, and done by django-deferred-migrations 1.0.0 before each of its deferred removals: new
# code does not know the relation any more, so it does not delete or clear the rows that point to
# the row that it deletes.
DROP_CONSTRAINTS_FIRST = (
    "drop the constraint first: `AlterField` to the same field with db_constraint=False in a "
    "migration of its own (phase before), then remove it in the next one (phase after)")


def left_behind(table, targets):
    return ("deleting a row of %s fails while rows of %s still point to it: "
            "the constraint is there and new code does not know it" % (", ".join(targets), table))


def renamed_table(old, new, links, related):
    """A table under another name, and everything that is named or constrained after it."""
    table = old._meta.db_table
    locks = dict.fromkeys(related | {t for t, _, _ in links[0]} | {table}, "AX")
    moved = {a: b for (a, _, _), (b, _, _) in zip(*links)}
    moved[table] = new._meta.db_table
    return effect(
        "offline", "fails: table %s is gone" % table,
        "fails: table %s is not there" % new._meta.db_table,
        locks=locks, work=dict.fromkeys(locks, "scan") if len(locks) > 1 else {},
        subject=table, renames=moved, remedy="pin the name: Meta.db_table = %r" % table)


def renamed_links(model, links):
    """Columns of many-to-many tables are named after the model, whatever its table is called."""
    tables = [table for table, _, _ in links[0]]
    words = "fails: the columns of %s have other names" % ", ".join(tables)
    locks = dict.fromkeys([*tables, model._meta.db_table], "AX")
    locks.update({names_of(field.related_model)[0]: "AX" for field in automatic(model)})
    return effect(
        "offline", words, words, locks=locks, work=dict.fromkeys(locks, "scan"),
        subject=model._meta.db_table,
        remedy="give the many-to-many field an explicit `through` with its columns pinned")
