"""Become one command of a release, with exactly the environment its service has.

Installed as ``<root>/.fabfleet/launch.py``; the service's unit, migrations, checks and every other
management command start through it, so all of them see the same environment.

    launch.py [--release ID] [--env NAME=VALUE ...] NAME       a command named in runtime.json
    launch.py [--release ID] [--env NAME=VALUE ...] -- ARGV    any other
    launch.py --job ...    a job of cron: nothing, while everything is stopped on purpose

As the script of mod_wsgi it makes that process one of the current release.
"""

import fcntl
import importlib
import json
import os
import pwd
import site
import sys

# What systemd hands to a service and the service must get.
PASSED_ON = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID",
             "WATCHDOG_USEC", "INVOCATION_ID", "JOURNAL_STREAM", "RUNTIME_DIRECTORY", "TZ")
STATE = os.path.dirname(os.path.abspath(__file__))


def fail(message):
    sys.stderr.write("launch.py: %s\n" % message)
    sys.exit(78)


def unquote(value):
    if len(value) >= 2 and value[0] == value[-1] == '"':
        out, escaped = [], False
        for char in value[1:-1]:
            if escaped:
                out.append({"n": "\n", "r": "\r", "t": "\t"}.get(char, char))
            elif char != "\\":
                out.append(char)
            escaped = char == "\\" and not escaped
        return "".join(out)
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    return value


def read_environment(path):
    """NAME=VALUE lines as systemd's EnvironmentFile has them; nothing in them is ever executed."""
    try:
        with open(path, encoding="utf-8") as lines:
            text = lines.read()
    except FileNotFoundError:
        return {}
    except PermissionError:
        fail("%s is not readable for %s; it must be readable for the service's user"
             % (path, pwd.getpwuid(os.getuid()).pw_name))
    found = {}
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if name.startswith("export "):
            name = name[7:].strip()
        if not equals or not name.isidentifier():
            fail("%s: line %d: expected NAME=VALUE" % (path, number))
        found[name] = unquote(value.strip())
    return found


def parse(argv):
    instance, extra, rest = None, {}, list(argv)
    while len(rest) > 1 and rest[0] in ("--release", "--env"):
        option, value = rest[0], rest[1]
        rest = rest[2:]
        if option == "--release":
            instance = value
        else:
            name, _, text = value.partition("=")
            extra[name] = text
    return instance, extra, rest


def hold(folder):
    """A shared lock that lives as long as any process of this release: prune respects it."""
    lock = os.open(os.path.join(folder, "in-use"), os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    os.set_inheritable(lock, True)


def unless_paused(folder):
    """Ends here while everything is stopped. Who stops it waits for this lock, which the job holds
    until it ends; so it comes before the look."""
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    if os.path.exists(os.path.join(folder, "paused.json")):
        sys.exit(0)
    os.set_inheritable(lock, True)


def find(instance, extra):
    """(instance, its runtime, its environment); without an instance that of what is current."""
    root = os.path.dirname(STATE)
    if instance is None:
        try:
            instance = os.path.basename(os.readlink(os.path.join(root, "current")))
        except FileNotFoundError:
            fail("%s/current does not exist: nothing was deployed yet" % root)
    release = instance.partition(":")[0]  # a unit's second instance of a release is ID:2
    folder = os.path.join(root, ".fabfleet", "releases", release)
    try:
        hold(folder)
        with open(os.path.join(folder, "runtime.json"), encoding="utf-8") as text:
            runtime = json.load(text)
    except FileNotFoundError as missing:
        fail("release %s is not complete: %s" % (release, missing))
    user = pwd.getpwuid(os.getuid())
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name,
                       LANG="C.UTF-8", PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
    environment.update(runtime["environment"])
    environment.update(read_environment(os.path.join(root, "shared", ".env")))
    environment.update(read_environment(os.path.join(root, ".fabfleet", "secrets.env")))
    environment.update(extra)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    if runtime.get("venv"):
        environment["VIRTUAL_ENV"] = runtime["venv"]
        path = os.path.join(runtime["venv"], "bin") + ":" + path
    environment["PATH"] = path
    # Whatever goes through a shell, such as the script of a console command, gets it anyway.
    environment["PWD"] = runtime["directory"]
    return instance, runtime, environment


def main(argv):
    if argv[:1] == ["--job"]:
        unless_paused(STATE)
        argv = argv[1:]
    instance, extra, rest = parse(argv)
    instance, runtime, environment = find(instance, extra)
    if len(rest) > 1 and rest[0] == "--":
        command = rest[1:]
    elif rest and rest[0] in runtime["commands"]:
        words = runtime["commands"][rest[0]] + rest[1:]
        command = [word.replace("@INSTANCE@", instance) for word in words]
    else:
        fail("expected one of %s, or -- and a command" % ", ".join(sorted(runtime["commands"])))
    os.chdir(runtime["directory"])
    os.environ["PATH"] = environment["PATH"]
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - there is no shell to want
    except OSError as error:
        fail("cannot start %s: %s" % (command[0], error.strerror))


def within():
    """The application, in this very process, which belongs to the release from now on."""
    _, runtime, environment = find(None, {})
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = True
    os.chdir(runtime["directory"])
    known = list(sys.path)
    if runtime.get("venv"):
        version = "python%d.%d" % sys.version_info[:2]
        site.addsitedir(os.path.join(runtime["venv"], "lib", version, "site-packages"))
    # The host's own packages come last.
    own = [path for path in sys.path if path not in known]
    sys.path[:] = [runtime["directory"], *own, *known]
    module, _, name = runtime["commands"]["wsgi"][1].partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    main(sys.argv[1:])
elif __name__.startswith("_mod_wsgi_"):
    application = within()
