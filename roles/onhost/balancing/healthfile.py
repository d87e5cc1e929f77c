"""Take this host out of rotation with a file that makes its health page answer 503.

ARGUMENTS: action (drain, undrain, look), file, server, seconds (what the balancer needs to notice),
page (what the balancer asks for; null: nobody is asked), address and host (where to ask for it),
up_deadline in seconds.

The file outlives releases and runs: what was taken out stays out until it is brought back.
"""

import os
import time

from .common import answer, fail, status_of, wait

# The first line of a file that we made; any other is somebody's own.
OURS = "out of rotation for a deploy by Fabfleet\n"
OUT = 503
# The page only has to look at a file.
HEED_SECONDS = 10


def is_there(path):
    """Whether the flag is there; somebody else's is none of ours."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(len(OURS))
    except FileNotFoundError:
        return False
    except OSError as error:
        return fail("%s: %s" % (path, error.strerror))
    if text != OURS:
        fail("%s: is not ours (it says %r): somebody took this host out. Remove it, or leave this "
             "host out of the run" % (path, text.strip()[:80]))
    return True


def put(path):
    try:
        draft = path + ".new"
        with open(draft, "w", encoding="utf-8") as file:
            file.write(OURS)
        os.chmod(draft, 0o644)
        os.rename(draft, path)
    except OSError as error:
        fail("%s: %s" % (path, error.strerror))


def ask(arguments, wanted):
    """None when the page answers so; a service that is down is out as well."""
    if not arguments["page"]:
        return None
    status = status_of(arguments["address"], arguments["page"], arguments["host"])
    if status == wanted or (wanted == OUT and not isinstance(status, int)):
        return None
    return "GET %s on %s: %s instead of %d" % (arguments["page"], arguments["address"], status,
                                               wanted)


def drain(arguments):
    path = arguments["file"]
    there = is_there(path)
    if not there:
        put(path)
    wrong = wait(HEED_SECONDS, lambda: ask(arguments, OUT))
    if wrong:
        if not there:
            os.remove(path)
        fail("the application does not heed %s (the variable OUT_OF_ROTATION_FILE): %s"
             % (path, wrong))
    since = time.time() - os.stat(path).st_mtime
    time.sleep(min(arguments["seconds"], max(0.0, arguments["seconds"] - since)))
    if not is_there(path):
        fail("%s: somebody removed it meanwhile" % path)


def undrain(arguments):
    path = arguments["file"]
    there = is_there(path)
    if there:
        os.remove(path)
    wrong = wait(arguments["up_deadline"], lambda: ask(arguments, 200))
    if wrong:
        put(path)
        fail("stays out: without %s still %s" % (path, wrong))
    if there:
        time.sleep(arguments["seconds"])
    if is_there(path):
        fail("%s: somebody put it there again meanwhile" % path)


def main(arguments):
    if arguments["action"] == "drain":
        drain(arguments)
    elif arguments["action"] == "undrain":
        undrain(arguments)
    out = os.path.exists(arguments["file"])
    answer(servers=[{"balancer": arguments["file"], "server": arguments["server"],
                     "status": "out" if out else "in", "up": not out, "drained": out}])
