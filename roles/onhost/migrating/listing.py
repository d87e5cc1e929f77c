"""The backups in a folder and the last drills; needs no Django. Arguments: folder."""

from . import project, stored


def main(arguments):
    folder = arguments["folder"]
    project.answer(lambda: {"folder": folder, "backups": stored.records(folder),
                            "drills": stored.drills(folder)})
