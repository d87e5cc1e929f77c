"""Take a server out of rotation and bring it back with commands of one's own.

ARGUMENTS: action (drain, undrain, look), lines (drain, undrain, state: shell lines; state may be
empty), environment, server, deadline and up_deadline in seconds, then (fail, go-on).

The last line that `state` prints has to become `drained`, or `up`. Without a state nobody waits.
"""

import os
import subprocess
import sys

from .common import answer, fail, wait

WANTED = {"drain": "drained", "undrain": "up"}


def shell(line, arguments):
    done = subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False,
                          env=dict(os.environ, **arguments["environment"]))
    out, err = (each.decode("utf-8", "replace").strip() for each in (done.stdout, done.stderr))
    if done.returncode:
        said = "\n".join(each for each in (out, err) if each)
        fail("%s: exit status %d: %s" % (line, done.returncode, said))
    return (out.splitlines() or [""])[-1].strip()


def state(arguments):
    line = arguments["lines"]["state"]
    return shell(line, arguments) if line else ""


def main(arguments):
    action = arguments["action"]
    if action != "look":
        shell(arguments["lines"][action], arguments)
        if arguments["lines"]["state"]:
            settle(arguments, action, WANTED[action])
    found = state(arguments) or "unknown"
    answer(servers=[{"balancer": "command", "server": arguments["server"], "status": found,
                     "up": found == "up", "drained": found == "drained"}])


def settle(arguments, action, wanted):
    seconds = arguments["deadline" if action == "drain" else "up_deadline"]

    def ask():
        found = state(arguments)
        return None if found == wanted else found or "nothing"

    wrong = wait(seconds, ask)
    if wrong is None:
        return
    text = "asked %r, answered %r instead of %r after %g s" % (
        arguments["lines"]["state"], wrong, wanted, seconds)
    if action == "drain" and arguments["then"] == "go-on":
        sys.stderr.write("going on: %s\n" % text)
    else:
        fail(text)
