"""Indexes, uniqueness, checks."""

from .scene import allowed, cost_of_altering, is_postgresql, lock_of, why_not
from .words import MARK, OK, dearest, effect, nothing, unknown


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


def added_index(table, scene):
    return effect("any", locks={table: lock_of("SH", scene)}, work={table: "build"},
                  subject=table, remedy=CONCURRENTLY if is_postgresql(scene) else "")


CONCURRENTLY = "on a big table: AddIndexConcurrently in a migration with atomic = False"


def dropped_index(table, scene):
    return effect("any", locks={table: lock_of("AX", scene)},
                  work={table: cost_of_altering(scene)}, subject=table)


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


def added_check(table, condition, scene):
    return effect(
        "after", "writing what %s forbids fails" % condition, OK,
        locks={table: lock_of("AX", scene)},
        work={table: dearest(["scan", cost_of_altering(scene)])}, subject=table,
        remedy="on a big table: AddConstraintNotValid, then ValidateConstraint in the next "
               "migration" if is_postgresql(scene) else "")
