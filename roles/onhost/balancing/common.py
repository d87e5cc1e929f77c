"""What all drivers share: failures in words, waiting, the lock, the floor, one question."""

import contextlib
import fcntl
import http.client
import json
import os
import socket
import sys
import time

PAUSE = 0.1


def fail(text):
    sys.stderr.write(text + "\n")
    sys.exit(1)


def answer(**values):
    print(json.dumps(values))


def wait(seconds, ask):
    """Ask until the answer is None; the last answer, which says what is still wrong."""
    deadline = time.monotonic() + seconds
    while True:
        wrong = ask()
        if wrong is None or time.monotonic() >= deadline:
            return wrong
        time.sleep(PAUSE)


@contextlib.contextmanager
def alone(folder, seconds):
    """Whoever takes servers out counts and acts while nobody else does on this balancer."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        wrong = wait(seconds, lambda: _locked(descriptor))
        if wrong:
            fail("%s: another run takes servers out of this balancer, for %g s already"
                 % (folder, seconds))
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "locked"
    return None


def needed(min_up, total):
    """``min_up`` as a number: 2, or "50%" of all servers, rounded up."""
    text = str(min_up)
    return -(-int(text[:-1]) * total // 100) if text.endswith("%") else int(text)


def below_floor(where, others, total, min_up):
    """None when enough other servers are up; ``others`` are pairs of name and state in words."""
    up = [name for name, state in others if state == "up"]
    wanted = needed(min_up, total)
    if len(up) >= wanted:
        return None
    shown = ", ".join("%s %s" % each for each in others) or "there is none"
    return ("%s: %d other server%s up, and balancer.min_up=%s wants %d: %s"
            % (where, len(up), " is" if len(up) == 1 else "s are", min_up, wanted, shown))


class _Local(http.client.HTTPConnection):
    def __init__(self, address, host, timeout):
        super().__init__(host, timeout=timeout)
        self.address = address

    def connect(self):
        if "/" in self.address:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.address)
        else:
            host, _, port = self.address.rpartition(":")
            self.sock = socket.create_connection((host.strip("[]"), int(port)), self.timeout)


def status_of(address, page, host):
    """The status of one answer, or in words why there was none."""
    connection = _Local(address, host, 5)
    try:
        connection.request("GET", page, headers={"Connection": "close",
                                                 "User-Agent": "fabfleet-balancer"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return "no answer (%s)" % (error or type(error).__name__)
    finally:
        connection.close()
