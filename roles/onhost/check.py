"""Would this release start? Run by the release's own interpreter in the service's environment.

ARGUMENTS: application ("module:name"), arguments (of Django's check command, or null where the
project has no manage.py), server (its program, or null where it is no package of the release).
Imports the WSGI application as the server will, then runs Django's checks. Exit 1 with the reason
on standard error.
"""

import importlib
import io
import os
import re
import shutil
import sys
import traceback

ARGUMENTS = globals()["ARGUMENTS"]


def fail(message):
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(1)


def default_settings():
    """What manage.py sets, as the one place where every Django project names its settings."""
    with open("manage.py", encoding="utf-8") as text:
        found = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)", text.read())
    if found:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", found.group(1))


def errors_only(text):
    """Django lists warnings as well, and they would bury what stopped the release."""
    head, mark, rest = text.partition("WARNINGS:\n")
    if not mark:
        return text
    return head.rstrip() + "\n\n" + rest.rstrip().rpartition("\n")[2]


def check():
    default_settings()
    import django
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError

    try:
        django.setup()
        call_command("check", *ARGUMENTS["arguments"], stdout=io.StringIO(), stderr=io.StringIO())
    except SystemCheckError as error:
        fail("manage.py check: %s" % errors_only(str(error)))
    except Exception:  # noqa: BLE001 - whatever the project raises is the answer
        fail("manage.py check:\n" + traceback.format_exc(limit=-3))


def load():
    module, _, name = ARGUMENTS["application"].partition(":")
    try:
        getattr(importlib.import_module(module), name.partition("(")[0] or "application")
    except BaseException:  # noqa: BLE001 - even SystemExit is the answer
        fail("%s cannot be imported:\n%s"
             % (ARGUMENTS["application"], traceback.format_exc(limit=-3)))


def main():
    sys.path.insert(0, os.getcwd())
    if ARGUMENTS["server"] and not shutil.which(ARGUMENTS["server"]):
        fail("%s is not among the release's packages; add it to its lock" % ARGUMENTS["server"])
    if ARGUMENTS["application"]:
        load()
    if ARGUMENTS["arguments"] is not None and os.path.exists("manage.py"):
        check()


main()
