"""Close a site at nginx: files that its configuration looks for at each request.

ARGUMENTS: action (close, open, look, smoke), folder, key, cookie, scheme, name, address and port of
the site here; to close: html, json, ladder (the seconds that the configuration can tell a
visitor to wait), record, allow (addresses), run.
Files: pass, the secret of the way past the page, where it is not closed yet.

Prints {"closed", "record"}; also "shown" where it looked, and "closed_for" seconds where it opened.
"""

import time

from . import common
from .files import Files


class Nginx(Files):
    def answers(self, record):
        told = self.arguments
        # A run is over long before its window is, mostly.
        left = 0 if record["by_run"] else record["until"] - time.time()
        longest = [step for step in told["ladder"] if step <= left][-1:]
        return {**{"retry-%d" % each: "" for each in longest},
                "page.html": told["html"], "page.json": told["json"]}


def main(arguments):
    common.run(arguments, Nginx(arguments))
