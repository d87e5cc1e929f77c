"""Operations on whole models."""

from .columns import added_column, removed_column
from .facts import automatic, link_tables, names_of, related_objects
from .scene import allowed, lock_of, why_not
from .tables import dropped_table, new_table, renamed_links, renamed_table
from .words import effect, nothing


def create_model(operation, scene):
    model = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    tables = [model] + [field.remote_field.through for field in automatic(model)]
    return [new_table(each, scene) for each in tables]


def delete_model(operation, scene):
    model = scene.before.apps.get_model(scene.app, operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    tables = [model] + [field.remote_field.through for field in automatic(model)]
    return [dropped_table(each, scene) for each in tables]


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


def alter_model_table(operation, scene):
    old = scene.before.apps.get_model(scene.app, operation.name)
    new = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(new, scene):
        return [nothing(why_not(new, scene))]
    if old._meta.db_table == new._meta.db_table:
        return [nothing("db_table stays %s" % old._meta.db_table)]
    return [dict(renamed_table(old, new, (link_tables(old), link_tables(new)), set()), work={})]


def alter_table_comment(operation, scene):
    model = scene.after.apps.get_model(scene.app, operation.name)
    if not allowed(model, scene):
        return [nothing(why_not(model, scene))]
    table = model._meta.db_table
    return [effect("any", locks={table: lock_of("SUX", scene)}, subject=table)]


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
