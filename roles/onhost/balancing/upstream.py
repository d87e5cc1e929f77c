"""Servers of an `upstream` in nginx's configuration, found where they stand."""

import re

TOKEN = re.compile(r"""\#[^\n]* | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | [;{}]
                       | (?:\\.|\$\{[^}]*\}|[^\s;{}])+""", re.VERBOSE | re.DOTALL)


class Server:
    """One `server ADDRESS PARAMETERS;`. ``words`` are matches, so that they know their place."""

    def __init__(self, upstream, words, end):
        self.upstream, self.words, self.end = upstream, words, end
        self.address = words[1].group().strip("\"'")
        self.parameters = [word.group() for word in words[2:]]

    @property
    def down(self):
        return "down" in self.parameters

    @property
    def backup(self):
        return "backup" in self.parameters

    def is_called(self, server, port):
        """With a port exactly server:port, else the server with any port."""
        if port:
            return self.address == "%s:%d" % (server, port)
        return server in (self.address, re.sub(r":\d+$", "", self.address))


def servers(text, upstreams):
    """All servers of the upstreams of these names, in order."""
    found, blocks, words = [], [], []
    for token in TOKEN.finditer(text):
        sign = token.group()
        if sign.startswith("#"):
            continue
        if sign == "{":
            blocks.append([word.group().strip("\"'") for word in words])
            words = []
        elif sign == "}":
            del blocks[-1:]
            words = []
        elif sign != ";":
            words.append(token)
        else:
            block = blocks[-1] if blocks else []
            if (block[:1] == ["upstream"] and block[1] in upstreams and len(words) > 1
                    and words[0].group() == "server"):
                found.append(Server(block[1], words, token.start()))
            words = []
    return found


def changed(text, wanted, down):
    """``text`` with these servers down, or not; nothing else is touched."""
    for server in sorted(wanted, key=lambda each: -each.end):
        if down and not server.down:
            last = server.words[-1].end()
            text = text[:last] + " down" + text[last:]
        if not down:
            for word in reversed(server.words[2:]):
                if word.group() == "down":
                    start = len(text[:word.start()].rstrip())
                    text = text[:start] + text[word.end():]
    return text
