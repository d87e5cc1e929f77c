"""One operation: who judges it, and what comes of it."""

from . import byhand, constraints, fields, models
from .markers import STAGES, marked
from .scene import Scene
from .words import BLOCKS, MARK, OK, blocks, dearest, effect, nothing, strongest, together, unknown

DJANGO = ("django.db.migrations.operations.", "django.contrib.postgres.operations")


def classify(operation, app, state, connection, created=()):
    """One operation, judged in the project state before it. `state` stays as it is.

    -> {"operation", "description", "phase", "old_code", "new_code", "lock", "blocks", "locks":
    {table: lock}, "late": [tables locked only when the migration ends], "cost", "work": {table:
    cost}, "tables", "reversible", "loses_data", "loses_data_on_reverse", "remedy", "facts"}
    """
    return judged_operations(app, [operation], state, connection, set(created))[0][0]


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


def for_old_code_that_never_saw(effects, created):
    """Whatever happens to a table created in this same plan: no running code knows that table."""
    return [
        dict(each, phase="before", old=OK, remedy="", loses="", work={},
             facts=dict(each["facts"], created_in_this_plan=each["subject"]))
        if each["subject"] in created and each["phase"] != "any" else each
        for each in effects
    ]


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


JUDGES = {
    "CreateModel": models.create_model,
    "DeleteModel": models.delete_model,
    "RenameModel": models.rename_model,
    "AlterModelTable": models.alter_model_table,
    "AlterModelTableComment": models.alter_table_comment,
    "AlterModelOptions": models.alter_options,
    "AlterModelManagers": models.alter_options,
    "AlterOrderWithRespectTo": models.alter_order,
    "AlterUniqueTogether": constraints.alter_unique_together,
    "AlterIndexTogether": constraints.alter_index_together,
    "AddField": fields.add_field,
    "RemoveField": fields.remove_field,
    "AlterField": fields.alter_field,
    "RenameField": fields.rename_field,
    "AddIndex": constraints.add_index,
    "RemoveIndex": constraints.remove_index,
    "RenameIndex": constraints.rename_index,
    "AddIndexConcurrently": constraints.add_index_concurrently,
    "RemoveIndexConcurrently": constraints.remove_index_concurrently,
    "AddConstraint": constraints.add_constraint,
    "AddConstraintNotValid": constraints.add_constraint_not_valid,
    "ValidateConstraint": constraints.validate_constraint,
    "RemoveConstraint": constraints.remove_constraint,
    "AlterConstraint": constraints.alter_constraint,
    "SeparateDatabaseAndState": separate,
    "RunPython": byhand.run_python,
    "RunSQL": byhand.run_sql,
    "CreateExtension": byhand.create_extension,
    "CreateCollation": byhand.create_collation,
    "RemoveCollation": byhand.remove_collation,
    "DeferredRemoveField": byhand.deferred,
    "DeferredDeleteModel": byhand.deferred,
    "DeferredRenameModel": byhand.deferred,
}
