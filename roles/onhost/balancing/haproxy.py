"""Take a server out of HAProxy's rotation and bring it back, over its runtime socket.

ARGUMENTS: action (drain, undrain, look, watch, flip, quiet), socket (a path, or a pattern where
several processes have one each), backends, server, min_up (a number or "50%"), deadline and
up_deadline in seconds, then (fail, go-on, shut: what to do with sessions that outlast the
deadline); for watch, seconds and percent: the share of requests that may fail meanwhile; for flip,
instead of server, enter and leave: the servers that come into rotation, and those that go out at
the same moment.

Prints the state of all servers as JSON. A drain that fails has put the server back, as far as it
can; an undrain that fails leaves it out; a flip that fails has flipped back.
"""

import csv
import glob
import os
import socket
import sys
import time

from .common import alone, answer, below_floor, fail, wait

# Bits of srv_admin_state, and the values of srv_op_state in which a server would get requests.
DRAIN = 0x08
MAINTENANCE = 0x01 | 0x02 | 0x04
RUNNING = ("1", "2")
# Answers of 5xx, connections that failed, answers that broke off.
ERRORS = ("hrsp_5xx", "econ", "eresp")
SERVER = "2"  # the type of a line of `show stat`
ANSWER_SECONDS = 10
# `shutdown sessions` is quick; what is left then is no session.
SHUT_SECONDS = 10


def ask(path, asked):
    """One command, one connection, the whole answer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(path)
            connection.sendall(asked.encode() + b"\n")
            blocks = iter(lambda: connection.recv(65536), b"")
            return b"".join(blocks).decode("utf-8", "replace")
    except FileNotFoundError:
        reason = "no such socket: HAProxy does not run here, or balancer.haproxy.socket is another"
    except ConnectionRefusedError:
        reason = "nobody listens: HAProxy is down"
    except PermissionError:
        reason = ("not allowed for this user; `fab hosts.setup` puts it into the socket's group, "
                  "from the next login on")
    except socket.timeout:
        reason = "no answer to %r within %d s" % (asked, ANSWER_SECONDS)
    except OSError as error:
        reason = "%r: %s" % (asked, error)
    return fail("%s: %s" % (path, reason))


def order(path, asked):
    """A command whose every answer is an error, as HAProxy has no other way to tell."""
    said = ask(path, asked).strip()
    if said:
        fail("%s: asked %r, answered %r" % (path, asked, said))


class Backend:
    """One backend as one process sees it now."""

    def __init__(self, path, name):
        self.path, self.name = path, name
        self.servers = {}
        stats = list(csv.DictReader(self._lines("show stat", "# pxname,")))
        states = self._states()
        for line in stats:
            server = line["svname"]
            if line["pxname"] == name and line["type"] == SERVER and server in states:
                self.servers[server] = self._server(line, states[server])

    def _lines(self, asked, head):
        """The lines of a table, its header first; without what stands before it."""
        lines = ask(self.path, asked).splitlines()
        while lines and not lines[0].startswith(head):
            if lines[0].strip() not in ("", "1"):  # 1 is the version of the format
                break
            del lines[0]
        if not lines or not lines[0].startswith(head):
            said = " ".join(lines).strip()[:300]
            fail("%s: asked %r, answered %r" % (self.path, asked, said))
        lines[0] = lines[0][2:]
        return lines

    def _states(self):
        lines = self._lines("show servers state %s" % self.name, "# be_id ")
        rows = [dict(zip(lines[0].split(), line.split())) for line in lines[1:] if line.strip()]
        return {row["srv_name"]: row for row in rows}

    def _server(self, line, state):
        admin = int(state["srv_admin_state"])
        drained, maintained = bool(admin & DRAIN), bool(admin & MAINTENANCE)
        status = line["status"]
        up = status.startswith("UP") or status == "no check"
        return {
            "balancer": self.path, "backend": self.name, "server": line["svname"],
            "status": status, "up": up and not drained and not maintained, "drained": drained,
            "maintenance": maintained, "running": state["srv_op_state"] in RUNNING,
            "sessions": int(line["scur"] or 0), "queue": int(line["qcur"] or 0),
            "check": line.get("check_status", ""), "backup": line["bck"] == "1",
            "requests": int(line.get("stot") or 0),
            "errors": sum(int(line.get(each) or 0) for each in ERRORS),
        }

    def find(self, server):
        if server not in self.servers:
            fail("%s: no server %s in the backend %s; there are: %s"
                 % (self.path, server, self.name, ", ".join(self.servers) or "none"))
        return self.servers[server]

    def below_floor(self, server, min_up):
        actives = [each for each in self.servers.values() if not each["backup"]]
        others = [(each["server"], "up" if each["up"] else each["status"])
                  for each in actives if each["server"] != server]
        return below_floor("backend %s" % self.name, others, len(actives), min_up)


class Server:
    """One server in all backends of all processes."""

    def __init__(self, arguments, name):
        self.arguments, self.name = arguments, name
        pattern = arguments["socket"]
        self.paths = sorted(glob.glob(pattern)) or [pattern]

    def backends(self):
        return [Backend(path, name) for path in self.paths for name in self.arguments["backends"]]

    def records(self):
        return [backend.find(self.name) for backend in self.backends()]

    def order(self, what):
        for path in self.paths:
            for backend in self.arguments["backends"]:
                order(path, what % ("%s/%s" % (backend, self.name)))

    def refuse_maintenance(self):
        for each in self.records():
            if each["maintenance"]:
                fail("%s/%s is in maintenance (%s), which we never do: somebody took it out. "
                     "Bring it back (`set server %s/%s state ready`), or leave this host out of "
                     "the run" % (each["backend"], self.name, each["status"], each["backend"],
                                  self.name))

    def below_floor(self):
        return _first(each.below_floor(self.name, self.arguments["min_up"])
                      for each in self.backends())

    def busy(self):
        held = [each for each in self.records() if each["sessions"] or each["queue"]]
        return "; ".join("%s/%s has %d sessions and %d requests in its queue"
                         % (each["backend"], self.name, each["sessions"], each["queue"])
                         for each in held) or None

    def quiet(self, seconds):
        """None when nothing runs, seen twice, as a request may just be on its way."""
        return wait(seconds, lambda: self.busy() or self.busy())

    def read_back(self, drained):
        for each in self.records():
            if each["drained"] != drained:
                fail("%s: %s/%s was asked to be %s, but `show servers state` says it is %s (%s)"
                     % (each["balancer"], each["backend"], self.name,
                        *(("drained", "not") if drained else ("ready", "drained")),
                        each["status"]))

    def not_checked(self):
        ill = [each for each in self.records() if not each["running"]]
        return "; ".join("the check of %s/%s says %s (%s)"
                         % (each["backend"], self.name, each["status"], each["check"])
                         for each in ill) or None

    def not_up(self):
        ill = [each for each in self.records() if not each["up"]]
        return "; ".join("%s/%s is %s (%s)" % (each["backend"], self.name, each["status"],
                                               each["check"]) for each in ill) or None


def _alone(server):
    folder = os.path.dirname(server.paths[0])
    if not os.path.isdir(folder):
        ask(server.paths[0], "show info")  # says what is wrong
    return alone(folder, server.arguments["up_deadline"])


def drain(server, arguments):
    with _alone(server):
        server.refuse_maintenance()
        # A server that gets no requests anyway takes no capacity with it.
        if any(each["up"] for each in server.records()):
            wrong = wait(arguments["up_deadline"], server.below_floor)
            if wrong:
                fail("%s stays in rotation: %s" % (server.name, wrong))
        server.order("set server %s state drain")
        server.read_back(True)
    busy = server.quiet(arguments["deadline"])
    if busy and arguments["then"] == "shut":
        server.order("shutdown sessions server %s")
        busy = server.quiet(SHUT_SECONDS)
    elif busy and arguments["then"] == "go-on":
        sys.stderr.write("going on after %g s: %s\n" % (arguments["deadline"], busy))
        busy = None
    if busy:
        server.order("set server %s state ready")
        fail("not drained after %g s, so it is back in rotation: %s"
             % (arguments["deadline"], busy))
    # A reload of HAProxy forgets it.
    server.read_back(True)


def quiet(server, arguments):
    """Wait until nothing runs on it, and leave it where it is."""
    busy = server.quiet(arguments["deadline"])
    if busy and arguments["then"] == "fail":
        fail("not idle after %g s: %s" % (arguments["deadline"], busy))
    if busy:
        sys.stderr.write("going on after %g s: %s\n" % (arguments["deadline"], busy))


def undrain(server, arguments):
    server.refuse_maintenance()
    # `ready` counts as up at once, without a new check; so the check has its say before.
    wrong = wait(arguments["up_deadline"], server.not_checked)
    if wrong:
        fail("%s stays out after %g s: %s" % (server.name, arguments["up_deadline"], wrong))
    server.order("set server %s state ready")
    server.read_back(False)
    wrong = wait(arguments["up_deadline"], lambda: server.not_up() or server.not_up())
    if wrong:
        server.order("set server %s state drain")
        fail("not up after %g s, so it is out again: %s" % (arguments["up_deadline"], wrong))


def watch(server, arguments):
    """Fail when the server goes down, or too many of its requests fail."""
    def counted():
        found = server.records()
        return [sum(each[name] for each in found) for name in ("requests", "errors")]

    before = counted()
    deadline = time.monotonic() + arguments["seconds"]
    while time.monotonic() < deadline:
        time.sleep(min(1, max(0, deadline - time.monotonic())))
        wrong = server.not_up()
        if wrong:
            fail("while it was watched: %s" % wrong)
    # A reload of HAProxy counts from zero again.
    requests, errors = (max(0, now - then) for now, then in zip(counted(), before))
    if errors > requests * arguments["percent"] / 100:
        fail("%d of %d requests failed in %g s, as HAProxy counts (5xx, connections, broken "
             "answers), and deploy.canary.errors allows %g %%"
             % (errors, requests, arguments["seconds"], arguments["percent"]))


def flip(arguments):
    """One line a process, so that no request meets a moment without servers, nor one with both."""
    enter, leave = ([Server(arguments, name) for name in arguments[side]]
                    for side in ("enter", "leave"))
    with _alone(enter[0]):
        for server in [*enter, *leave]:
            server.refuse_maintenance()
        wrong = wait(arguments["up_deadline"], lambda: _first(each.not_checked() for each in enter))
        if wrong:
            fail("nothing was flipped: after %g s %s" % (arguments["up_deadline"], wrong))
        _turn(enter, leave, arguments["backends"])
        wrong = wait(arguments["up_deadline"], lambda: _first(each.not_up() for each in enter))
        if wrong:
            _turn(leave, enter, arguments["backends"])
            fail("flipped back, as after %g s %s" % (arguments["up_deadline"], wrong))


def _turn(enter, leave, backends):
    for path in enter[0].paths:
        orders = ["set server %s/%s state %s" % (backend, server.name, state)
                  for servers, state in ((enter, "ready"), (leave, "drain"))
                  for server in servers for backend in backends]
        order(path, "; ".join(orders))
    for servers, drained in ((enter, False), (leave, True)):
        for server in servers:
            server.read_back(drained)


def _first(found):
    return next((wrong for wrong in found if wrong), None)


def main(arguments):
    if arguments["action"] == "flip":
        flip(arguments)
        server = Server(arguments, arguments["enter"][0])
    else:
        server = Server(arguments, arguments["server"])
    if arguments["action"] == "drain":
        drain(server, arguments)
    elif arguments["action"] == "undrain":
        undrain(server, arguments)
    elif arguments["action"] == "watch":
        watch(server, arguments)
    elif arguments["action"] == "quiet":
        quiet(server, arguments)
    answer(servers=[each for backend in server.backends() for each in backend.servers.values()])
