"""Columns that come and go."""

from .facts import (
    check_of,
    constant_db_default,
    constrained_tables,
    generated,
    has_db_default,
    names_of,
    optional,
)
from .scene import constraints_work, cost_of_altering, is_postgresql, lock_of
from .tables import DROP_CONSTRAINTS_FIRST, left_behind
from .words import OK, effect


def added_column(model, field, scene):
    """One new column on a table that old code writes to without naming it."""
    table, name = names_of(model)
    where = "%s.%s" % (table, field.column)
    old, remedy, phase = OK, "", "before"
    if field.primary_key:
        phase, old = "offline", "fails: the primary key changes"
        remedy = "a new primary key needs a maintenance window"
    elif not optional(field):
        phase = "offline"
        old = "INSERT fails: %s is NOT NULL and Django leaves no default in the database" % where
        remedy = NEW_COLUMN_REMEDY
    elif field.unique and constant_db_default(field):
        phase = "offline"
        old = "the second INSERT fails: every row gets the same default, and %s is unique" % where
        remedy = "null=True first, fill it in, then unique in a later migration (phase after)"
    locks, work = {table: lock_of("AX", scene)}, {table: cost_of_column(model, field, scene)}
    targets = [t for t in constrained_tables(model, field) if t != table]
    locks.update({target: lock_of("SRX", scene) for target in targets})
    if not field.null or field.has_default():
        work.update(dict.fromkeys(targets, "scan"))
    new = "fails: every query of %s names the column %s" % (name, field.column)
    if targets:
        new += ", also when a row of %s is deleted" % ", ".join(targets)
    return effect(phase, old, new, locks=locks, work=work, remedy=remedy, subject=table,
                  loses_back="the column %s" % where,
                  facts={"column": where, "null": field.null, "db_default": has_db_default(field),
                         "generated": generated(field), "unique": field.unique})


NEW_COLUMN_REMEDY = ("db_default=... (Django 5.0 or newer), or null=True first and NOT NULL in a "
                     "later migration, when no old code runs any more")


def cost_of_column(model, field, scene):
    """A new column: PostgreSQL 11 and newer keep a constant default in the catalogue."""
    indexed = field.unique or field.db_index or getattr(field, "spatial_index", False)
    if not is_postgresql(scene):
        plain = field.null and not indexed and not field.remote_field and not check_of(field, scene)
        return "brief" if plain and not has_db_default(field) else "rewrite"
    if generated(field) and field.db_persist:
        return "rewrite"
    if has_db_default(field) and not constant_db_default(field):
        return "rewrite"
    if indexed:
        return "build"
    return "scan" if check_of(field, scene) else "brief"


def removed_column(model, field, scene):
    table, name = names_of(model)
    where = "%s.%s" % (table, field.column)
    targets = [t for t in constrained_tables(model, field) if t not in scene.created]
    locks = {each: lock_of("AX", scene) for each in {table} | set(targets)}
    work = {table: cost_of_altering(scene)}
    new, remedy = burden(model, field, targets if constraints_work(scene) else [])
    return effect(
        "offline" if new != OK else "after",
        "fails: every query of %s names the column %s" % (name, field.column), new,
        locks=locks, work=work, remedy=remedy, subject=table, loses="the column %s" % where,
        loses_back="reversing makes %s anew, empty: what was in it is gone" % where,
        facts={"column": where, "null": field.null, "db_default": has_db_default(field),
               "generated": generated(field), "unique": field.unique})


def burden(model, field, targets):
    """What a column that new code does not know does to it: (words, remedy), or (ok, "")."""
    where = "%s.%s" % (model._meta.db_table, field.column)
    words, remedies = [], []
    if not optional(field) or field.primary_key:
        words.append("INSERT fails: %s is NOT NULL and has no default in the database" % where)
        remedies.append("relax it first in a migration of its own: null=True, or db_default=... "
                        "(Django 5.0 or newer); remove it in the next one")
    elif field.unique and constant_db_default(field):
        words.append("the second INSERT fails: every row gets the same %s, which is unique" % where)
        remedies.append("drop unique first in a migration of its own")
    if targets:
        words.append(left_behind(model._meta.db_table, targets))
        remedies.append(DROP_CONSTRAINTS_FIRST)
    return "; ".join(words) or OK, "; ".join(remedies)
