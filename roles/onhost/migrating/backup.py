"""Back the project's databases up, each into a file that was read back whole.

Run by the release's own interpreter in the service's environment. Arguments: folder, keep,
databases (aliases; none: all), env, seconds, release, key (of whoever asked), command (the user's
own snapshot, which then does it all), check (only say what speaks against it; changes nothing).
Answers {"folder", "backups": [record]}, or {"folder", "problems", "expected"}.
"""

import os
import re
import subprocess
import sys
import time

from . import mysql_dump, postgresql_dump, project, sqlite_dump, stored

VENDORS = {"postgresql": postgresql_dump, "mysql": mysql_dump, "sqlite": sqlite_dump}


def main(arguments):
    stored.begin(arguments["seconds"])
    if arguments["command"]:
        project.answer(lambda: by_command(arguments), exits=True)
        return

    def question():
        project.set_up(arguments["env"])
        return looked(arguments) if arguments["check"] else taken(arguments)

    project.answer(question, exits=True)


def looked(arguments):
    found = chosen(arguments["databases"])
    problems, expected = judged(arguments["folder"], found)
    return {"folder": arguments["folder"], "problems": problems, "expected": expected}


def taken(arguments):
    """All of them, or none."""
    folder, found = arguments["folder"], chosen(arguments["databases"])
    problems, _ = judged(folder, found)
    if problems:
        sys.exit("\n".join(problems))
    stored.make(folder)
    with stored.locked(folder, "lock", "another backup"):
        stored.remove_partial(folder)
        name = stored.stamp(folder)
        try:
            records = [dumped(arguments, name, alias, each) for alias, each in found.items()]
            for record in records:
                os.rename(record["file"] + stored.PARTIAL, record["file"])
            stored.sync(folder)
            for record in records:
                stored.write(stored.record_of(record["file"]), record)
            stored.sync(folder)
        except OSError as error:
            sys.exit("%s: %s" % (error.filename or folder, error.strerror))
        finally:
            stored.remove_partial(folder)
        stored.prune(folder, arguments["keep"])
    return {"folder": folder, "backups": records}


def dumped(arguments, stamp, alias, connection):
    """The record of a dump that is complete, on the disk, and still called partial."""
    vendor = VENDORS[connection.vendor]
    name = "%s-%s%s" % (stamp, re.sub(r"[^\w.-]", "_", alias), vendor.SUFFIX)
    path = os.path.join(arguments["folder"], name)
    started = time.time()
    record = dict(vendor.marker(connection), backup=stamp, name=name, file=path, alias=alias,
                  vendor=connection.vendor, database=vendor.database(connection),
                  release=arguments["release"], key=arguments["key"], started=round(started, 3))
    vendor.dump(connection, path + stored.PARTIAL)
    vendor.read_back(connection, path + stored.PARTIAL)
    record["sha256"] = stored.digest(path + stored.PARTIAL)
    record["bytes"] = os.stat(path + stored.PARTIAL).st_size
    stored.sync(path + stored.PARTIAL)
    record["seconds"] = round(time.time() - started, 3)
    return record


# --------------------------------------------------------------------------------- before


def chosen(aliases):
    """{alias: connection}; two names of one database are backed up once."""
    there = project.databases()
    unknown = [each for each in aliases if each not in there]
    if unknown:
        sys.exit("backup.databases: the project has no %s; it has %s"
                 % (", ".join(unknown), ", ".join(there)))
    found, seen = {}, []
    for alias in aliases or there:
        settings = there[alias].settings_dict
        place = [str(settings.get(each) or "") for each in ("ENGINE", "HOST", "PORT", "NAME")]
        place.append(str((settings.get("OPTIONS") or {}).get("service") or ""))
        if place not in seen:
            seen.append(place)
            found[alias] = there[alias]
    return found


def judged(folder, found):
    """(what speaks against it, the bytes that it will take at most)"""
    problems, expected = [], 0
    if not stored.is_writable(folder):
        problems.append("backup.folder: %s is not writable for the service's user" % folder)
    for alias, connection in found.items():
        vendor = VENDORS.get(connection.vendor)
        if vendor is None:
            problems.append("%s: databases of the kind %s cannot be backed up; set backup.command, "
                            "or name the others in backup.databases" % (alias, connection.vendor))
            continue
        refusal = vendor.refusal(connection)
        if refusal:
            problems.append(refusal)
            continue
        expected += taking(folder, alias, connection, vendor)
    free = stored.free(folder)
    if free < expected + stored.SPARE:
        problems.append(
            "the disk of %s is too full for a backup: up to %s are needed (%s spare), %s are free"
            % (folder, *map(stored.megabytes, (expected + stored.SPARE, stored.SPARE, free))))
    return problems, expected


def taking(folder, alias, connection, vendor):
    """At most half as much again as the last one, and what the database takes. That is MySQL's
    estimate, and may be far too low, so the last one counts wholly."""
    whole = vendor.size(connection)
    last = stored.last(folder, alias, vendor.database(connection))
    return max(last["bytes"], min(whole, last["bytes"] * 3 // 2)) if last else whole


# --------------------------------------------------------------------------------- theirs


def by_command(arguments):
    """The user's own command; the last line that it prints is what a restore needs to know."""
    command, folder = arguments["command"], arguments["folder"]
    if arguments["check"]:
        return {"folder": folder, "problems": [], "expected": 0}
    stored.make(folder)
    with stored.locked(folder, "lock", "another backup"):
        stamp, started = stored.stamp(folder), time.time()
        words = ["sh", "-c", command] if isinstance(command, str) else command
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  check=False)
        except OSError as error:
            sys.exit("backup.command: %s: %s" % (words[0], error.strerror))
        if done.returncode:
            sys.exit("backup.command: exit status %d" % done.returncode)
        lines = done.stdout.decode("utf-8", "replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        if not said:
            sys.exit("backup.command: it printed nothing; its last line has to be a reference to "
                     "what it made")
        record = {"backup": stamp, "name": stamp + "-command", "alias": "", "reference": said[-1],
                  "release": arguments["release"], "key": arguments["key"],
                  "started": round(started, 3), "seconds": round(time.time() - started, 3)}
        stored.write(stored.record_of(os.path.join(folder, record["name"])), record)
        stored.prune(folder, arguments["keep"])
    return {"folder": folder, "backups": [record]}
