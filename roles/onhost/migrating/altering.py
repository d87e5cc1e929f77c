"""One field into another one, aspect by aspect."""

from .constraints import added_check, added_index, added_unique, dropped_index, dropped_unique
from .facts import (
    check_of,
    column_of,
    constrained_tables,
    generated,
    has_db_default,
    link_columns,
    names_of,
    pointing_to,
    target_tables,
)
from .kinds import column_type, kind_of_value
from .scene import constraints_work, cost_of_altering, editor, lock_of
from .words import OK, dearest, effect, nothing


def altered(model, old, new, scene):
    """What changing one field into another does, aspect by aspect."""
    if old.many_to_many and new.many_to_many:
        return altered_links(old, new, scene)
    if bool(column_of(old, scene)) != bool(column_of(new, scene)):
        return [refused("a field with a column and one without do not change into each other",
                        model, "remove the field and add the new one, in two migrations")]
    if not column_of(old, scene):
        return [nothing("the field has no column")]
    if not editor(scene)._field_should_be_altered(old, new):
        return [nothing("the database does not see the difference")]
    if generated(old) or generated(new):
        return [refused("a GeneratedField cannot be changed", model,
                        "remove it and add it anew, in two migrations")]
    aspects = (column_name, kind_of_value, column_type, collation, nullability, uniqueness, index,
               database_default, check, foreign_key, comment)
    effects = [found for aspect in aspects for found in aspect(model, old, new, scene)]
    if scene.connection.vendor == "sqlite":
        effects.append(made_anew(model, scene))
    for each in effects:
        each["subject"] = model._meta.db_table
    return effects or [nothing("only Python sees the difference")]


def refused(why, model, remedy):
    return effect("offline", "Django refuses: " + why, "Django refuses: " + why,
                  remedy=remedy, subject=model._meta.db_table, facts={"refused": why})


def altered_links(old, new, scene):
    """A many-to-many field into another one: only its own table can change."""
    before, after = old.remote_field.through, new.remote_field.through
    if not before._meta.auto_created and not after._meta.auto_created:
        return [nothing("the model %s is the table" % after._meta.object_name)]
    if bool(before._meta.auto_created) != bool(after._meta.auto_created):
        return [refused("a many-to-many field cannot get or lose its `through`", old.model,
                        "SeparateDatabaseAndState with a through model that has the same db_table")]
    table = before._meta.db_table
    ends = [target_tables(each) for each in (before, after)]
    same = link_columns(old) == link_columns(new) and ends[0] == ends[1]
    if not same or table != after._meta.db_table:
        touched = [table] + ([] if same else ends[0] + ends[1])
        return [effect("offline", "fails: what %s is called, or points to, changes" % table,
                       "fails: %s is still the old one" % table,
                       locks=dict.fromkeys(touched, "AX"),
                       work=dict.fromkeys(touched, "brief" if same else "scan"),
                       subject=table, renames={table: after._meta.db_table},
                       remedy="add a second many-to-many field, copy, remove the first one later")]
    effects = []
    for left in (field for field in before._meta.local_fields if field.remote_field):
        effects += altered(before, left, after._meta.get_field(left.name), scene)
    return effects or [nothing("the database does not see the difference")]


def column_name(model, old, new, scene):
    if old.column == new.column:
        return []
    table = model._meta.db_table
    return [effect("offline", "fails: column %s.%s is gone" % (table, old.column),
                   "fails: column %s.%s is not there" % (table, new.column),
                   locks={table: lock_of("AX", scene)}, work={table: cost_of_altering(scene)},
                   remedy="pin the name: db_column=%r" % old.column)]


def collation(model, old, new, scene):
    """Comparing changes with it; a collation that is not deterministic refuses LIKE."""
    before, after = (getattr(field, "db_collation", None) for field in (old, new))
    if before == after:
        return []
    table = model._meta.db_table
    locks, work = {table: lock_of("AX", scene)}, {table: "rewrite"}
    pointing = {names_of(each.field.model)[0] for each in pointing_to(old)}
    locks.update({each: lock_of("AX", scene) for each in pointing})
    work.update(dict.fromkeys(pointing, "rewrite"))
    words = "comparing %s.%s may fail: %s instead of %s"
    remedy = "" if not (before and after) else "first back to the default, then the new collation"
    return [effect({(True, False): "before", (False, True): "after"}.get(
        (bool(before), bool(after)), "offline"),
        OK if not after else words % (table, old.column, after, before or "the default"),
        OK if not before else words % (table, old.column, before, after or "the default"),
        locks=locks, work=work, remedy=remedy)]


def nullability(model, old, new, scene):
    if old.null == new.null:
        return []
    table = model._meta.db_table
    where = "%s.%s" % (table, old.column)
    locks, brief = {table: lock_of("AX", scene)}, {table: cost_of_altering(scene)}
    if new.null:
        return [effect("before", OK, "writing NULL to %s fails" % where, locks=locks, work=brief,
                       loses_back="going back fails where %s is NULL" % where)]
    return [effect(
        "after", "writing NULL to %s fails" % where, OK, locks=locks,
        work={table: dearest(["scan", cost_of_altering(scene)])},
        remedy="fill the NULLs in first; on a big table add CHECK (%s IS NOT NULL) NOT VALID and "
               "validate it in an earlier migration: then this one reads no rows" % old.column)]


def uniqueness(model, old, new, scene):
    if old.unique == new.unique or old.primary_key != new.primary_key:
        return []
    table = model._meta.db_table
    if new.unique:
        return [added_unique(table, [new.column], "AX", scene)]
    return [dropped_unique(table, [old.column], scene)]


def index(model, old, new, scene):
    """Django's own index of one field: db_index, where unique does not make it needless."""
    had, has = (bool(field.db_index) and not field.unique for field in (old, new))
    table = model._meta.db_table
    if has and not had:
        return [added_index(table, scene)]
    return [dropped_index(table, scene)] if had and not has else []


def database_default(model, old, new, scene):
    """With a db_default an INSERT says DEFAULT; without one in the database that means NULL."""
    had, has = has_db_default(old), has_db_default(new)
    if had == has and (not had or old.db_default == new.db_default):
        return []
    table = model._meta.db_table
    where = "%s.%s" % (table, old.column)
    locks, work = {table: lock_of("AX", scene)}, {table: cost_of_altering(scene)}
    if (had and has) or (has and old.null and not new.null):
        return [effect("any", locks=locks, work=work)]
    words = "INSERT that leaves %s to the database's default fails, or gets NULL" % where
    if has:
        return [effect("before", OK, words, locks=locks, work=work)]
    return [effect("after", words, OK, locks=locks, work=work)]


def check(model, old, new, scene):
    """The database's check behind PositiveIntegerField and its like."""
    before, after = (check_of(field, scene) for field in (old, new))
    if before == after:
        return []
    table = model._meta.db_table
    effects = []
    if before:
        effects.append(effect("before", OK, "writing what %s forbids fails" % before,
                              locks={table: lock_of("AX", scene)},
                              work={table: cost_of_altering(scene)}))
    if after:
        effects.append(added_check(table, after, scene))
    return effects


def foreign_key(model, old, new, scene):
    """Django drops and makes anew the constraint of every key that it alters at all.

    PostgreSQL checks a new constraint by reading both tables.
    """
    if not constraints_work(scene):
        return []
    table = model._meta.db_table
    before, after = constrained_tables(model, old), constrained_tables(model, new)
    locks = {each: lock_of("AX", scene) for each in [table, *before, *after]}
    checked = dict(dict.fromkeys(after, "scan"),
                   **{table: dearest(["scan", cost_of_altering(scene)])})
    if before and after:
        work = checked
        if before == after and old.target_field.column == new.target_field.column:
            return [dict(deletion(old, new, before[0]), locks=locks, work=work)]
        words = "writing a key of %s fails"
        return [effect("offline", words % before[0], words % after[0], locks=locks, work=work,
                       remedy="add a second field, copy, remove the first one later")]
    if before:
        return [effect("before", OK, "writing a key that %s has not fails" % before[0],
                       locks=locks, work={table: cost_of_altering(scene)},
                       loses_back="going back fails where a key points to nothing")]
    if after:
        return [effect("after", "writing a key that %s has not fails" % after[0], OK,
                       locks={each: lock_of("SRX", scene) for each in [table, *after]},
                       work=checked,
                       remedy="on a big table: ADD CONSTRAINT ... NOT VALID, then VALIDATE, inside "
                              "SeparateDatabaseAndState")]
    return []


def deletion(old, new, target):
    """What the database itself does when a row goes to which the key points (Django 6.1)."""
    had, has = database_rule(old), database_rule(new)
    words = "deleting a row of %s does what the other code's model says, or fails" % target
    phase = {(False, True): "before", (True, False): "after"}.get((bool(had), bool(has)), "offline")
    if had == has:
        phase = "any"
    return effect(phase, words if phase in ("after", "offline") else OK,
                  words if phase in ("before", "offline") else OK,
                  remedy="" if phase != "offline" else "first back to a rule of Python's")


def database_rule(field):
    """e.g. "DB_CASCADE"; None where Django follows the rule itself."""
    rule = field.remote_field.on_delete
    return str(rule) if hasattr(rule, "on_delete_sql") else None


def comment(model, old, new, scene):
    if getattr(old, "db_comment", None) == getattr(new, "db_comment", None):
        return []
    if not scene.connection.features.supports_comments:
        return []
    table = model._meta.db_table
    return [effect("any", locks={table: lock_of("AX", scene)},
                   work={table: cost_of_altering(scene)})]


def made_anew(model, scene):
    """SQLite's way to alter anything: a new table, all rows copied."""
    table = model._meta.db_table
    return effect("any", locks={table: "AX"}, work={table: "rewrite"})
