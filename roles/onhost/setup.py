"""Prepare a fresh Debian or Ubuntu host, as root. Running it again changes nothing more.

ARGUMENTS: root (empty on a host that gets no code), deploy, service (users), packages, programs and
units ({path: text}), gone (paths of units that must not be there), sudoers ([path, text]), private
(folders that only the service's user may look into), sockets (of HAProxy, or patterns of them: the
deploy user joins their group), page (null, or the folder of a maintenance's page and the names of
files that have to be in it).
Prints a line for everything that it changed.
"""

import glob
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys

ARGUMENTS = globals()["ARGUMENTS"]
changed = []
# Servers and other users go through the folders that are made here; root's own may forbid that.
os.umask(0o022)


def run(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False,
                          env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
    if done.returncode:
        text = done.stdout.decode("utf-8", "replace").strip()
        sys.exit("%s: exit status %d: %s" % (" ".join(words), done.returncode, text[-1500:]))
    return done.stdout.decode("utf-8", "replace")


def packages():
    asked = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n",
                            *ARGUMENTS["packages"]], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, check=False)
    there = {line.split()[0] for line in asked.stdout.decode().splitlines()
             if line.endswith(" installed")}
    missing = [each for each in ARGUMENTS["packages"] if each not in there]
    if missing:
        run("apt-get", "update", "-q")
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing)
        changed.append("installed " + " ".join(missing))


def exists(user):
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


def users():
    deploy, service = ARGUMENTS["deploy"], ARGUMENTS["service"]
    if service and not exists(service):
        run("useradd", "--system", "--user-group", "--home-dir", ARGUMENTS["root"],
            "--no-create-home", "--shell", "/usr/sbin/nologin", service)
        changed.append("user %s" % service)
    if not exists(deploy):
        run("useradd", "--create-home", "--shell", "/bin/bash", deploy)
        changed.append("user %s" % deploy)
    wanted = ["systemd-journal"] + ([service] if service and service != deploy else [])
    for group in wanted:
        if deploy not in grp.getgrnam(group).gr_mem:
            run("usermod", "--append", "--groups", group, deploy)
            changed.append("%s is in the group %s" % (deploy, group))
    keys()
    if ARGUMENTS["root"]:
        linger()


def sockets():
    """Whoever may talk to HAProxy is in the group of its socket."""
    deploy = ARGUMENTS["deploy"]
    for pattern in ARGUMENTS["sockets"]:
        found = sorted(glob.glob(pattern))
        if not found:
            sys.exit("%s: no such socket; HAProxy makes it from `stats socket %s group haproxy "
                     "mode 660 level admin` in its section global" % (pattern, pattern))
        for path in found:
            status = os.stat(path)
            group = grp.getgrgid(status.st_gid)
            if group.gr_gid == 0 or stat.S_IMODE(status.st_mode) & 0o060 != 0o060:
                sys.exit("%s: its group %s (mode %o) is nothing that %s could join; give it `group "
                         "haproxy mode 660` in HAProxy's `stats socket`"
                         % (path, group.gr_name, stat.S_IMODE(status.st_mode), deploy))
            if deploy not in grp.getgrgid(status.st_gid).gr_mem:
                run("usermod", "--append", "--groups", group.gr_name, deploy)
                changed.append("%s is in the group %s" % (deploy, group.gr_name))


def page():
    """The page of a maintenance lies where the deploy user writes and the server reads."""
    told = ARGUMENTS["page"]
    if not told:
        return
    owner = pwd.getpwnam(ARGUMENTS["deploy"])
    if not os.path.isdir(told["folder"]):
        os.makedirs(told["folder"])
        changed.append("folder %s" % told["folder"])
    # Names in it may be secrets, so nobody else lists it.
    os.chmod(told["folder"], 0o711)
    os.chown(told["folder"], owner.pw_uid, owner.pw_gid)
    for name in told["files"]:
        path = os.path.join(told["folder"], name)
        if not os.path.exists(path):
            open(path, "w", encoding="utf-8").close()
        os.chown(path, owner.pw_uid, owner.pw_gid)


def linger():
    """The deploy user has a systemd of its own while nobody is logged in, too: a migration that
    runs as a unit of it does not end with a session."""
    path = os.path.join("/var/lib/systemd/linger", ARGUMENTS["deploy"])
    if os.path.isdir("/run/systemd/system") and not os.path.exists(path):
        run("loginctl", "enable-linger", ARGUMENTS["deploy"])
        changed.append("%s lingers" % ARGUMENTS["deploy"])


def keys():
    """Whoever may log in as root may log in as the deploy user, where that has no keys yet."""
    account = pwd.getpwnam(ARGUMENTS["deploy"])
    folder = os.path.join(account.pw_dir, ".ssh")
    path = os.path.join(folder, "authorized_keys")
    ours = os.path.expanduser("~/.ssh/authorized_keys")
    if os.path.exists(path) or account.pw_uid == os.getuid() or not os.path.exists(ours):
        return
    os.makedirs(folder, mode=0o700, exist_ok=True)
    shutil.copyfile(ours, path)
    os.chmod(path, 0o600)
    for each in (folder, path):
        os.chown(each, account.pw_uid, account.pw_gid)
    changed.append("keys of %s from root's authorized_keys" % account.pw_name)


def folders():
    root, deploy = ARGUMENTS["root"], pwd.getpwnam(ARGUMENTS["deploy"])
    group = pwd.getpwnam(ARGUMENTS["service"] or ARGUMENTS["deploy"]).pw_gid
    for path, mode in ((root, 0o755), (os.path.join(root, "shared"), 0o2775)):
        if not os.path.isdir(path):
            os.makedirs(path)
            changed.append("folder %s" % path)
        status = os.stat(path)
        if (status.st_uid, status.st_gid) != (deploy.pw_uid, group):
            os.chown(path, deploy.pw_uid, group)
            changed.append("owner of %s" % path)
        if status.st_mode & 0o7777 != mode:
            os.chmod(path, mode)
    for path in ARGUMENTS["private"]:
        private(path, pwd.getpwnam(ARGUMENTS["service"] or ARGUMENTS["deploy"]))


def private(path, owner):
    if not os.path.isdir(path):
        os.makedirs(path)
        changed.append("folder %s" % path)
    if os.stat(path).st_uid != owner.pw_uid:
        os.chown(path, owner.pw_uid, owner.pw_gid)
        changed.append("owner of %s" % path)
    os.chmod(path, 0o700)


def write(path, text, mode):
    try:
        with open(path, encoding="utf-8") as old:
            if old.read() == text:
                return False
    except FileNotFoundError:
        pass
    with open(path + ".new", "w", encoding="utf-8") as new:
        new.write(text)
    os.chmod(path + ".new", mode)
    os.rename(path + ".new", path)
    changed.append(path)
    return True


def sudoers():
    path, text = ARGUMENTS["sudoers"]
    # visudo reads a file that sudo does not yet, so a mistake can lock nobody out.
    draft = "/etc/.fabfleet-sudoers"
    with open(draft, "w", encoding="utf-8") as new:
        new.write(text)
    os.chmod(draft, 0o440)
    try:
        run("visudo", "-c", "-q", "-f", draft)
    finally:
        os.remove(draft)
    write(path, text, 0o440)


def no_longer(path):
    """A socket's running service serves on: it has the socket by itself, too."""
    if os.path.exists(path):
        run("systemctl", "disable", "-q", "--now", os.path.basename(path))
        os.remove(path)
        run("systemctl", "daemon-reload")
        changed.append("removed %s" % path)


def units():
    news = [write(path, text, 0o644) for path, text in sorted(ARGUMENTS["units"].items())]
    if any(news):
        run("systemctl", "daemon-reload")
    for path in ARGUMENTS["gone"]:
        no_longer(path)
    for path in ARGUMENTS["units"]:
        name = os.path.basename(path)
        if "[Install]" in ARGUMENTS["units"][path] and subprocess.call(
                ["systemctl", "-q", "is-enabled", name],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            run("systemctl", "enable", "-q", name)
            changed.append("enabled %s" % name)


def programs():
    for path, text in sorted(ARGUMENTS["programs"].items()):
        write(path, text, 0o755)


def main():
    if os.getuid() != 0:
        sys.exit("this needs root: connect as root, or as a user whom sudo lets in unasked")
    packages()
    users()
    sockets()
    page()
    if ARGUMENTS["root"]:
        folders()
    programs()
    sudoers()
    units()
    print(json.dumps({"changed": changed}))


main()
