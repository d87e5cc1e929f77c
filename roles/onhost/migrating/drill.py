"""Restore a backup into a scratch database, look at it, and throw the scratch away.

Run by the release's own interpreter in the service's environment. Arguments: folder, env, seconds,
file (a path, or a name in the folder; none: the newest backup), tables (to count; none: all).
Answers {"drills": [what of each database]}, and adds a line to drills.jsonl in the folder.
"""

import os
import secrets
import sys
import time
from contextlib import contextmanager

from . import project, stored
from .backup import VENDORS

LEFT = "drill.json"
# What a name may have on PostgreSQL; on MySQL one more.
LONGEST_NAME = 63


def main(arguments):
    stored.begin(arguments["seconds"])

    def question():
        project.set_up(arguments["env"])
        return drilled(arguments)

    project.answer(question, exits=True)


def drilled(arguments):
    folder = arguments["folder"]
    stored.make(folder)
    with stored.locked(folder, "drill.lock", "another drill"):
        drop_left(folder)
        wanted = named(folder, arguments["file"]) if arguments["file"] else newest(folder)
        return {"drills": [noted(folder, record, arguments["tables"]) for record in wanted]}


def noted(folder, record, tables):
    """One database's drill, in the folder's book however it ends."""
    started = time.time()
    line = {"at": round(started, 3), "file": record["file"], "alias": record["alias"]}
    try:
        found = restored(folder, record, tables)
    except BaseException as error:
        stored.note_drill(folder, dict(line, ok=False, error=str(error)[-2000:],
                                       seconds=round(time.time() - started, 3)))
        raise
    line.update(ok=True, seconds=round(time.time() - started, 3))
    stored.note_drill(folder, dict(line, restore_seconds=found["restore_seconds"],
                                   pending=found["pending"], tables=len(found["rows"])))
    return dict(found, **line)


def restored(folder, record, tables):
    databases = project.databases()
    if record["alias"] not in databases:
        sys.exit("%s: it is of the database %s, which this release does not have"
                 % (record["file"], record["alias"]))
    connection = databases[record["alias"]]
    vendor = VENDORS[connection.vendor]
    trusted(record)
    vendor.read_back(connection, record["file"])
    live = counted(connection, tables)
    scratch = scratch_name(folder, connection, vendor)
    left = os.path.join(folder, LEFT)
    stored.write(left, {"alias": record["alias"], "scratch": scratch})
    started = time.time()
    with vendor.restored(connection, record["file"], scratch):
        seconds = round(time.time() - started, 3)
        with instead(connection, scratch) as copy:
            pending, ahead = migrations(copy)
            dumped = counted(copy, tables)
    stored.remove(left)
    rows = {table: [dumped.get(table), live.get(table)] for table in sorted({*dumped, *live})}
    return {"restore_seconds": seconds, "scratch": scratch, "pending": pending, "ahead": ahead,
            "rows": rows, "vendor": connection.vendor, "started": record.get("started"),
            "release": record.get("release")}


# --------------------------------------------------------------------------------- which one


def newest(folder):
    found = stored.records(folder)
    if not found:
        sys.exit("%s: there is no backup; fab backup makes one" % folder)
    same = [each for each in found if each["backup"] == found[-1]["backup"]]
    for each in same:
        if not each.get("file"):
            sys.exit("the newest backup was made by backup.command (%s), which only you know how "
                     "to restore; --file drills a dump of ours" % each["reference"])
        if not each["there"]:
            sys.exit("%s: it is gone; %s says that it should be there"
                     % (each["file"], stored.record_of(each["file"])))
    return same


def named(folder, file):
    """A dump of ours with its record, or any other one, as the first database's."""
    path = os.path.join(folder, file)
    if not os.path.isfile(path):
        sys.exit("%s: there is no such file on this host" % path)
    known = stored.read(stored.record_of(path))
    return [dict(known or {"alias": next(iter(project.databases()))}, file=path)]


def trusted(record):
    """It has to be, byte for byte, what was written."""
    wanted, size = record.get("sha256"), os.stat(record["file"]).st_size
    if wanted is None:
        return
    if size != record["bytes"]:
        sys.exit("%s is not what was written: it has %d bytes and had %d"
                 % (record["file"], size, record["bytes"]))
    if stored.digest(record["file"]) != wanted:
        sys.exit("%s is not what was written: its SHA-256 is another one" % record["file"])


# --------------------------------------------------------------------------------- the scratch


def scratch_name(folder, connection, vendor):
    """Nobody has it already, and everybody sees what it is. SQLite's is a file beside the dumps."""
    end = "_drill_" + secrets.token_hex(4)
    if connection.vendor == "sqlite":
        return os.path.join(folder, "sqlite" + end)
    return vendor.database(connection)[: LONGEST_NAME - len(end)] + end


def drop_left(folder):
    """The scratch of a drill whose machine died."""
    left = stored.read(os.path.join(folder, LEFT))
    if left and left["alias"] in project.databases():
        connection = project.databases()[left["alias"]]
        VENDORS[connection.vendor].drop(connection, left["scratch"])
    stored.remove(os.path.join(folder, LEFT))


@contextmanager
def instead(connection, name):
    """Django's connection of this alias leads to the scratch; what asks by alias gets there too."""
    from django.db import connections

    copy = connection.copy()
    copy.settings_dict["NAME"] = name
    # A pool belongs to the alias and would hand out connections to the real database.
    copy.settings_dict.get("OPTIONS", {}).pop("pool", None)
    connections[connection.alias] = copy
    try:
        yield copy
    finally:
        copy.close()
        connections[connection.alias] = connection


def migrations(connection):
    """(what this release would still migrate there, what the backup has and this release not)"""
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    loader = executor.loader
    plan = executor.migration_plan(loader.graph.leaf_nodes())
    known = set(loader.disk_migrations)
    known.update(replaced for each in loader.replacements.values() for replaced in each.replaces)
    apps = {app for app, _ in loader.disk_migrations}
    ahead = [each for each in loader.applied_migrations if each not in known and each[0] in apps]
    return (["%s.%s" % (each.app_label, each.name) for each, _ in plan],
            sorted("%s.%s" % each for each in ahead))


def counted(connection, tables):
    """{table: rows}; a table that is not there is left out."""
    with connection.cursor() as cursor:
        there = connection.introspection.table_names(cursor)
        found = {}
        for table in tables or there:
            if table in there:
                quoted = connection.ops.quote_name(table)
                cursor.execute("SELECT COUNT(*) FROM " + quoted)  # noqa: S608 - it is quoted
                found[table] = cursor.fetchone()[0]
    return found
