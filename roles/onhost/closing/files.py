"""What servers share whose configuration looks for files at each request: which, and in what order.

Everything is there before the file `closed` comes, and that goes first.
"""

import os

from . import common

READABLE = 0o644
# What a server looks for by name, so that somebody has to know the rest of it.
NAMED = ("pass-", "address-", "retry-")


class Files:
    """Whoever derives from it has ``answers(record)``: what visitors get, by the files' names."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = arguments["folder"]

    def path(self, name):
        return os.path.join(self.folder, name)

    def close(self, record):
        self._forget()
        # Names with a slash are networks, which stand in the server's configuration.
        addresses = [each for each in self.arguments["allow"] if "/" not in each]
        told = {"pass-%s" % record["pass"]: "", **{"address-%s" % each: "" for each in addresses},
                **self.answers(record)}
        for name, text in told.items():
            common.write(self.path(name), text, READABLE)
        common.write(self.path("closed"), "", READABLE)

    def open(self):
        common.remove(self.path("closed"))
        self._forget()

    def is_closed(self):
        return os.path.exists(self.path("closed"))

    def _forget(self):
        for name in os.listdir(self.folder):
            if name.startswith(NAMED):
                common.remove(self.path(name))
