"""Units that are named after releases: ``template@release.service``, and ``template@release:2``
where one of the same release is still there. Root's helper starts and stops them, and never waits.
"""

import subprocess
import sys
import time

WORKING = ("active", "activating", "reloading")
ENDED = ("inactive", "failed")
# systemd starts one that ends again after a second; by then it has shown that it does not run.
ATTEMPTS = 5


def fail(message):
    sys.stderr.write(message + "\n")
    sys.exit(1)


def run(*words):
    return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)


def said(done):
    return done.stdout.decode("utf-8", "replace").strip()


def listed(pattern):
    """{unit: state} of all that systemd knows, of whatever release."""
    asked = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", pattern)
    rows = [line.split() for line in asked.stdout.decode().splitlines()]
    return {row[0]: row[2] for row in rows if len(row) > 3}


def tell(helper, verb, *words):
    done = run("sudo", "-n", helper, verb, *words)
    if done.returncode:
        fail(said(done))


def instance(unit):
    return unit.partition("@")[2][:-len(".service")]


def release_of(unit):
    return instance(unit).partition(":")[0]


def choose(known, template, release, afresh):
    """(a unit of this release that works and shall go on, or the name of a new one)."""
    ours = [unit for unit in known
            if unit.startswith(template + "@") and release_of(unit) == release]
    working = [unit for unit in ours if known[unit] in WORKING]
    if working and not afresh:
        return working[0], None
    # One that still ends what it has keeps its name.
    number = 1
    while known.get(name(template, release, number), "inactive") not in ENDED:
        number += 1
    return None, name(template, release, number)


def name(template, release, number):
    suffix = ":%d" % number if number > 1 else ""
    return "%s@%s%s.service" % (template, release, suffix)


def show(unit):
    asked = run("systemctl", "show", "-p", "ActiveState,NRestarts,MainPID", unit)
    return dict(line.split("=", 1) for line in asked.stdout.decode().splitlines() if "=" in line)


def restarts(shown):
    return int(shown.get("NRestarts") or 0)


def until_steady(wanted, seconds, deadline):
    """None when all run, and the same processes run ``seconds`` later; else what is wrong."""
    seen, since, wrong = None, 0.0, ""
    began = {unit: restarts(show(unit)) for unit in wanted}
    while time.monotonic() < deadline:
        now = {unit: show(unit) for unit in wanted}
        bad = [unit for unit, each in now.items() if each.get("ActiveState") != "active"]
        if bad or now != seen:
            seen, since = (None if bad else now), time.monotonic()
            wrong = "%s does not stay up" % ", ".join(bad or wanted)
            if any(restarts(now[unit]) - began[unit] >= ATTEMPTS for unit in wanted):
                return wrong
        if seen is not None and time.monotonic() - since >= seconds:
            return None
        time.sleep(0.1)
    return wrong


def until_ended(pattern, deadline):
    """The units that have not ended at the deadline."""
    while True:
        left = [unit for unit, state in listed(pattern).items() if state not in ENDED]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
