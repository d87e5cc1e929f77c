"""Close a site at Apache: files that its configuration looks for at each request, and sends.

ARGUMENTS: action (close, open, look, smoke), folder, key, cookie, scheme, name, address and port of
the site here; to close: html, json, retry and cookie_attributes (what visitors get), record, allow
(addresses), run.
Files: pass, the secret of the way past the page, where it is not closed yet.

What Apache sends begins with its own status and headers, as mod_asis wants it. Prints {"closed",
"record"}; also "shown" where it looked, and "closed_for" seconds where it opened.
"""

from . import common
from .files import Files


class Apache(Files):
    def answers(self, record):
        told, secret = self.arguments, record["pass"]
        return {
            # Its header Location stands in the configuration: mod_asis would follow it by itself.
            "pass-%s" % secret: _answer("303 See Other", {
                "Set-Cookie": "%s=%s; %s" % (told["cookie"], secret, told["cookie_attributes"])}),
            "page.html": self._page("text/html; charset=utf-8", told["html"]),
            "page.json": self._page("application/json", told["json"]),
        }

    def _page(self, kind, body):
        return _answer("503 Service Unavailable", {
            "Content-Type": kind, "Retry-After": self.arguments["retry"]}, body)


def _answer(status, headers, body=""):
    lines = {"Status": status, "Cache-Control": "no-store", **headers}
    return "%s\n%s" % ("".join("%s: %s\n" % each for each in lines.items()), body)


def main(arguments):
    common.run(arguments, Apache(arguments))
