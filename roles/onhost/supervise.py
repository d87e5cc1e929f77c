"""Keep one program running under a supervisord of our own, as an ordinary user.

ARGUMENTS: folder, launcher, python, program, stop_seconds, stop_signal, supervisord,
supervisorctl, action ("start", "stop" or "restart").
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time

ARGUMENTS = globals()["ARGUMENTS"]
FOLDER, PROGRAM = ARGUMENTS["folder"], ARGUMENTS["program"]
CONF = os.path.join(FOLDER, "supervisord.conf")
# The path of a UNIX socket holds 107 bytes on Linux, and supervisord binds a longer name first.
LONGEST = 85


def socket_path():
    beside = os.path.join(FOLDER, "ctl.sock")
    if len(beside) <= LONGEST:
        return beside
    folder = "/tmp/fabfleet-%d" % os.getuid()  # noqa: S108 - its owner and mode are checked
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.stat(folder).st_uid != os.getuid():
        sys.exit("%s belongs to somebody else" % folder)
    return os.path.join(folder, hashlib.sha256(FOLDER.encode()).hexdigest()[:16])


def quoted(path):
    """supervisor expands ``%`` once in most values, and twice in a program's logfile."""
    return path.replace("%", "%%")


def conf():
    return """[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
nocleanup=true

[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{socket}

[program:{program}]
command={python} -I "{launcher}" {program}
autorestart=true
startsecs=0
stopsignal={stop_signal}
stopwaitsecs={stop_seconds}
redirect_stderr=true
stdout_logfile={twice}/{program}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
""".format(folder=quoted(FOLDER), twice=quoted(quoted(FOLDER)), program=PROGRAM,
           socket=quoted(socket_path()), python=ARGUMENTS["python"],
           launcher=quoted(ARGUMENTS["launcher"]), stop_seconds=ARGUMENTS["stop_seconds"],
           stop_signal=ARGUMENTS["stop_signal"])


def tool(name):
    found = shutil.which(ARGUMENTS[name])
    if not found:
        sys.exit("%s is not on this host; install supervisor" % ARGUMENTS[name])
    return found


def control(*words, **kwargs):
    return subprocess.run([tool("supervisorctl"), "-c", CONF, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, **kwargs)


def is_up():
    return os.path.exists(CONF) and control("pid").stdout.strip().isdigit()


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("%s after %d s" % (what, seconds))
        time.sleep(0.05)


def shut_down():
    control("shutdown")
    wait_until(lambda: not os.path.exists(os.path.join(FOLDER, "supervisord.pid")),
               ARGUMENTS["stop_seconds"] + 10, "supervisord still runs")


def write_conf():
    """True where the file changed, so that a running supervisord has to be started anew."""
    os.makedirs(FOLDER, exist_ok=True)
    try:
        with open(CONF) as old:
            if old.read() == conf():
                return False
    except FileNotFoundError:
        pass
    with open(CONF + ".new", "w") as new:
        new.write(conf())
    os.replace(CONF + ".new", CONF)
    return True


def main():
    action, up = ARGUMENTS["action"], is_up()
    if action == "stop":
        if up:
            shut_down()
        return
    if up and write_conf():
        shut_down()
        up = False
    if not up:
        write_conf()
        subprocess.run([tool("supervisord"), "-c", CONF], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(is_up, 10, "supervisord does not answer")
        return
    done = control(action, PROGRAM)
    text = done.stdout.decode("utf-8", "replace").strip()
    if "ERROR" in text and "already started" not in text:
        sys.exit("supervisorctl %s: %s" % (action, text))


main()
