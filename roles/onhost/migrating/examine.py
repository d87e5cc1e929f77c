"""What became of a migration whose process is gone without a result, from the database itself."""

CLEAR = ("applied", "rolled back")


def examine(connection, name, back=False):
    """(verdict, words). Verdicts: applied, rolled back, unrecorded, partly, unknown. ``back``: it
    was being taken back; "applied" is then "taken back".

    Reads only, and is to be asked under the lock, when nobody migrates.
    """
    from django.db.migrations.executor import MigrationExecutor

    loader = MigrationExecutor(connection).loader
    key = tuple(name.split(".", 1))
    if (key in loader.applied_migrations) != back:
        return "applied", "it is %s" % ("taken back" if back else "applied and recorded")
    if key not in loader.disk_migrations or key not in loader.graph.nodes:
        return "unknown", "it is not in this release, so nobody can tell what became of it"
    migration = loader.disk_migrations[key]
    if migration.atomic and connection.features.can_rollback_ddl:
        return "rolled back", "it was rolled back, nothing is left of it"
    return verdict_of(traces(connection, migration, loader, back), back)


def verdict_of(steps, back):
    """``steps``: as ``traces``. Operations run one behind the other, and each changes the schema
    first: where the first one left nothing, none was begun."""
    effective = [(seen, hidden) for seen, hidden in steps if seen or hidden]
    seen = {what: there for each, _ in steps for what, there in each.items()}
    done = [what for what, there in seen.items() if there]
    left = [what for what, there in seen.items() if not there]
    is_done = "taken back" if back else "applied"
    if done and left:
        return "partly", "it is %s in part: %s; but not: %s" % (
            is_done, "; ".join(done), "; ".join(left))
    if done and not any(hidden for _, hidden in steps):
        return "unrecorded", "it is %s, but that is not recorded: %s" % (is_done, "; ".join(done))
    if done:
        return "unknown", ("what of it can be seen in the schema is there: %s; whether the rest "
                           "was done cannot be seen" % "; ".join(done))
    if not effective or not effective[0][1]:
        return "rolled back", "nothing is left of it"
    return "unknown", ("it is not recorded as %s, and what it did cannot be seen in the schema: "
                       "a part of it may have been done" % is_done)


def ways_out(verdict, name, back=False):
    app, _, short = name.partition(".")
    accept = "fab deploy ... --accept-risk=%s" % name
    record = "fab manage ... -- migrate --fake %s %s" % (app, short)
    if back:
        return ("make the schema by hand what it was before this migration, and record it: "
                "fab manage ... -- migrate --fake %s, with the name of the one before it; or make "
                "it whole again" % app)
    if verdict == "unrecorded":
        return "compare the schema with the migration; if it is whole, record it: %s" % record
    if verdict == "partly":
        return ("finish by hand what is missing and record it (%s), or take back by hand what was "
                "done and run the same command again" % record)
    return ("look at the data; if it was done, record it: %s\nif it was not, or does no harm when "
            "it is done twice, run it again: %s" % (record, accept))


def left_behind(connection, migration, back=False):
    """After a failure outside of one transaction: what is there already, in words."""
    from django.db.migrations.executor import MigrationExecutor

    loader = MigrationExecutor(connection).loader
    seen = {what: there for each, _ in traces(connection, migration, loader, back)
            for what, there in each.items()}
    done = [what for what, there in seen.items() if there]
    left = [what for what, there in seen.items() if not there]
    words = "it is not one transaction, so a part of it may be %s" % ("gone" if back else "there")
    if done:
        words += ": " + "; ".join(done)
    if left:
        words += "\nnot there: " + "; ".join(left)
    return words + "\nthe next run looks again, and does not try it blindly"


def by_hand(migration):
    """Whether a part of it is Python or SQL that its author wrote."""
    return any(each.__class__.__name__ in ("RunPython", "RunSQL", "SeparateDatabaseAndState")
               or not each.__module__.startswith("django.") for each in migration.operations)


HARMLESS = ("AlterModelOptions", "AlterModelManagers")
BY_HAND = ("RunPython", "RunSQL", "SeparateDatabaseAndState")
# What an altered field can differ in and be seen, or be of no concern to the database.
VISIBLE = ("null", "unique", "db_index", "default", "blank", "choices", "editable",
           "error_messages", "help_text", "limit_choices_to", "on_delete", "related_name",
           "related_query_name", "validators", "verbose_name")


def traces(connection, migration, loader, back=False):
    """[({words: whether it is there} for what can be seen of an operation in the schema, whether it
    may have done more than that)] in the order in which they run."""
    from django.db import router

    app = migration.app_label
    state = loader.project_state((app, migration.name), at_end=False)
    found = []
    with connection.cursor() as cursor:
        schema = Schema(connection, cursor)
        for operation in migration.operations:
            after = state.clone()
            operation.state_forwards(app, after)
            before_and_after = [tables_of(each, connection) for each in (state, after)]
            seen = schema.differences(*(reversed(before_and_after) if back else before_and_after))
            name = operation.__class__.__name__
            foreign = not operation.__class__.__module__.startswith("django.")
            if name in BY_HAND or foreign:
                found.append(({}, True))
            elif name in HARMLESS or not router.allow_migrate(connection.alias, app):
                found.append(({}, False))
            elif name == "AlterField":
                found.append((seen, not seen or differs_unseen(operation, app, state, after)))
            else:
                found.append((seen, not seen))
            state = after
    return found[::-1] if back else found


def differs_unseen(operation, app, before, after):
    """Whether an altered field is another one in more than can be seen."""
    old, new = (each.models[app, operation.model_name_lower].fields[operation.name].deconstruct()
                for each in (before, after))
    if old[1:3] != new[1:3]:
        return True
    return any(old[3].get(name) != new[3].get(name) for name in {*old[3], *new[3]} - {*VISIBLE})


def tables_of(state, connection):
    """{table: ({column: may be null}, {what else it has})} of all models that are here."""
    from django.db import router

    found = {}
    for model in state.apps.get_models(include_auto_created=True):
        options = model._meta
        here = router.allow_migrate_model(connection.alias, model)
        if options.managed and not options.proxy and here:
            columns = {field.column: field.null for field in options.local_concrete_fields}
            found[options.db_table] = (columns, set(marks_of(options, connection)))
    return found


def marks_of(options, connection):
    """("named", name), or (kind, columns) where Django makes the name up."""
    features = connection.features
    for each in [*options.indexes, *options.constraints]:
        if is_made(each, features):
            yield "named", each.name
    for field in options.local_concrete_fields:
        if field.remote_field and field.db_constraint and features.supports_foreign_keys:
            yield "foreign key", (field.column,)
        elif field.db_index and not field.unique and not (
                connection.vendor == "mysql" and field.get_internal_type() == "TextField"):
            yield "index", (field.column,)
        if field.unique and not field.primary_key:
            yield "unique", (field.column,)
    for kind, groups in (("unique", options.unique_together),
                         ("index", getattr(options, "index_together", ()))):
        for names in groups:
            yield kind, tuple(options.get_field(name).column for name in names)


def is_made(each, features):
    """Whether this database has such an index or constraint; Django leaves it out without a word.
    """
    if each.__class__.__name__ == "CheckConstraint":
        return features.supports_table_check_constraints
    if getattr(each, "expressions", None) and not features.supports_expression_indexes:
        return False
    return not getattr(each, "condition", None) or features.supports_partial_indexes


class Schema:
    """What the database has, each table asked once."""

    def __init__(self, connection, cursor):
        self.connection, self.cursor = connection, cursor
        self.tables = set(connection.introspection.table_names(cursor))
        self.known = {}
        self.invalid = invalid_indexes(connection)

    def table(self, name):
        """({column: may be null}, {as ``marks_of``, with ("INVALID", name)})"""
        if name not in self.known:
            look = self.connection.introspection
            rows = look.get_table_description(self.cursor, name) if name in self.tables else []
            found = look.get_constraints(self.cursor, name) if name in self.tables else {}
            marks = set()
            for label, each in found.items():
                if label in self.invalid:
                    marks.add(("INVALID", label.lower()))
                    continue
                marks.add(("named", label.lower()))
                columns = tuple(each["columns"] or ())
                marks.update((kind, columns) for kind, has in (
                    ("foreign key", each["foreign_key"]), ("unique", each["unique"]),
                    ("index", each["index"] or each["unique"])) if has)
            self.known[name] = {row.name: bool(row.null_ok) for row in rows}, marks
        return self.known[name]

    def differences(self, before, after):
        """{words: whether it is there} for what differs from one state to the next."""
        found = {}
        for table in sorted(set(after) - set(before)):
            found["table %s" % table] = table in self.tables
            columns, _ = after[table]  # all at once, but keys and indexes come later
            found.update(self.inside(table, (columns, set()), after[table]))
        for table in sorted(set(before) - set(after)):
            found["table %s removed" % table] = table not in self.tables
        for table in sorted(set(before) & set(after)):
            found.update(self.inside(table, before[table], after[table]))
        return found

    def inside(self, table, before, after):
        (old, old_marks), (new, new_marks) = before, after
        columns, marks = self.table(table)
        found = {}
        for column in sorted(set(new) - set(old)):
            found["column %s.%s" % (table, column)] = column in columns
        for column in sorted(set(old) - set(new)):
            found["column %s.%s removed" % (table, column)] = column not in columns
        for column in sorted(set(old) & set(new)):
            if old[column] != new[column]:
                words = "column %s.%s %s" % (table, column, "NULL" if new[column] else "NOT NULL")
                found[words] = columns.get(column) == new[column]
        for kind, what in sorted(new_marks - old_marks, key=repr):
            found[spoken(kind, what, table)] = lowered(kind, what) in marks
            if ("INVALID", str(what).lower()) in marks:
                found["%s on %s, but INVALID: to be dropped" % (what, table)] = True
        for kind, what in sorted(old_marks - new_marks, key=repr):
            if kind == "named" or not set(what) & (set(old) - set(new)):  # gone with its column
                words = "%s removed" % spoken(kind, what, table)
                found[words] = lowered(kind, what) not in marks
        return found


def lowered(kind, what):
    return kind, what.lower() if kind == "named" else what


def spoken(kind, what, table):
    if kind == "named":
        return "%s on %s" % (what, table)
    return "%s on %s(%s)" % (kind, table, ", ".join(what))


def invalid_indexes(connection):
    """Left by CREATE INDEX CONCURRENTLY when it failed."""
    if connection.vendor != "postgresql":
        return set()
    with connection.cursor() as cursor:
        cursor.execute("SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                       "WHERE NOT i.indisvalid")
        return {row[0] for row in cursor.fetchall()}
