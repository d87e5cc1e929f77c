"""Tell what each pending migration means for the code that is still running. Reads only.

A module: importing it does nothing and needs nothing; calling it needs the project's own Django
(4.2 or newer), set up. The answers are plain data that `json.dumps` takes.

    read_plan(connection, overrides, heavy_bytes)   the pending migrations of one database, judged
    decide(plan)                                    nothing | expand | expand-contract | stop
    decide_together({alias: plan})                  the same for several databases at once
    read_reverse(connection, targets)               what going back would take, before any step
    classify(operation, app, state, connection)     one operation

Phases. "before": old code works on the new schema, so it runs before the new code starts.
"after": new code works on the old schema, so it waits until no old code runs. "any": both.
"offline": neither. "unknown": only its author can say.
Phase of a migration: its marker, else the join of its operations: any < before, after < unknown
< offline, and before + after in one file = offline. "offline" wins over "unknown", because whatever
the unknown part does, the known part already breaks one side.

Locks are PostgreSQL's: SUX = SHARE UPDATE EXCLUSIVE, SH = SHARE, SRX = SHARE ROW EXCLUSIVE,
AX = ACCESS EXCLUSIVE. Costs are what is done under them: brief (the catalogue only), build
(an index), scan (every row is read), rewrite (every row is written).

Where it comes from: measured by tests/migrations (v1 code on v2's schema and the other way round,
on real databases); docs/migrations.md has the table. Judged stricter than measured where a database
is laxer by accident, never laxer.
"""

# ruff: noqa: ARG001, B905, SLF001
# All judges are called alike; `strict` is newer than Python 3.8; Django's `_meta` is its public way
# to ask a model.

import collections
import hashlib
import json
import re
import sys
import typing

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
HEAVY_BYTES = 50 * 1000 * 1000
DJANGO = ("django.db.migrations.operations.", "django.contrib.postgres.operations")


class Scene(typing.NamedTuple):
    """What an operation is judged in."""

    app: str
    before: typing.Any
    """Django's ProjectState before the operation."""
    after: typing.Any
    connection: typing.Any
    created: typing.FrozenSet[str]
    """The tables that did not exist when this plan began."""


# --------------------------------------------------------------------------- one operation


def classify(operation, app, state, connection, created=()):
    """One operation, judged in the project state before it. `state` stays as it is.

    -> {"operation", "description", "phase", "old_code", "new_code", "lock", "blocks", "locks":
    {table: lock}, "late": [tables locked only when the migration ends], "cost", "work": {table:
    cost}, "tables", "reversible", "loses_data", "loses_data_on_reverse", "remedy", "facts"}
    """
    return judged_operations(app, [operation], state, connection, set(created))[0][0]


def told(operation, effects, scene):
    """The answer of `classify` from an operation's effects."""
    whole = together(for_old_code_that_never_saw(effects, scene.created))
    made = scene.created.union(*(each["creates"] for each in effects))
    locks = {t: lock for t, lock in whole["locks"].items() if t not in made}
    work = {t: cost for t, cost in whole["work"].items() if t not in made}
    return {
        "operation": type(operation).__name__,
        "description": operation.describe(),
        "phase": whole["phase"],
        "old_code": whole["old"],
        "new_code": whole["new"],
        "lock": strongest(locks.values()),
        "blocks": blocks(locks),
        "locks": locks,
        "late": sorted(t for t in whole["late"] if t in locks),
        "cost": dearest(work.values()),
        "work": work,
        "tables": sorted(locks),
        "reversible": reversible(operation),
        "loses_data": whole["loses"],
        "loses_data_on_reverse": whole["loses_back"],
        "remedy": whole["remedy"],
        "facts": whole["facts"],
    }


def effect(phase, old=OK, new=OK, locks=None, work=None, remedy="", **rest):
    """One consequence of an operation.

    rest: loses, loses_back (words), late (tables), subject (the table that it is about), creates
    (tables), renames {old: new}, facts {}, refused (Django itself will not do it: words).
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


MARK = ("say when it may run: `safe = Safe.before_deploy()` (django-safemigrate), "
        "`stage = Stage.PRE_DEPLOY` (django-syzygy), or `overrides` in our configuration")


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


def for_old_code_that_never_saw(effects, created):
    """Whatever happens to a table created in this same plan: no running code knows that table."""
    return [
        dict(each, phase="before", old=OK, remedy="", loses="", work={},
             facts=dict(each["facts"], created_in_this_plan=each["subject"]))
        if each["subject"] in created and each["phase"] != "any" else each
        for each in effects
    ]


def join(phases):
    """The phase of several things that happen together; see the top of this file."""
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


def unique(words):
    return list(collections.OrderedDict.fromkeys(words))


# --------------------------------------------------------------------------- which judge


def judge(operation, scene):
    """The effects of one operation, from the judge of the class that does its SQL.

    What nobody can know, the operation itself may say: django-syzygy's have a `stage`.
    """
    base = judged_as(type(operation))
    if base is None:
        effects = [unknown("%s.%s is not an operation of Django's: what it does is unknown" % (
            type(operation).__module__, type(operation).__name__), MARK)]
    else:
        effects = JUDGES[base](operation, scene)
    stage = getattr(operation, "stage", None)
    if stage is None:
        return effects
    phase = marked("stage", stage, STAGES)["phase"]
    return [dict(each, phase=phase) if each["phase"] == "unknown" else each for each in effects]


def judged_as(kind):
    """The name of the judge for an operation class; None where nobody can know.

    A subclass is what its base is, unless it has its own SQL or its own idea of the state.
    """
    for base in kind.__mro__:
        if base.__name__ not in JUDGES:
            continue
        if base.__module__ == "deferred_migrations.operations":
            return base.__name__ if base is kind else None
        if base.__module__.startswith(DJANGO):
            methods = ("database_forwards", "state_forwards")
            same = all(getattr(kind, name) is getattr(base, name) for name in methods)
            return base.__name__ if same or kind.__module__.startswith(DJANGO) else None
    return None


def reversible(operation):
    """Whether Django can go back over it; an operation inside another one counts."""
    inner = getattr(operation, "database_operations", ())
    return bool(operation.reversible) and all(reversible(each) for each in inner)


def allowed(model, scene):
    """Whether this database gets SQL for the model (router, managed, proxy, swapped)."""
    from django.db import router

    alias = scene.connection.alias
    return bool(model._meta.can_migrate(scene.connection)
                and router.allow_migrate_model(alias, model))


def why_not(model, scene):
    options = model._meta
    for yes, why in ((options.proxy, "a proxy model"), (not options.managed, "an unmanaged model"),
                     (options.swapped, "swapped for %s" % options.swapped)):
        if yes:
            return why
    return "the router keeps it from the database %r" % scene.connection.alias


def names_of(model):
    return model._meta.db_table, model._meta.object_name


# --------------------------------------------------------------------------- models


def create_model(operation, scene):
    model = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    tables = [model] + [field.remote_field.through for field in automatic(model)]
    return [new_table(each, scene) for each in tables]


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


def delete_model(operation, scene):
    model = scene.before.apps.get_model(scene.app, operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    tables = [model] + [field.remote_field.through for field in automatic(model)]
    return [dropped_table(each, scene) for each in tables]


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


def rename_model(operation, scene):
    old = scene.before.apps.get_model(scene.app, operation.old_name)
    new = scene.after.apps.get_model(scene.app, operation.new_name)
    if not allowed(new, scene):
        return [nothing(why_not(new, scene))]
    links = (link_tables(old), link_tables(new))
    if old._meta.db_table != new._meta.db_table:
        related = {names_of(each.field.model)[0] for each in related_objects(old)}
        return [renamed_table(old, new, links, related)]
    if links[0] != links[1]:
        return [renamed_links(old, links)]
    return [nothing("db_table stays %s" % old._meta.db_table)]


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


def alter_model_table(operation, scene):
    old = scene.before.apps.get_model(scene.app, operation.name)
    new = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(new, scene):
        return [nothing(why_not(new, scene))]
    if old._meta.db_table == new._meta.db_table:
        return [nothing("db_table stays %s" % old._meta.db_table)]
    return [dict(renamed_table(old, new, (link_tables(old), link_tables(new)), set()), work={})]


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


def alter_order(operation, scene):
    old = scene.before.apps.get_model(scene.app, operation.name)
    new = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(new, scene):
        return [nothing(why_not(new, scene))]
    before, after = old._meta.order_with_respect_to, new._meta.order_with_respect_to
    if after and not before:
        return [added_column(new, new._meta.get_field("_order"), scene)]
    if before and not after:
        return [removed_column(old, old._meta.get_field("_order"), scene)]
    return [nothing("the column _order stays")]


def alter_options(operation, scene):
    return [nothing("only Django's state changes")]


def alter_table_comment(operation, scene):
    model = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    table = model._meta.db_table
    return [effect("any", locks={table: lock_of("SUX", scene)}, subject=table)]


# --------------------------------------------------------------------------- fields


def add_field(operation, scene):
    model = scene.after.apps.get_model(scene.app, operation.model_name)
    field = model._meta.get_field(operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    if field.many_to_many:
        return added_links(model, field, scene)
    if not column_of(field, scene):
        return [nothing("the field has no column")]
    return [added_column(model, field, scene)]


def added_links(model, field, scene):
    through = field.remote_field.through
    if not through._meta.auto_created:
        return [nothing("the model %s is the table" % through._meta.object_name)]
    found = new_table(through, scene)
    found["new"] = "using %s, and deleting rows on either side, fails: table %s is not there" % (
        field.name, through._meta.db_table)
    return [found]


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


def remove_field(operation, scene):
    model = scene.before.apps.get_model(scene.app, operation.model_name)
    field = model._meta.get_field(operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    if field.many_to_many:
        through = field.remote_field.through
        if not through._meta.auto_created:
            return [nothing("the model %s is the table" % through._meta.object_name)]
        return [dropped_table(through, scene)]
    if not column_of(field, scene):
        return [nothing("the field has no column")]
    return [removed_column(model, field, scene)]


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


def rename_field(operation, scene):
    old_model = scene.before.apps.get_model(scene.app, operation.model_name)
    new_model = scene.after.apps.get_model(scene.app, operation.model_name)
    if not allowed(new_model, scene):
        return [nothing(why_not(new_model, scene))]
    old = old_model._meta.get_field(operation.old_name)
    new = new_model._meta.get_field(operation.new_name)
    return altered(old_model, old, new, scene)


def alter_field(operation, scene):
    old_model = scene.before.apps.get_model(scene.app, operation.model_name)
    new_model = scene.after.apps.get_model(scene.app, operation.model_name)
    if not allowed(new_model, scene):
        return [nothing(why_not(new_model, scene))]
    old = old_model._meta.get_field(operation.name)
    new = new_model._meta.get_field(operation.name)
    return altered(old_model, old, new, scene)


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
                  remedy=remedy, subject=model._meta.db_table, refused=why)


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


def kind_of_value(model, old, new, scene):
    """A column holding something else, e.g. encrypted text, or seconds where numbers were."""
    kinds = [family(field) for field in (old, new)]
    extents = [extent(field, scene) for field in (old, new)]
    other_type = extents[0] != extents[1] and not (
        covers(extents[0], extents[1]) or covers(extents[1], extents[0]))
    if kinds[0] == kinds[1] or other_type:
        return []
    words = "reads and writes %s where the other code has %s" % tuple(kinds)
    return [unknown(words, "add a second field, copy, remove the first one later; or " + MARK)]


TEXTS = ("CharField", "SlugField", "FileField", "FilePathField", "TextField")
INTEGERS = ("AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField",
            "SmallIntegerField", "PositiveIntegerField", "PositiveBigIntegerField",
            "PositiveSmallIntegerField")


def family(field):
    """What Python makes of the column: text, integers, else the field's own kind."""
    field = target_of(field)
    kind = type(field)
    if not kind.__module__.startswith("django."):
        return "%s.%s" % (kind.__module__, kind.__qualname__)
    internal = field.get_internal_type()
    if internal in TEXTS:
        return "text"
    return "integers" if internal in INTEGERS else internal


def target_of(field):
    """A key holds what the field that it points to holds."""
    while field.remote_field:
        field = field.target_field
    return field


def column_type(model, old, new, scene):
    """A new type for the column, and for every column that points to it."""
    before, after = extent(old, scene), extent(new, scene)
    suffixes = [field.db_type_suffix(scene.connection) for field in (old, new)]
    if old.primary_key != new.primary_key or bool(suffixes[0]) != bool(suffixes[1]):
        words = "fails: the primary key changes"
        return [effect("offline", words, words,
                       locks={model._meta.db_table: "AX"}, work={model._meta.db_table: "rewrite"},
                       remedy="a new primary key needs a maintenance window")]
    if before == after:
        return []
    table, words = model._meta.db_table, (column_of(old, scene), column_of(new, scene))
    cost = cost_of_type(model, old, before, after, scene)
    pointing = {names_of(each.field.model)[0] for each in pointing_to(old)}
    locks = {each: lock_of("AX", scene) for each in pointing | {table}}
    work = dict({each: dearest([cost, "scan"]) for each in pointing}, **{table: cost})
    change = "%s.%s from %s to %s" % ((table, old.column, *words))
    facts = {"type": change}
    if covers(after, before):
        return [effect("before", OK, "writing what only fits the new type fails (%s)" % change,
                       locks=locks, work=work, facts=facts,
                       loses_back="going back fails, or cuts, where a value only fits the new type",
                       remedy="" if cost == "brief" else ADD_AND_COPY)]
    if covers(before, after):
        return [effect("after", "writing what does not fit any more fails (%s)" % change, OK,
                       locks=locks, work=work, facts=facts,
                       loses="values that do not fit: the migration fails on them, or cuts them",
                       remedy=ADD_AND_COPY)]
    return [effect("offline", "comparing with, or writing, the old type fails (%s)" % change,
                   "comparing with, or writing, the new type fails (%s)" % change,
                   locks=locks, work=work, facts=facts,
                   loses="whatever the database cannot turn from the old type into the new one",
                   remedy=ADD_AND_COPY)]


ADD_AND_COPY = ("add a new field of that type (null=True or db_default), write both, copy, "
                "read the new one, remove the old one: one deploy each")

# A type as what it holds: ("text", 100), ("integer", low, high), ("decimal", whole, fraction),
# ("other", its name).
SIZES = {"smallint": 15, "integer": 31, "int": 31, "bigint": 63}


def extent(field, scene):
    target = target_of(field)
    if target.get_internal_type() == "DecimalField" and family(target) == "DecimalField":
        return ("decimal", (target.max_digits or 999) - (target.decimal_places or 0),
                target.decimal_places or 0)
    name = column_of(field, scene)
    text = re.match(r"(?:varchar|character varying)(?:\((\d+)\))?$", name)
    if text:
        return ("text", int(text.group(1) or 10 ** 9))
    if name in ("text", "longtext"):
        return ("text", 10 ** 9)
    words = name.lower().replace(" auto_increment", "").split()
    if words and words[0] in SIZES and words[1:] in ([], ["unsigned"]):
        bits = SIZES[words[0]]
        if scene.connection.vendor == "mysql" and words[1:]:
            return ("integer", 0, 2 ** (bits + 1))
        return ("integer", -(2 ** bits), 2 ** bits)
    return ("other", name)


def covers(wide, narrow):
    """Whether everything that the second holds fits the first."""
    if wide[0] != narrow[0] or wide[0] == "other":
        return False
    if wide[0] == "integer":
        return wide[1] <= narrow[1] and wide[2] >= narrow[2]
    return all(a >= b for a, b in zip(wide[1:], narrow[1:]))


def cost_of_type(model, field, before, after, scene):
    """PostgreSQL writes no row where text or numeric only become wider."""
    if scene.connection.vendor != "postgresql":
        return "rewrite"
    if not covers(after, before) or before[0] not in ("text", "decimal"):
        return "rewrite"
    if before[0] == "decimal":
        return "rewrite" if after[2] != before[2] else built_on(model, field)
    was_open, is_open = before[1] >= 10 ** 9, after[1] >= 10 ** 9
    if was_open != is_open and (field.db_index or field.unique):
        return "build"
    return built_on(model, field)


def built_on(model, field):
    """Indexes with expressions and checks may be made anew, whatever the type; then it is work."""
    meta = model._meta
    rich = [each for each in list(meta.indexes) + list(meta.constraints)
            if getattr(each, "expressions", ()) or getattr(each, "condition", None) is not None
            or not hasattr(each, "fields")]
    return "scan" if rich else "brief"


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


def added_unique(table, columns, lock, scene):
    return effect(
        "after", "writing a second row with the same %s fails" % ", ".join(columns), OK,
        locks={table: lock_of(lock, scene)}, work={table: "build"}, subject=table,
        remedy="on a big table: CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT USING INDEX, "
               "inside SeparateDatabaseAndState")


def dropped_unique(table, columns, scene):
    return effect("before", OK,
                  "writing a second row with the same %s fails" % ", ".join(columns),
                  locks={table: lock_of("AX", scene)}, work={table: cost_of_altering(scene)},
                  subject=table, loses_back="going back fails where rows are the same",
                  facts={"upsert": "ON CONFLICT on these columns fails without the constraint"})


def index(model, old, new, scene):
    """Django's own index of one field: db_index, where unique does not make it needless."""
    had, has = (bool(field.db_index) and not field.unique for field in (old, new))
    table = model._meta.db_table
    if has and not had:
        return [added_index(table, scene)]
    return [dropped_index(table, scene)] if had and not has else []


def added_index(table, scene):
    return effect("any", locks={table: lock_of("SH", scene)}, work={table: "build"},
                  subject=table, remedy=CONCURRENTLY if is_postgresql(scene) else "")


CONCURRENTLY = "on a big table: AddIndexConcurrently in a migration with atomic = False"


def dropped_index(table, scene):
    return effect("any", locks={table: lock_of("AX", scene)},
                  work={table: cost_of_altering(scene)}, subject=table)


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


def added_check(table, condition, scene):
    return effect(
        "after", "writing what %s forbids fails" % condition, OK,
        locks={table: lock_of("AX", scene)},
        work={table: dearest(["scan", cost_of_altering(scene)])}, subject=table,
        remedy="on a big table: AddConstraintNotValid, then ValidateConstraint in the next "
               "migration" if is_postgresql(scene) else "")


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


# --------------------------------------------------------------------------- indexes, constraints


def add_index(operation, scene, lock="SH"):
    model = scene.after.apps.get_model(scene.app, operation.model_name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    found = added_index(model._meta.db_table, scene)
    if lock == "SUX":
        found.update(locks={model._meta.db_table: "SUX"}, remedy="", facts={
            "note": "waits for older transactions; a failure leaves an INVALID index"})
    return [found]


def add_index_concurrently(operation, scene):
    return add_index(operation, scene, "SUX")


def remove_index(operation, scene, lock="AX"):
    model = scene.before.apps.get_model(scene.app, operation.model_name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    found = dropped_index(model._meta.db_table, scene)
    if lock == "SUX":
        found.update(locks={model._meta.db_table: "SUX"})
    return [found]


def remove_index_concurrently(operation, scene):
    return remove_index(operation, scene, "SUX")


def rename_index(operation, scene):
    model = scene.after.apps.get_model(scene.app, operation.model_name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    if is_postgresql(scene):
        return [effect("any", subject=model._meta.db_table,
                       facts={"note": "SUX on the index alone, brief"})]
    table = model._meta.db_table
    return [effect("any", locks={table: "AX"}, work={table: "build"}, subject=table)]


def add_constraint(operation, scene):
    model = scene.after.apps.get_model(scene.app, operation.model_name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    constraint = operation.constraint
    table, kind = model._meta.db_table, kind_of_constraint(constraint)
    if kind == "check":
        return [added_check(table, constraint.name, scene)]
    if kind == "exclusion":
        return [added_unique(table, [constraint.name], "AX", scene)]
    if kind == "unique":
        as_index = any(getattr(constraint, name, None) for name in
                       ("condition", "include", "opclasses", "expressions"))
        names = list(constraint.fields) or [constraint.name]
        return [added_unique(table, names, "SH" if as_index else "AX", scene)]
    return [unknown("what the constraint %s forbids is unknown" % constraint.name, MARK,
                    locks={table: "AX"})]


def kind_of_constraint(constraint):
    """check, unique, exclusion, or unknown: third-party ones with their own SQL."""
    names = {"CheckConstraint": "check", "UniqueConstraint": "unique",
             "ExclusionConstraint": "exclusion"}
    for base in type(constraint).__mro__:
        if base.__name__ in names and base.__module__.startswith("django."):
            return names[base.__name__] if type(constraint).create_sql is base.create_sql else None
    return None


def add_constraint_not_valid(operation, scene):
    found = add_constraint(operation, scene)
    for each in found:
        each.update(work={}, remedy="")
    return found


def validate_constraint(operation, scene):
    model = scene.before.apps.get_model(scene.app, operation.model_name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    table = model._meta.db_table
    return [effect("any", locks={table: "SUX"}, work={table: "scan"}, subject=table)]


def remove_constraint(operation, scene):
    model = scene.before.apps.get_model(scene.app, operation.model_name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    table = model._meta.db_table
    kinds = {each.name: kind_of_constraint(each) for each in model._meta.constraints}
    if kinds.get(operation.name) is None:
        return [unknown("what the constraint %s did is unknown" % operation.name, MARK,
                        locks={table: "AX"})]
    return [effect("before", OK, "writing what %s forbids fails" % operation.name,
                   locks={table: lock_of("AX", scene)}, work={table: cost_of_altering(scene)},
                   subject=table, loses_back="going back fails where rows break it",
                   facts={"upsert": "ON CONFLICT on it fails without the constraint"})]


def alter_constraint(operation, scene):
    return [nothing("only what Python checks changes")]


def alter_unique_together(operation, scene):
    return alter_together(operation, scene, "unique_together")


def alter_index_together(operation, scene):
    return alter_together(operation, scene, "index_together")


def alter_together(operation, scene, option):
    model = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    table, key = model._meta.db_table, (scene.app, operation.name_lower)
    before, after = (
        {tuple(each) for each in state.models[key].options.get(option) or ()}
        for state in (scene.before, scene.after))
    if option == "unique_together":
        effects = [added_unique(table, list(each), "AX", scene) for each in sorted(after - before)]
        effects += [dropped_unique(table, list(each), scene) for each in sorted(before - after)]
    else:
        effects = [added_index(table, scene) for _ in after - before]
        effects += [dropped_index(table, scene) for _ in before - after]
    return effects or [nothing("nothing changes")]


# --------------------------------------------------------------------------- by hand


def separate(operation, scene):
    """What is done to the database counts; what only the state loses may still be a burden."""
    effects, before = [], scene.before
    for each in operation.database_operations:
        after = before.clone()
        each.state_forwards(scene.app, after)
        effects += judge(each, scene._replace(before=before, after=after))
        before = after
    if not operation.database_operations:
        effects += forgotten(operation.state_operations, scene)
    return effects or [nothing("only Django's state changes")]


def forgotten(operations, scene):
    """Columns and tables that stay while new code forgets them, where that breaks new code."""
    effects, before = [], scene.before
    for each in operations:
        after = before.clone()
        each.state_forwards(scene.app, after)
        inner = scene._replace(before=before, after=after)
        if judged_as(type(each)) in ("RemoveField", "DeleteModel"):
            effects += [
                effect("offline", OK, found["new"], remedy=found["remedy"],
                       subject=found["subject"])
                for found in judge(each, inner) if found["new"] != OK]
        before = after
    return effects


def run_python(operation, scene):
    from django.db import router

    if operation.code is type(operation).noop:
        return [nothing("RunPython.noop")]
    if not router.allow_migrate(scene.connection.alias, scene.app, **operation.hints):
        return [nothing("the router keeps it from the database %r" % scene.connection.alias)]
    name = getattr(operation.code, "__qualname__", repr(operation.code))
    return [dict(unknown("what the function %s does is unknown" % name, MARK),
                 facts={"by_hand": True, "note": "locks the rows that it changes until the "
                                                 "transaction ends"})]


def run_sql(operation, scene):
    from django.db import router

    sql = operation.sql
    if not (sql.strip() if isinstance(sql, str) else list(sql)):
        return [nothing("no SQL")]
    if not router.allow_migrate(scene.connection.alias, scene.app, **operation.hints):
        return [nothing("the router keeps it from the database %r" % scene.connection.alias)]
    return [dict(unknown("what the SQL does is unknown", MARK), facts={"by_hand": True})]


def create_extension(operation, scene):
    if not is_postgresql(scene):
        return [nothing("not PostgreSQL")]
    return [effect("before", OK, "fails where it uses the extension",
                   loses_back="columns and indexes of the extension's types")]


def create_collation(operation, scene):
    if not is_postgresql(scene):
        return [nothing("not PostgreSQL")]
    return [effect("before", OK, "fails where it uses the collation")]


def remove_collation(operation, scene):
    if not is_postgresql(scene):
        return [nothing("not PostgreSQL")]
    return [effect("after", "fails where it uses the collation", OK)]


def deferred(operation, scene):
    """django-deferred-migrations: relaxes the old schema now, drops after the deploy. By its docs.

    Removals drop the constraints and NOT NULL first; a rename leaves a view under the old name.
    """
    name = getattr(operation, "model_name", None) or operation.name \
        if hasattr(operation, "name") else operation.old_name
    table = scene.before.apps.get_model(scene.app, name)._meta.db_table
    return [effect("before", OK, "not measured: run it before the new code starts",
                   locks={table: "AX"}, subject=table,
                   facts={"queued": "the drop waits for `migrate_post_deploy`"})]


JUDGES = {
    "CreateModel": create_model,
    "DeleteModel": delete_model,
    "RenameModel": rename_model,
    "AlterModelTable": alter_model_table,
    "AlterModelTableComment": alter_table_comment,
    "AlterModelOptions": alter_options,
    "AlterModelManagers": alter_options,
    "AlterOrderWithRespectTo": alter_order,
    "AlterUniqueTogether": alter_unique_together,
    "AlterIndexTogether": alter_index_together,
    "AddField": add_field,
    "RemoveField": remove_field,
    "AlterField": alter_field,
    "RenameField": rename_field,
    "AddIndex": add_index,
    "RemoveIndex": remove_index,
    "RenameIndex": rename_index,
    "AddIndexConcurrently": add_index_concurrently,
    "RemoveIndexConcurrently": remove_index_concurrently,
    "AddConstraint": add_constraint,
    "AddConstraintNotValid": add_constraint_not_valid,
    "ValidateConstraint": validate_constraint,
    "RemoveConstraint": remove_constraint,
    "AlterConstraint": alter_constraint,
    "SeparateDatabaseAndState": separate,
    "RunPython": run_python,
    "RunSQL": run_sql,
    "CreateExtension": create_extension,
    "CreateCollation": create_collation,
    "RemoveCollation": remove_collation,
    "DeferredRemoveField": deferred,
    "DeferredDeleteModel": deferred,
    "DeferredRenameModel": deferred,
}


# --------------------------------------------------------------------------- facts about fields


def optional(field):
    """Whether an INSERT may leave the column out."""
    return field.null or has_db_default(field) or generated(field)


def has_db_default(field):
    """Whether the database has a default of its own (Django 5.0 or newer can say so)."""
    from django.db.models import NOT_PROVIDED

    return getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED


def constant_db_default(field):
    """Whether every row of one INSERT, or all rows there are, would get the same default."""
    from django.db.models import Value

    return has_db_default(field) and (
        isinstance(field.db_default, Value) or not hasattr(field.db_default, "as_sql")
        or type(field.db_default).__name__ == "Now")


def generated(field):
    return bool(getattr(field, "generated", False))


def column_of(field, scene):
    """The column's type as the database spells it; None for a field without a column."""
    return field.db_parameters(connection=scene.connection)["type"]


def check_of(field, scene):
    return field.db_parameters(connection=scene.connection).get("check") or None


def automatic(model):
    """The many-to-many fields whose tables come and go with the model."""
    return [field for field in model._meta.local_many_to_many
            if field.remote_field.through._meta.auto_created]


def constrained_tables(model, field=None):
    """The tables that the model's keys (or this one) point to by a constraint."""
    fields = [field] if field is not None else model._meta.local_fields
    return [each.remote_field.model._meta.db_table for each in fields
            if each.remote_field and getattr(each, "db_constraint", False)]


def target_tables(model):
    """The tables that the model's keys point to, with a constraint or without."""
    return [each.remote_field.model._meta.db_table for each in model._meta.local_fields
            if each.remote_field]


def related_objects(model):
    """Keys that point to the model, those of hidden many-to-many tables among them."""
    return [each for each in model._meta.get_fields(include_hidden=True)
            if each.auto_created and not each.concrete and (each.one_to_many or each.one_to_one)]


def pointing_to(field, seen=()):
    """Relations whose column has the type of this field's column, and theirs in turn."""
    found = []
    for each in related_objects(field.model):
        targets = [target.name for target in each.field.foreign_related_fields]
        if each in seen or field.name not in targets:
            continue
        found.append(each)
        if each.field.unique:
            found += pointing_to(each.field, [*seen, *found])
    return found


def link_columns(field):
    return (field.m2m_column_name(), field.m2m_reverse_name())


def link_tables(model):
    """[(table, column, column)] of every many-to-many table that is named after the model."""
    own = automatic(model)
    others = [each.field for each in model._meta.get_fields(include_hidden=True)
              if each.auto_created and each.many_to_many
              and each.field.remote_field.through._meta.auto_created]
    return sorted({(field.m2m_db_table(), *link_columns(field)) for field in own + others})


def editor(scene):
    """Django's schema editor, only asked; nothing is executed."""
    return scene.connection.SchemaEditorClass(scene.connection)


def constraints_work(scene):
    return scene.connection.features.supports_foreign_keys


# --------------------------------------------------------------------------- facts about databases


def is_postgresql(scene):
    return scene.connection.vendor == "postgresql"


def lock_of(lock, scene):
    """PostgreSQL's lock, or the worst: MySQL and SQLite do not promise anything better."""
    return lock if is_postgresql(scene) else "AX"


def cost_of_altering(scene):
    """What is a line in PostgreSQL's catalogue may be a copy of the table elsewhere."""
    return "brief" if is_postgresql(scene) else "rewrite"


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


# --------------------------------------------------------------------------- one migration

SAFE = {"always": "any", "before_deploy": "before", "after_deploy": "after"}
STAGES = {"pre_deploy": "before", "post_deployment": "after", "post_deploy": "after"}


def marker(migration, overrides):
    """What people say about a migration: {"from", "value", "phase", "delay"}, or None.

    Our configuration first, then `safe` (django-safemigrate 4 to 6: an enum, a bare classmethod,
    or an object with .when and .delay; compared by value), then `stage` (django-syzygy).
    """
    key = "%s.%s" % (migration.app_label, migration.name)
    if key in overrides:
        return {"from": "overrides", "value": overrides[key], "phase": overrides[key],
                "delay": None}
    for attribute, phases in (("safe", SAFE), ("stage", STAGES)):
        found = getattr(migration, attribute, None)
        if found is not None:
            return marked(attribute, found, phases)
    return None


def marked(attribute, found, phases):
    if callable(found):
        found = found()
    delay = getattr(found, "delay", None)
    found = getattr(found, "when", found)
    value = str(getattr(found, "value", found)).lower()
    return {"from": attribute, "value": value, "phase": phases.get(value, "unknown"),
            "delay": delay.total_seconds() if delay is not None else None}


def file_hash(migration):
    """sha256 of the migration's file, or None where it has none."""
    module = sys.modules.get(type(migration).__module__)
    try:
        with open(module.__file__, "rb") as text:
            return hashlib.sha256(text.read()).hexdigest()
    except (AttributeError, TypeError, OSError):
        return None


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


def blocking(lock):
    return LOCKS.index(lock) >= LOCKS.index("SH")


def judged_migration(migration, operations, parents, mark, transactional):
    """One migration from its judged operations; sizes and the other migrations come later.

    -> {"app", "name", "migration": "app.name", "phase", "judged": the join of its operations,
    "marker": as `marker`, "operations": [as `classify`], "lock", "blocks", "locks", "held": {table:
    lock kept until the end of its one transaction}, "waits_for_backfill": [tables locked while a
    by-hand step runs], "cost", "work", "tables", "atomic": in one transaction, where the database
    can, "reversible", "sha256", "dependencies": ["app.name"], "behind": [those that run after],
    "blocked_by": [the same, for a before], "heavy": [as `weigh`], "refused": [words]}
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
        "atomic": atomic,
        "reversible": all(each["reversible"] for each in operations),
        "sha256": file_hash(migration),
        "dependencies": parents,
        "behind": [],
        "blocked_by": [],
        "heavy": [],
        "refused": refusals(operations, migration.atomic),
    }


def refusals(operations, atomic):
    """What Django will refuse to do, known before it tries."""
    return ["%s needs `atomic = False` on the migration" % each["operation"] for each in operations
            if atomic and each["operation"] in ("AddIndexConcurrently", "RemoveIndexConcurrently")]


# --------------------------------------------------------------------------- the whole plan


def close(pending):
    """Order among migrations: what waits for one that runs after, runs after too.

    `dependencies` hold run_before already. any behind after -> after; before behind after ->
    blocked: it must run before the new code, and cannot.
    """
    waiting = {}
    for each in pending:
        behind = sorted({name for parent in each["dependencies"]
                         for name in [parent, *waiting.get(parent, [])] if name in waiting})
        if behind and each["phase"] == "any":
            each["phase"] = "after"
        elif behind and each["phase"] == "before":
            each["blocked_by"] = behind
        each["behind"] = behind
        if behind or each["phase"] == "after":
            waiting[each["migration"]] = behind
    return pending


def weigh(pending, size, heavy_bytes):
    """Fill in `heavy`: work on a big table while others cannot write to it.

    size(table) -> bytes, or None where the database does not say; that counts as big. An index
    built concurrently or a validation (SUX) blocks nobody, so it is never heavy.
    """
    sizes = {}
    for each in pending:
        for table, cost in sorted(each["work"].items()):
            if cost == "brief" or not blocking(each["locks"].get(table, "none")):
                continue
            if table not in sizes:
                sizes[table] = size(table)
            if sizes[table] is None or sizes[table] > heavy_bytes:
                each["heavy"].append({"table": table, "bytes": sizes[table], "cost": cost,
                                      "lock": each["locks"][table]})
    return pending


def plan_hash(pending):
    """sha256 over the ordered (app, name, sha256 of the file, phase)."""
    rows = [[each["app"], each["name"], each["sha256"], each["phase"]] for each in pending]
    return hashlib.sha256(json.dumps(rows).encode("utf-8")).hexdigest()


def decide(plan):
    """What one judged plan allows.

    -> {"decision": "nothing" | "expand" | "expand-contract" | "stop", "expand": ["app.name"],
    "contract": ["app.name"], "offenders": [{"migration", "reasons", "remedies"}],
    "problems": [words]}. "stop" still names expand and contract, for a maintenance window or a
    person who accepts the risk; offenders that are offline, unknown or blocked are in neither.
    """
    pending, problems = plan["pending"], problems_of(plan)
    offenders = [found for found in map(offence, pending) if found]
    expand = [each["migration"] for each in pending
              if each["phase"] in ("any", "before") and not each["blocked_by"]]
    contract = [each["migration"] for each in pending if each["phase"] == "after"]
    if problems or offenders:
        decision = "stop"
    elif not pending:
        decision = "nothing"
    else:
        decision = "expand-contract" if contract else "expand"
    return {"decision": decision, "expand": expand, "contract": contract, "offenders": offenders,
            "problems": problems}


def problems_of(plan):
    """Why a plan is not trusted at all."""
    found = ["several last migrations in %s: %s" % (app, ", ".join(names))
             for app, names in sorted(plan["conflicts"].items())]
    if plan["inconsistent"]:
        found.append(plan["inconsistent"])
    if plan["ahead"]:
        found.append("applied, but not in this release: %s" % ", ".join(plan["ahead"]))
    return found


def offence(each):
    """Why one migration is not safe while code runs: {"migration", "reasons", "remedies"}."""
    reasons, remedies = [], []
    if each["phase"] in ("offline", "unknown"):
        reasons, remedies = why_unsafe(each)
    for name in each["blocked_by"]:
        reasons.append("must run before the new code, but depends on %s, which waits for it" % name)
        remedies.append("deploy %s first, or make it safe before the new code starts" % name)
    for heavy in each["heavy"]:
        reasons.append(heavy_words(heavy, each["waits_for_backfill"]))
        remedies += [op["remedy"] for op in each["operations"]
                     if op["remedy"] and heavy["table"] in op["work"]]
        if heavy["table"] in each["waits_for_backfill"]:
            remedies.append("put the schema change and the backfill into two migrations")
    reasons += each["refused"]
    if not reasons:
        return None
    return {"migration": each["migration"], "reasons": unique(reasons),
            "remedies": unique(remedies)}


def why_unsafe(each):
    """Reasons and remedies of a migration that is offline or unknown."""
    mark = each["marker"]
    if mark:
        words = "marked %s = %r" % (mark["from"], mark["value"])
        known = mark["phase"] == "unknown" and mark["from"] != "overrides"
        return [words + (", which we do not understand" if known else "")], []
    bad = [op for op in each["operations"] if op["phase"] in ("offline", "unknown")]
    reasons = ["%s: %s" % (op["description"], what_breaks(op)) for op in bad]
    if each["phase"] == "offline" and not any(op["phase"] == "offline" for op in bad):
        reasons.append(
            "one part must run before the new code (%s), another after it (%s)" % tuple(
                "; ".join(op["description"] for op in each["operations"] if op["phase"] == phase)
                for phase in ("before", "after")))
    remedies = [op["remedy"] for op in bad if op["remedy"]]
    if (reasons and not bad) or len(reasons) > len(bad):
        remedies.append("split it into two migrations")
    return reasons, remedies


def what_breaks(op):
    if op["phase"] == "unknown":
        return op["old_code"]
    return "; ".join("%s code: %s" % (who, op[key]) for who, key in
                     (("old", "old_code"), ("new", "new_code")) if op[key] != OK)


def heavy_words(heavy, waiting):
    size = "of unknown size" if heavy["bytes"] is None else "of %.0f MB" % (heavy["bytes"] / 1e6)
    work = {"build": "builds an index on", "scan": "reads all of", "rewrite": "rewrites all of"}
    what = "fills in data while it holds" if heavy["table"] in waiting else work[heavy["cost"]]
    return "%s %s (%s), which blocks %s meanwhile" % (
        what, heavy["table"], size, BLOCKS[heavy["lock"]])


def decide_together(plans):
    """{alias: plan} -> as `decide`, the strictest decision, and each alias in "databases"."""
    each = {alias: decide(plan) for alias, plan in plans.items()}
    order = ("nothing", "expand", "expand-contract", "stop")
    return {
        "decision": max((one["decision"] for one in each.values()), key=order.index,
                        default="nothing"),
        "offenders": [dict(found, database=alias) for alias, one in each.items()
                      for found in one["offenders"]],
        "problems": ["%s: %s" % (alias, words) for alias, one in each.items()
                     for words in one["problems"]],
        "databases": each,
    }


# --------------------------------------------------------------------------- reading


def read_plan(connection, overrides=None, heavy_bytes=HEAVY_BYTES):
    """The pending migrations of one database, in order, judged. Needs only SELECT.

    overrides: {"app.name": phase}. ->
    {"alias", "vendor", "server_version", "transactional": DDL rolls back, "first": no migration
    ever ran here (markers are not asked then), "tools": [installed apps with markers or commands
    of their own], "conflicts": {app: [names]}, "inconsistent": words or None, "ahead": ["app.name"
    applied but not in this code], "heavy_bytes", "unused_overrides": [names], "pending": [as
    judged_migration], "hash"}
    """
    from django.db.migrations.executor import MigrationExecutor

    overrides = dict(overrides or {})
    for name, phase in overrides.items():
        if phase not in PHASES:
            raise ValueError("overrides.%s: %r is none of %s" % (name, phase, ", ".join(PHASES)))
    executor = MigrationExecutor(connection)
    loader = executor.loader
    first = not executor.recorder.has_table()
    steps = [each for each, _ in executor.migration_plan(loader.graph.leaf_nodes())]
    transactional = bool(connection.features.can_rollback_ddl)
    judged = judged_steps(steps, executor, first)
    pending = [
        judged_migration(migration, operations, parents_of(migration, loader, steps),
                         None if first else marker(migration, overrides), transactional)
        for migration, operations in zip(steps, judged)
    ]
    names = {each["migration"] for each in pending}
    weigh(close(pending), lambda table: table_bytes(connection, table), heavy_bytes)
    return {
        "alias": connection.alias,
        "vendor": connection.vendor,
        "server_version": server_version(connection),
        "transactional": transactional,
        "first": first,
        "tools": tools(),
        "conflicts": {app: sorted(found) for app, found in loader.detect_conflicts().items()},
        "inconsistent": inconsistency(loader, connection),
        "ahead": ahead(loader),
        "heavy_bytes": heavy_bytes,
        "unused_overrides": sorted(set(overrides) - names),
        "pending": pending,
        "hash": plan_hash(pending),
    }


def judged_steps(steps, executor, first):
    """The judged operations of each step: [[as `classify`]]."""
    if first:
        return [[never_run(each) for each in migration.operations] for migration in steps]
    state, created, found = state_now(executor), set(), []
    for migration in steps:
        operations, state = judged_operations(
            migration.app_label, migration.operations, state, executor.connection, created)
        found.append(operations)
    return found


def judged_operations(app, operations, state, connection, created):
    """([as `classify`], the state after them); `created` collects the tables that they make."""
    found = []
    for operation in operations:
        after = state.clone()
        operation.state_forwards(app, after)
        scene = Scene(app, state, after, connection, frozenset(created))
        effects = judge(operation, scene)
        found.append(told(operation, effects, scene))
        remember(effects, created)
        state = after
    return found, state


def remember(effects, created):
    """Keep the set of tables that this plan made, under the names that they have by now."""
    for each in effects:
        created.update(each["creates"])
        for old, new in each["renames"].items():
            if old in created:
                created.add(new)


def never_run(operation):
    """An operation on a database where nothing ran yet: no code runs that could mind."""
    return {
        "operation": type(operation).__name__, "description": operation.describe(),
        "phase": "before", "old_code": OK, "new_code": "fails: the database is empty",
        "lock": "none", "blocks": BLOCKS["none"], "locks": {}, "late": [], "cost": "brief",
        "work": {}, "tables": [], "reversible": reversible(operation), "loses_data": "",
        "loses_data_on_reverse": "everything", "remedy": "", "facts": {"first": True},
    }


def state_now(executor):
    """Django's project state with what is applied, as the executor itself makes it."""
    from django.db.migrations.state import ProjectState

    loader = executor.loader
    state = ProjectState(real_apps=loader.unmigrated_apps)
    for migration, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True):
        if (migration.app_label, migration.name) in loader.applied_migrations:
            migration.mutate_state(state, preserve=False)
    return state


def parents_of(migration, loader, steps):
    """The pending migrations that must run before this one: dependencies, and run_before's."""
    pending = {(each.app_label, each.name) for each in steps}
    node = loader.graph.node_map[(migration.app_label, migration.name)]
    return sorted("%s.%s" % each.key for each in node.parents if each.key in pending)


def inconsistency(loader, connection):
    """Why the history cannot be, in Django's words; None where it can."""
    from django.db.migrations.exceptions import InconsistentMigrationHistory

    try:
        loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        return str(error)
    return None


def ahead(loader):
    """Applied, but not on disk: the database is ahead of this code. Only apps that it has."""
    known = set(loader.disk_migrations)
    known.update(replaced for each in loader.replacements.values() for replaced in each.replaces)
    apps = {app for app, _ in loader.disk_migrations}
    return sorted("%s.%s" % each for each in loader.applied_migrations
                  if tuple(each) not in known and each[0] in apps)


def tools():
    """Installed apps that have markers, or a `migrate` of their own."""
    from django.apps import apps

    names = ("django_safemigrate", "syzygy", "deferred_migrations")
    return [name for name in names if apps.is_installed(name)]


def server_version(connection):
    """e.g. "15.14" or "10.11.6"; None where the backend does not say."""
    version = getattr(connection, "pg_version", None) or getattr(connection, "mysql_version", None)
    if isinstance(version, int):
        return "%d.%d" % (version // 10000, version % 10000)
    if version is None and connection.vendor == "sqlite":
        version = connection.Database.sqlite_version_info
    return ".".join(map(str, version)) if version else None


MYSQL_SIZE = ("SELECT data_length + index_length FROM information_schema.tables "
              "WHERE table_schema = DATABASE() AND table_name = %s")


def table_bytes(connection, table):
    """What a table takes with its indexes; 0 where it is not there, None where nobody says.

    SQLite knows only its whole file; InnoDB's figures lag behind (MySQL 8: up to a day).
    """
    from django.db import Error

    questions = {
        "postgresql": ("SELECT pg_total_relation_size(to_regclass(%s))",
                       [connection.ops.quote_name(table)]),
        "mysql": (MYSQL_SIZE, [table]),
        "sqlite": ("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", []),
    }
    if connection.vendor not in questions:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(*questions[connection.vendor])
            row = cursor.fetchone()
    except Error:
        return None
    return int(row[0] or 0) if row else 0


# --------------------------------------------------------------------------- going back


def read_reverse(connection, targets):
    """What going back to `targets` takes, checked as a whole before any step; changes nothing.

    targets: [("app", "name")] or ["app.name"], with None or "zero" for the very beginning. Run it
    with the NEW code on disk: only that code knows how to go back. ->
    {"alias", "migrations": [{"migration", "reversible", "irreversible": [descriptions], "loses":
    [words], "fails": [words], "atomic", "sha256"}] in the order in which Django would go back,
    "complete": bool, "first_irreversible": {"migration", "operation"} or None, "loses": [words],
    "problems": [words]}
    """
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan, problems = reverse_plan(executor, [as_target(each) for each in targets])
    inside = states_inside({each for each, _ in plan}, executor)
    migrations = [reversed_migration(each, inside[each], connection) for each, _ in plan]
    stuck = [(each["migration"], each["irreversible"][0]) for each in migrations
             if each["irreversible"]]
    fails = [words for each in migrations for words in each["fails"]]
    return {
        "alias": connection.alias,
        "migrations": migrations,
        "complete": not (stuck or fails or problems),
        "first_irreversible": (
            {"migration": stuck[0][0], "operation": stuck[0][1]} if stuck else None),
        "loses": unique(words for each in migrations for words in each["loses"]),
        "problems": problems + fails,
    }


def as_target(target):
    app, name = target.split(".", 1) if isinstance(target, str) else target
    return app, None if name == "zero" else name


def reverse_plan(executor, targets):
    """([(migration, True)], problems) where every step goes back."""
    loader = executor.loader
    known = {target for target in targets
             if target[1] is None or target in loader.applied_migrations
             or target in loader.graph.nodes}
    problems = ["%s.%s is not a migration of this release" % each
                for each in targets if each not in known]
    plan = executor.migration_plan([each for each in targets if each in known])
    problems += ["%s.%s is not applied: going back cannot apply it" % (each.app_label, each.name)
                 for each, backwards in plan if not backwards]
    return [step for step in plan if step[1]], problems


def states_inside(migrations, executor):
    """{migration: [(operation, state before, state after)]}, in forward order."""
    from django.db.migrations.state import ProjectState

    loader = executor.loader
    state, found = ProjectState(real_apps=loader.unmigrated_apps), {}
    for migration, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True):
        if (migration.app_label, migration.name) not in loader.applied_migrations:
            continue
        if migration not in migrations:
            migration.mutate_state(state, preserve=False)
            continue
        found[migration] = []
        for operation in migration.operations:
            after = state.clone()
            operation.state_forwards(migration.app_label, after)
            found[migration].append((operation, state, after))
            state = after
    return found


def reversed_migration(migration, inside, connection):
    """One step back: what stops it, and what it takes away."""
    irreversible, loses, fails = [], [], []
    for operation, before, after in reversed(inside):
        scene = Scene(migration.app_label, before, after, connection, frozenset())
        if not reversible(operation):
            irreversible.append(operation.describe())
        if is_noop_backwards(operation):
            loses.append("%s: going back restores nothing" % operation.describe())
        for each in judge(operation, scene):
            if each["loses_back"]:
                loses.append(each["loses_back"])
            fails += cannot_come_back(each, connection)
    return {
        "migration": "%s.%s" % (migration.app_label, migration.name),
        "reversible": not irreversible, "irreversible": irreversible, "loses": unique(loses),
        "fails": unique(fails), "atomic": bool(migration.atomic), "sha256": file_hash(migration),
    }


def is_noop_backwards(operation):
    """By-hand steps that have a way back which does nothing."""
    name = judged_as(type(operation))
    if name == "RunPython":
        noop = type(operation).noop
        return operation.reverse_code is noop and operation.code is not noop
    return name == "RunSQL" and operation.reverse_sql == "" and bool(operation.sql)


def cannot_come_back(each, connection):
    """A removed column that was NOT NULL cannot be made again where the table has rows."""
    facts = each["facts"]
    if not each["loses"] or "column" not in facts:
        return []
    if facts["null"] or facts["db_default"] or facts["generated"]:
        return []
    table = each["subject"]
    if not has_rows(connection, table):
        return []
    return ["%s is NOT NULL without a default in the database, and %s has rows: "
            "it comes back only if Django knows a default" % (facts["column"], table)]


def has_rows(connection, table):
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return False
        cursor.execute("SELECT 1 FROM %s LIMIT 1" % connection.ops.quote_name(table))  # noqa: S608
        return cursor.fetchone() is not None
