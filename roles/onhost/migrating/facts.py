"""What Django's models and fields say about themselves."""


def names_of(model):
    return model._meta.db_table, model._meta.object_name


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
