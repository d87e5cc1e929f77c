"""What an operation is judged in, and what its database makes of locks and costs."""

import typing


class Scene(typing.NamedTuple):
    """What an operation is judged in."""

    app: str
    before: typing.Any
    """Django's ProjectState before the operation."""
    after: typing.Any
    connection: typing.Any
    created: typing.FrozenSet[str]
    """The tables that did not exist when this plan began."""


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


def is_postgresql(scene):
    return scene.connection.vendor == "postgresql"


def lock_of(lock, scene):
    """PostgreSQL's lock, or the worst: MySQL and SQLite do not promise anything better."""
    return lock if is_postgresql(scene) else "AX"


def cost_of_altering(scene):
    """What is a line in PostgreSQL's catalogue may be a copy of the table elsewhere."""
    return "brief" if is_postgresql(scene) else "rewrite"


def constraints_work(scene):
    return scene.connection.features.supports_foreign_keys


def editor(scene):
    """Django's schema editor, only asked; nothing is executed."""
    return scene.connection.SchemaEditorClass(scene.connection)
