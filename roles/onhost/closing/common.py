"""What all drivers share: the record of what is closed, failures in words, and a visitor's view."""

import contextlib
import fcntl
import http.client
import json
import os
import socket
import ssl
import sys
import time

PAUSE = 0.1
SEEN_SECONDS = 5


def fail(text):
    sys.stderr.write(text + "\n")
    sys.exit(1)


def answer(**values):
    print(json.dumps(values))


@contextlib.contextmanager
def alone(folder):
    """Only one program at a time closes or opens here."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        fail("%s: %s; `fab hosts.setup` makes it" % (folder, error.strerror))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path, text, mode=0o600):
    """Whole or not at all."""
    draft = "%s.new" % path
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w",
                  encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask has left of it
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)
    except OSError as error:
        fail("%s: %s; `fab hosts.setup` gives it to this user" % (path, error.strerror))


def remove(path):
    try:
        os.remove(path)
    except FileNotFoundError:
        return


def read_record(folder):
    """What is closed since when and why; None where nothing is."""
    try:
        with open(os.path.join(folder, "record.json"), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return fail("%s/record.json: %s" % (folder, error))


def new_record(arguments, old):
    """The record to be written: what was closed before keeps its beginning and its secret, and what
    a run has left closed stays that run's, whatever a person tells visitors meanwhile."""
    record = arguments["record"]
    if old is not None and old["by_run"] and not record["by_run"]:
        return {**old, "until": record["until"], "told": record["reason"]}
    first = {"since": time.time(), "pass": (arguments.get("files") or {}).get("pass", b"").decode()}
    return {**(old or first), "told": "", **record, "run": arguments["run"]}


def visit(arguments, path="/", secret=""):
    """(status, whether it is our page) of one answer; (0, why there was none)."""
    address = (arguments["address"], arguments["port"])
    name = arguments["name"]
    connection = http.client.HTTPConnection(name, timeout=5)
    try:
        connection.sock = socket.create_connection(address, 5)
        if arguments["scheme"] == "https":
            context = ssl.create_default_context()
            # It is this host itself that is asked, whatever its certificate says.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
        headers = {"Connection": "close", "User-Agent": "fabfleet-maintenance"}
        if secret:
            headers["Cookie"] = "%s=%s" % (arguments["cookie"], secret)
        else:  # our own address may be one for which the site is open all the time
            headers["X-Maintenance"] = "show"
        connection.request("GET", path, headers=headers)
        found = connection.getresponse()
        found.read()
        return found.status, found.headers.get("X-Maintenance") == arguments["key"]
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()


def seen(arguments, closed):
    """Wait until visitors see what they should; None, or in words what they see instead."""
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        status, ours = visit(arguments)
        if (status == 503 and ours is True) == closed and status:
            return None
        if time.monotonic() > deadline:
            return "%s:%d answers %s" % (
                arguments["address"], arguments["port"],
                "nothing: %s" % ours if not status else
                "status %d%s" % (status, "" if ours else " without our page"))
        time.sleep(PAUSE)


def smoke(arguments):
    """Ask past the page until the application answers well."""
    record = read_record(arguments["folder"])
    if record is None:
        return
    deadline = time.monotonic() + arguments["deadline"]
    while True:
        status, ours = visit(arguments, arguments["path"], record["pass"])
        if status and status < 400 and ours is not True:
            return
        if time.monotonic() > deadline:
            fail("GET %s past the page: %s; the site stays closed"
                 % (arguments["path"], "status %d" % status if status else ours))
        time.sleep(PAUSE)


def close(arguments, driver):
    folder = arguments["folder"]
    # Where nothing is closed, a record is what a failure left behind, and tells nothing of now.
    old = read_record(folder) if driver.is_closed() else None
    by_hand = old is not None and not old["by_run"]
    # What a person has closed, a run leaves as it is.
    if not (by_hand and arguments["record"]["by_run"]):
        record = new_record(arguments, old)
        write(os.path.join(folder, "record.json"), json.dumps(record))
        try:
            driver.close(record)
        except BaseException:  # fail() is a SystemExit; it goes on when the record is right again
            if old is not None:
                write(os.path.join(folder, "record.json"), json.dumps(old))
            elif not driver.is_closed():
                remove(os.path.join(folder, "record.json"))
            raise
        if old is None:  # from this moment on, not from when the work on it began
            record["since"] = time.time()
            write(os.path.join(folder, "record.json"), json.dumps(record))
    wrong = seen(arguments, True)
    if wrong:
        if old is None:
            driver.open()
            remove(os.path.join(folder, "record.json"))
        fail("visitors do not see the page: %s. Does the server's configuration hold what "
             "`fab maintenance.config` prints?" % wrong)


def open_again(arguments, driver):
    """Seconds for which it was closed; 0 where it was not."""
    folder = arguments["folder"]
    old = read_record(folder)
    driver.open()
    # Now, and not when a visitor's request for a page of the site has ended.
    seconds = round(time.time() - old["since"], 3) if old else 0
    wrong = seen(arguments, False)
    if wrong:
        fail("not open: %s" % wrong)
    remove(os.path.join(folder, "record.json"))
    return seconds


def run(arguments, driver):
    """``driver`` has ``close(record)``, ``open()`` and ``is_closed()``."""
    action, told = arguments["action"], {}
    if action == "smoke":
        smoke(arguments)
    elif action == "look":
        told["shown"] = visit(arguments)[1] is True
    else:
        with alone(arguments["folder"]):
            if action == "close":
                close(arguments, driver)
            else:
                told["closed_for"] = open_again(arguments, driver)
    # What visitors get counts, whatever the files say.
    closed = driver.is_closed() or told.get("shown", False)
    answer(**told, closed=closed, record=read_record(arguments["folder"]))
