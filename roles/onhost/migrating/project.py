"""The project that a program was started in: its settings, its databases, its answer."""

import json
import os
import re
import sys
import traceback

SENTINEL = "@@FABFLEET "
UNANSWERED = 3
NAMED = r"DJANGO_SETTINGS_MODULE['\"](?:\s*,|\]\s*=)\s*['\"]([\w.]+)"


class Unable(Exception):
    """What the order names is not there, in words."""


def set_up(extra):
    """Django as the project's own ``manage.py`` has it. The current folder is the project's.

    ``extra``: environment variables that only migrations get; a value ``$NAME`` is the value of
    another one, so that a secret needs no second place.
    """
    for name, value in (extra or {}).items():
        if not value.startswith("$"):
            os.environ[name] = value
        elif value[1:] in os.environ:
            os.environ[name] = os.environ[value[1:]]
        else:
            raise Unable("migrations.env.%s: the service has no %s in its environment"
                         % (name, value[1:]))
    sys.path[0:1] = [os.getcwd()]
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        with open("manage.py", encoding="utf-8") as text:
            found = re.search(NAMED, text.read())
        if found:
            os.environ["DJANGO_SETTINGS_MODULE"] = found.group(1)
    import django

    django.setup()


def databases(aliases=None):
    """{alias: connection}, of every database where none is named. Raises Unable for one that the
    project does not have."""
    from django.db import connections

    if aliases is None:
        aliases = [alias for alias in connections if connections[alias].settings_dict["ENGINE"]
                   != "django.db.backends.dummy"]
    for alias in aliases:
        if alias not in connections:
            raise Unable("migrations.databases: the project has no database %s; it has: %s"
                         % (alias, ", ".join(connections)))
    return {alias: connections[alias] for alias in aliases}


def answer(question, exits=False):
    """Print what ``question()`` returns as one line of JSON; exit 3 where it cannot be answered.

    Whatever the project itself prints meanwhile goes to standard error. ``exits``: the question
    ends the program itself, with words, where it has failed.
    """
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        found = question()
    except Unable as error:
        sys.stderr.write("%s\n" % error)
        sys.exit(UNANSWERED)
    except BaseException as error:  # a project may do anything, sys.exit() too
        if exits and isinstance(error, SystemExit):
            raise
        sys.stderr.write("%s: %s\n" % (type(error).__name__, error))
        traceback.print_exc(limit=-2)
        sys.exit(UNANSWERED)
    out.write(SENTINEL + json.dumps(found) + "\n")
    out.flush()
