"""Operations on one field."""

from .altering import altered
from .columns import added_column, removed_column
from .facts import column_of
from .scene import allowed, why_not
from .tables import dropped_table, new_table
from .words import nothing


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
