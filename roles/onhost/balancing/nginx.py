"""Take a server out of nginx's rotation and bring it back: `down` in its upstream, and a reload.

ARGUMENTS: action (drain, undrain, look, flip), config (the file with the upstreams), backends (the
upstreams), server, port (0: any), min_up, deadline and up_deadline in seconds, then (fail, go-on),
test and reload (shell lines), pid (the file with the master's process id); for flip, instead of
server, enter and leave: the servers that come in, and those that go down with the same reload.

A test that fails, or a reload without effect, leaves the file as it was. Old workers finish their
requests; a drain waits for them. Prints the state of all servers as JSON.
"""

import os
import shutil
import stat
import subprocess
import sys

from .common import alone, answer, below_floor, fail, wait
from .upstream import changed, servers

# New workers come within moments, also of a large configuration.
RELOAD_SECONDS = 30
SHUTTING_DOWN = "shutting down"


def shell(line):
    """(exit status, all that was said)."""
    done = subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


class Config:
    """The file, and who may write it: we, or root for us through two rules of sudo."""

    def __init__(self, path):
        self.path = path
        self.folder, name = os.path.split(path)
        # nginx's own patterns (*, *.conf) include no file whose name begins with a dot.
        self.draft = os.path.join(self.folder, ".%s.fabfleet" % name)

    def read(self):
        if os.path.islink(self.path):
            fail("%s: is a link to %s; name that one in balancer.nginx.config"
                 % (self.path, os.path.realpath(self.path)))
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                return file.read()
        except (OSError, ValueError) as error:
            return fail("%s: %s" % (self.path, getattr(error, "strerror", None) or error))

    def write(self, text):
        """Whole or not at all."""
        if os.access(self.folder, os.W_OK):
            old = os.stat(self.path)
            with open(self.draft, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(self.draft, stat.S_IMODE(old.st_mode))
            if os.geteuid() == 0:
                os.chown(self.draft, old.st_uid, old.st_gid)
            os.rename(self.draft, self.path)
        else:
            self._as_root(["/usr/bin/tee", self.draft], text)
            self._as_root(["/usr/bin/mv", "-T", self.draft, self.path], "")
        if self.read() != text:
            fail("%s: does not hold what was written into it; does somebody else write it?"
                 % self.path)

    def _as_root(self, words, text):
        if not shutil.which("sudo"):
            fail("%s: not writable for this user, and there is no sudo" % self.folder)
        done = subprocess.run(["sudo", "-n", *words], input=text.encode(), check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            fail("sudo -n %s: exit status %d: %s (`fab hosts.setup` writes the rule for it)"
                 % (" ".join(words), done.returncode, said))


def workers(path):
    """The worker processes of the master whose id stands in the file: {(pid, start): title}."""
    try:
        with open(path, encoding="ascii") as file:
            master = int(file.read())
    except (OSError, ValueError) as error:
        fail("%s: %s; nginx does not run, or balancer.nginx.pid is another"
             % (path, getattr(error, "strerror", None) or "no process id in it"))
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name, encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            with open("/proc/%s/cmdline" % name, "rb") as file:
                title = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        if int(fields[1]) == master and title.startswith("nginx: worker process"):
            found[int(name), fields[19]] = title
    return found


class Nginx:
    def __init__(self, arguments):
        self.arguments = arguments
        self.config = Config(arguments["config"])

    def servers(self, text):
        found = servers(text, self.arguments["backends"])
        for upstream in self.arguments["backends"]:
            if not any(each.upstream == upstream for each in found):
                fail("%s: no upstream %s with servers" % (self.config.path, upstream))
        return found

    def wanted(self, found, names):
        """The lines of these servers: one for each in each upstream."""
        return [line for name in names for line in self._lines(found, name)]

    def _lines(self, found, name):
        port = self.arguments["port"]
        chosen = []
        for upstream in self.arguments["backends"]:
            inside = [each for each in found if each.upstream == upstream]
            ours = [each for each in inside if each.is_called(name, port)]
            if len(ours) != 1:
                shown = name + (":%d" % port if port else "")
                fail("%s: the server %s stands %s in the upstream %s, and has to once; there are: "
                     "%s" % (self.config.path, shown,
                             "%d times" % len(ours) if ours else "nowhere", upstream,
                             ", ".join(each.address for each in inside)))
            chosen += ours
        return chosen

    def refuse_floor(self, found, chosen):
        for ours in chosen:
            inside = [each for each in found
                      if each.upstream == ours.upstream and not each.backup]
            others = [(each.address, "down" if each.down else "up")
                      for each in inside if each is not ours]
            where = "upstream %s" % ours.upstream
            if ours.down:
                continue
            # nginx answers 502 to everything when all are down, so never the last one.
            wrong = (below_floor(where, others, len(inside), self.arguments["min_up"])
                     or below_floor(where, others, len(inside), 1))
            if wrong:
                fail("%s stays in rotation: %s" % (ours.address, wrong))

    def put(self, up=(), down=(), floor=True):
        """Change the file and make nginx read it; the workers from before."""
        old = self.config.read()
        found = self.servers(old)
        if down and floor:
            self.refuse_floor(found, self.wanted(found, down))
        before = workers(self.arguments["pid"])
        if not before:
            fail("%s: no worker of nginx's master process is to be seen" % self.arguments["pid"])
        new = changed(old, self.wanted(found, up), False)
        new = changed(new, self.wanted(self.servers(new), down), True)
        # Also where the file says it already: only a reload makes sure that nginx has read it.
        if new != old:
            self.config.write(new)
        for what in ("test", "reload"):
            line = self.arguments[what]
            status, said = shell(line)
            if status:
                self._restore(old, new, "%s: exit status %d: %s" % (line, status, said))
        if wait(RELOAD_SECONDS, lambda: None if self._fresh(before) else "old"):
            self._restore(old, new, "%s: no new worker process came within %d s; nginx's error "
                                    "log says why" % (self.arguments["reload"], RELOAD_SECONDS))
        after = self.servers(self.config.read())
        if (any(each.down for each in self.wanted(after, up))
                or not all(each.down for each in self.wanted(after, down))):
            fail("%s: was changed by somebody else meanwhile" % self.config.path)
        return before

    def _fresh(self, before):
        """Whether only new workers accept: for a moment old ones do so beside them."""
        accepting = [each for each, title in workers(self.arguments["pid"]).items()
                     if SHUTTING_DOWN not in title]
        return bool(accepting) and not any(each in before for each in accepting)

    def _restore(self, old, new, text):
        if new != old:
            self.config.write(old)
        fail("%s\n%s is as it was" % (text, self.config.path))

    def finishing(self, before):
        left = [str(pid) for pid, start in workers(self.arguments["pid"]) if (pid, start) in before]
        return "old worker processes still serve: %s" % ", ".join(left) if left else None

    def look(self):
        return [{"balancer": self.config.path, "backend": each.upstream, "server": each.address,
                 "status": "down" if each.down else "up", "up": not each.down,
                 "drained": each.down, "backup": each.backup}
                for each in self.servers(self.config.read())]


def main(arguments):
    nginx, action = Nginx(arguments), arguments["action"]
    if action != "look":
        if not os.path.isdir(nginx.config.folder):
            nginx.config.read()
        with alone(nginx.config.folder, arguments["up_deadline"]):
            if action == "flip":
                nginx.put(arguments["enter"], arguments["leave"], floor=False)
            elif action == "drain":
                before = nginx.put(down=[arguments["server"]])
            else:
                nginx.put([arguments["server"]])
        if action == "drain":
            busy = wait(arguments["deadline"], lambda: nginx.finishing(before))
            if busy and arguments["then"] == "fail":
                with alone(nginx.config.folder, arguments["up_deadline"]):
                    nginx.put([arguments["server"]])
                fail("not drained after %g s, so it is back in rotation: %s"
                     % (arguments["deadline"], busy))
            if busy:
                sys.stderr.write("going on after %g s: %s\n" % (arguments["deadline"], busy))
    answer(servers=nginx.look())
