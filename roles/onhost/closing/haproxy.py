"""Close a site at HAProxy: two maps, changed over its runtime socket and kept in files.

ARGUMENTS: action (close, open, look, smoke), folder, key, cookie, scheme, name, address and port of
the site here; to close: html, json and retry (what visitors get), record, allow (addresses), run.
Files: pass, the secret of the way past the page, where it is not closed yet.

The files come first, as HAProxy reads them when it starts; then the map in memory changes at once,
as a new version of it. Prints {"closed", "record"}; also "shown" where it looked, and "closed_for"
seconds where it opened.
"""

import glob
import os
import re
import socket

from . import common

ANSWER_SECONDS = 10
# HAProxy's buffers, of which a command needs a part, have 16384 unless somebody has said otherwise.
MANY_BYTES = 8000


class Haproxy:
    def __init__(self, arguments):
        self.arguments = arguments
        self.closed, self.allowed = (os.path.join(arguments["folder"], name)
                                     for name in ("closed.map", "allowed.map"))
        self.paths = sorted(glob.glob(arguments["socket"])) or [arguments["socket"]]

    def close(self, record):
        values = {"state": "closed", "pass": record["pass"], "retry": self.arguments["retry"],
                  "json": self.arguments["json"], "html": self.arguments["html"]}
        before = {path: _content(path) for path in (self.closed, self.allowed)}
        try:
            self._put(self.allowed, ["%s 1" % each for each in self.arguments["allow"]])
            self._put(self.closed, ["%s %s" % each for each in values.items()])
        except BaseException:  # fail() is a SystemExit; it goes on when the files are right again
            # Or HAProxy's next start closed what it refuses to close now.
            for path, content in before.items():
                _put_back(path, content)
            raise

    def open(self):
        self._put(self.allowed, [])
        self._put(self.closed, [])

    def is_closed(self):
        shown = (self.ask(path, "show map %s" % self.closed) for path in self.paths)
        return all(re.search(r"(?m)^\S+ state closed$", each) for each in shown)

    def _put(self, map_file, lines):
        common.write(map_file, "".join("%s\n" % line for line in lines))
        for path in self.paths:
            said = self.ask(path, "prepare map %s" % map_file)
            version = re.search(r"New version created: (\d+)", said)
            if not version:
                common.fail("%s: asked to change %s, answered %r; does HAProxy's configuration "
                            "hold what `fab maintenance.config` prints?"
                            % (path, map_file, said.strip()))
            for line in lines:
                self.order(path, "add map @%s %s <<\n%s\n" % (version[1], map_file, line))
            self.order(path, "commit map @%s %s" % (version[1], map_file))

    def order(self, path, asked):
        said = self.ask(path, asked).strip()
        if said:
            common.fail("%s: asked %r, answered %r" % (path, asked[:200], said))

    def ask(self, path, asked):
        """One command, one connection, the whole answer."""
        sent = asked.encode() + b"\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            try:
                connection.connect(path)
            except OSError as error:
                common.fail("%s: HAProxy's socket: %s (`fab hosts.setup` lets this user in)"
                            % (path, error.strerror or error))
            try:
                connection.sendall(sent)
                blocks = iter(lambda: connection.recv(65536), b"")
                return b"".join(blocks).decode("utf-8", "replace")
            except OSError as error:
                hint = (" (HAProxy takes at most as many as its tune.bufsize says)"
                        if len(sent) > MANY_BYTES else "")
                return common.fail("%s: asked %r, %d bytes: %s%s"
                                   % (path, asked[:80], len(sent), error.strerror or error, hint))


def _content(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        return common.fail("%s: %s" % (path, error.strerror))


def _put_back(path, content):
    if content is None:
        common.remove(path)
    elif _content(path) != content:
        common.write(path, content)


def main(arguments):
    common.run(arguments, Haproxy(arguments))
