"""Answer with the page of a maintenance where the application's server has answered, while that is
stopped.

ARGUMENTS: action (start, stop, look), folder; to start: address ("host:port"), html, json, retry,
api (beginnings of paths that are answered in JSON), key, record, run. Prints {"closed", "shown":
whether it answers now, "record"}.

It lives in the background and holds a lock for as long as it does; its process id is in the file,
and beside it why and since when it is there, and what it answers, which it reads at each request.
"""

import fcntl
import http.server
import json
import os
import signal
import socket
import sys
import threading
import time

ARGUMENTS = globals()["ARGUMENTS"]
SECONDS = 10
PAUSE = 0.02


def path():
    os.makedirs(ARGUMENTS["folder"], exist_ok=True)
    return os.path.join(ARGUMENTS["folder"], "stand-in.pid")


def read(name):
    with open(os.path.join(ARGUMENTS["folder"], name), encoding="utf-8") as file:
        return json.load(file)


def write(name, value):
    """Whole or not at all, as it may be read just now."""
    whole = os.path.join(ARGUMENTS["folder"], name)
    with open(whole + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(whole + ".new", whole)


def record():
    try:
        return read("stand-in.json")
    except (OSError, ValueError):
        return None


def note():
    """What was closed before keeps its beginning, and what a run has left closed stays that run's,
    whatever a person tells visitors meanwhile."""
    old, told = (record() if runs() else None), ARGUMENTS["record"]
    if old and old["by_run"] and not told["by_run"]:
        new = {**old, "until": told["until"], "told": told["reason"]}
    else:
        new = {"since": time.time(), "pass": "", **(old or {}), "told": "", **told,
               "run": ARGUMENTS["run"]}
    write("stand-in-page.json", {each: ARGUMENTS[each] for each in ("html", "json", "retry")})
    write("stand-in.json", new)


def locked(descriptor, kind):
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def runs():
    """The process id of the one that answers, or 0. Whoever only looks shares the lock, and takes
    nobody else who looks for the one that answers."""
    with open(path(), "a+", encoding="ascii") as file:
        while not locked(file, fcntl.LOCK_SH):
            file.seek(0)
            found = file.read()
            if found:
                return int(found)
            time.sleep(PAUSE)  # it has just begun
    return 0


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5  # nobody who says nothing keeps it from ending

    def answer(self):
        self.close_connection = True
        wants_json = (self.headers.get("Accept", "").startswith("application/json")
                      or self.path.startswith(tuple(ARGUMENTS["api"])))
        kind = "application/json" if wants_json else "text/html; charset=utf-8"
        page = read("stand-in-page.json")
        body = page["json" if wants_json else "html"].encode()
        self.send_response(503)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))),
                            ("Retry-After", str(page["retry"])), ("Cache-Control", "no-store"),
                            ("X-Maintenance", ARGUMENTS["key"]), ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def __getattr__(self, name):
        """Whatever the method, the answer is the same."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def log_message(self, *words):
        """Nobody reads what it would say."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    allow_reuse_address = True


def serve(server, lock):
    """Until it is told to end; whoever has asked then still gets the page."""
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    ending.wait()
    server.shutdown()
    server.server_close()


def start():
    lock = open(path(), "a+", encoding="ascii")  # noqa: SIM115 - held until the process ends
    while not locked(lock, fcntl.LOCK_EX):
        if runs():
            return
        time.sleep(PAUSE)  # somebody looks
    lock.truncate(0)  # what stands there is the id of a process that is gone, or another's by now
    host, _, port = ARGUMENTS["address"].rpartition(":")
    Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            server = Server((host.strip("[]"), int(port)), Page)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                sys.stderr.write("%s: %s\n" % (ARGUMENTS["address"], error.strerror))
                sys.exit(1)
            time.sleep(PAUSE)
    # Twice, so that nobody waits for it: neither we nor whoever started us.
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    try:
        serve(server, lock)
    finally:
        os._exit(0)


def stop():
    deadline = time.monotonic() + SECONDS
    while True:
        found = runs()
        if not found:
            return
        try:
            os.kill(found, signal.SIGTERM)
        except ProcessLookupError:
            pass
        if time.monotonic() > deadline:
            sys.stderr.write("process %d does not end\n" % found)
            sys.exit(1)
        time.sleep(PAUSE)


if ARGUMENTS["action"] == "start":
    note()
    start()
elif ARGUMENTS["action"] == "stop":
    stop()
closed = bool(runs())
print(json.dumps({"closed": closed, "shown": closed, "record": record() if closed else None}))
