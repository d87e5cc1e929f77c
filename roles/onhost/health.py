"""Ask a service on this host until it is healthy, or until the deadline.

ARGUMENTS: address ("127.0.0.1:8000" or the path of a socket), path, host (the Host header),
status, release (must be in the body or in a header; null: any), body (must be in it; null: any),
in_a_row, deadline and timeout in seconds; watch: seconds in which, asked once a second from then
on, it must stay healthy. Exit 0 healthy, 1 not; the last answer is on standard error.
"""

import http.client
import json
import socket
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]


class Local(http.client.HTTPConnection):
    def connect(self):
        address = ARGUMENTS["address"]
        if "/" in address:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(address)
        else:
            host, _, port = address.rpartition(":")
            self.sock = socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)),
                                                 self.timeout)


def ask():
    """None when the answer is right, else what is wrong with it."""
    connection = Local(ARGUMENTS["host"], timeout=ARGUMENTS["timeout"])
    try:
        connection.request("GET", ARGUMENTS["path"], headers={"Connection": "close",
                                                              "User-Agent": "fabfleet-health"})
        answer = connection.getresponse()
        body = answer.read(65536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return "no answer: %s" % (error or type(error).__name__)
    finally:
        connection.close()
    shown = " ".join(body.split())[:300]
    if answer.status != ARGUMENTS["status"]:
        return "status %d instead of %d: %s" % (answer.status, ARGUMENTS["status"], shown)
    release = ARGUMENTS["release"]
    if release and release not in body and release not in str(answer.headers):
        return "the answer does not name the release %s: %s" % (release, shown)
    if ARGUMENTS["body"] and ARGUMENTS["body"] not in body:
        return "the answer does not hold %r: %s" % (ARGUMENTS["body"], shown)
    return None


def fail(what, waited, wrong):
    where = "%s on %s" % (ARGUMENTS["path"], ARGUMENTS["address"])
    sys.stderr.write("%s after %.1f s: GET %s: %s\n" % (what, waited, where, wrong))
    sys.exit(1)


def watch():
    began = time.monotonic()
    while time.monotonic() - began < ARGUMENTS["watch"]:
        time.sleep(1)
        wrong = ask()
        if wrong:
            fail("not healthy any more", time.monotonic() - began, wrong)


def main():
    started = time.monotonic()
    healthy, wrong = 0, "not asked"
    while healthy < ARGUMENTS["in_a_row"]:
        wrong = ask()
        waited = time.monotonic() - started
        if wrong is None:
            healthy += 1
            continue
        healthy = 0
        if waited >= ARGUMENTS["deadline"]:
            fail("not healthy", waited, wrong)
        time.sleep(min(0.5, 0.05 + waited / 20))
    watch()
    print(json.dumps({"seconds": round(time.monotonic() - started, 3)}))


main()
