"""What a column holds, and what it takes to hold something else."""

import re

from .facts import column_of, names_of, pointing_to
from .scene import lock_of
from .words import MARK, OK, dearest, effect, unknown


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
