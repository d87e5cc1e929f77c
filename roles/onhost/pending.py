"""Ask Django what this release would migrate. Reads the database, changes nothing.

Run by the release's own interpreter in the service's environment. Prints, after the sentinel
"@@FABFLEET ", {"databases": {alias: {"vendor": ..., "pending": ["app.name"],
"ahead": ["app.name"]}}} where "ahead" are migrations that the database has and this code has not.
Exit 3: Django or the database cannot answer; the reason is on standard error.
"""

import json
import os
import re
import sys
import traceback

SENTINEL = "@@FABFLEET "


def settings_module():
    with open("manage.py", encoding="utf-8") as text:
        found = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)", text.read())
    if found:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", found.group(1))


def plan(connection):
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    loader = executor.loader
    conflicts = loader.detect_conflicts()
    if conflicts:
        raise SystemExit("conflicting migrations: %s" % conflicts)
    loader.check_consistent_history(connection)
    steps = executor.migration_plan(loader.graph.leaf_nodes())
    known = set(loader.disk_migrations)
    known.update(replaced for each in loader.replacements.values() for replaced in each.replaces)
    apps = {app for app, _ in loader.disk_migrations}
    ahead = [each for each in loader.applied_migrations if each not in known and each[0] in apps]
    return {
        "vendor": connection.vendor,
        "pending": ["%s.%s" % (each.app_label, each.name) for each, _ in steps],
        "ahead": sorted("%s.%s" % each for each in ahead),
    }


def main():
    sys.path.insert(0, os.getcwd())
    answer, sys.stdout = sys.stdout, sys.stderr
    try:
        settings_module()
        import django

        django.setup()
        from django.db import connections

        found = {alias: plan(connections[alias]) for alias in connections
                 if connections[alias].settings_dict["ENGINE"] != "django.db.backends.dummy"}
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever Django raises is the answer
        sys.stderr.write("%s: %s\n" % (type(error).__name__, error))
        traceback.print_exc(limit=-2)
        sys.exit(3)
    answer.write(SENTINEL + json.dumps({"databases": found}) + "\n")


main()
