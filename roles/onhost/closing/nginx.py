"""Close a site at nginx: files that its configuration looks for at each request.

ARGUMENTS: action (close, open, look, smoke), folder, key, cookie, scheme, name, address and port of
the site here; to close: html, json and retry (what visitors get), record, allow (addresses), run.
Files: pass, the secret of the way past the page, where it is not closed yet.

Prints {"closed", "record"}; also "shown" where it looked, and "closed_for" seconds where it opened.
"""

from . import common
from .files import Files


class Nginx(Files):
    def answers(self, record):
        told = self.arguments
        # Seconds that its configuration does not look for are those that it tells anyhow.
        return {"retry-%d" % told["retry"]: "",
                "page.html": told["html"], "page.json": told["json"]}


def main(arguments):
    common.run(arguments, Nginx(arguments))
