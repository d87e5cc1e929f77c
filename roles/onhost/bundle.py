"""The head of a program that is made of several modules; ``ship.text`` puts the rest behind it.

The modules live in memory as one package, so that nothing has to be installed on the host and
nothing there can be mistaken for them.
"""

import importlib.abc
import importlib.util
import sys


class Shipped(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds the package ``name`` and its modules in ``sources``."""

    def __init__(self, name, sources):
        self.sources = {name: ""}
        self.sources.update(("%s.%s" % (name, each), text) for each, text in sources.items())

    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=self.is_package(name))

    def is_package(self, name):
        return "." not in name

    def get_source(self, name):
        return self.sources[name]

    def get_filename(self, name):
        return "%s.py" % name


def become(name, sources, module, arguments, files):
    """Import the package and run its module's ``main``."""
    if files:
        arguments = dict(arguments, files=files)
    sys.meta_path.insert(0, Shipped(name, sources))
    importlib.import_module("%s.%s" % (name, module)).main(arguments)
