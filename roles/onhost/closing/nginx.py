"""Close a site at nginx: files that its configuration looks for at each request.

ARGUMENTS: action (close, open, look, smoke), folder, key, cookie, scheme, name, address and port of
the site here; to close: html, json, ladder (the seconds that the configuration can tell a
visitor to wait), record, allow (addresses), run.
Files: pass, the secret of the way past the page, where it is not closed yet.

Everything is there before the file `closed` comes, and that goes first. Prints {"closed",
"record"}; also "shown" where it looked, and "closed_for" seconds where it opened.
"""

import os
import time

from . import common

READABLE = 0o644
# What nginx is asked for by name, so that somebody has to know the rest of it.
NAMED = ("pass-", "address-", "retry-")


class Nginx:
    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = arguments["folder"]

    def path(self, name):
        return os.path.join(self.folder, name)

    def close(self, record):
        told = self.arguments
        self._forget()
        # Names with a slash are networks, which stand in nginx's configuration.
        addresses = [each for each in told["allow"] if "/" not in each]
        for name in ("pass-%s" % record["pass"], *("address-%s" % each for each in addresses)):
            common.write(self.path(name), "", READABLE)
        # A run is over long before its window is, mostly.
        left = 0 if record["by_run"] else record["until"] - time.time()
        for each in [step for step in told["ladder"] if step <= left][-1:]:
            common.write(self.path("retry-%d" % each), "", READABLE)
        common.write(self.path("page.html"), told["html"], READABLE)
        common.write(self.path("page.json"), told["json"], READABLE)
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


def main(arguments):
    common.run(arguments, Nginx(arguments))
