"""How long a code-only deploy takes beside the floor: a hand-written shell script doing the least.

    python -m tests.bench.deploy_vs_shell [--hosts 10] [--files 6900] [--rounds 3]

Both deliver the same change (20 files changed, 5 new, 5 removed) of the same tree to the same
hosts of the lab, by turns in one run. The script: parallel rsync with --link-dest over one shared
OpenSSH connection per host, one migrate, then host by host switch, restart, and wait for a 200.
Prints the medians, the controller's CPU seconds, and how many SSH logins each host saw.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.fleet import CHECKOUT, ROOT, Fleet
from tests.sites import history

NUMBER = 40
CHANGED, ADDED, REMOVED = 20, 5, 5
FLOOR = CHECKOUT / "tests" / "bench" / "floor.sh"


@dataclass(frozen=True)
class Measure:
    """Wall and CPU seconds of one deploy, and SSH logins per host."""

    wall: float
    cpu: float
    logins: float


def grow(site: Path, files: int) -> None:
    """Bulk for the sample site: ``files`` text files of 6.5 kB in 50 folders."""
    dice = random.Random(1)
    for number in range(files):
        path = site / "bulk" / f"part{number % 50}" / f"file{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(dice.choices("abcdefgh \n", k=6500)))
    commit(site, "bulk")


def change(site: Path, round_: int) -> None:
    """The next commit: some files changed, some new, some gone."""
    dice = random.Random(round_)
    files = sorted((site / "bulk").rglob("*.txt"))
    for path in dice.sample(files, CHANGED):
        path.write_text(path.read_text() + f"changed in round {round_}\n")
    for path in dice.sample(files, REMOVED):
        path.unlink()
    for number in range(ADDED):
        (site / "bulk" / f"new{round_}-{number}.txt").write_text("new\n")
    commit(site, f"round {round_}")


def commit(site: Path, message: str) -> None:
    for words in (("add", "-A"), ("commit", "-q", "-m", message)):
        subprocess.run(["git", "-C", str(site), *words], check=True)


def logins(fleet: Fleet) -> int:
    count = "journalctl -q -u ssh.service -o cat | grep -c 'Accepted publickey' || true"
    return sum(int(fleet.on(host, count)) for host in fleet.web)


def measured(fleet: Fleet, act: Callable[[], None]) -> Measure:
    before, used = logins(fleet), resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    act()
    wall = time.monotonic() - started
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Measure(wall, cpu, (logins(fleet) - before) / len(fleet.web))


def run_floor(fleet: Fleet, site: Path) -> None:
    """The shell script; it needs an exported tree, as every tool does."""
    with tempfile.TemporaryDirectory() as tree:
        names = " ".join(fleet.web)
        done = subprocess.run(
            ["sh", str(FLOOR), str(site), tree, str(fleet.lab.ssh_config), names],
            env={**os.environ, "RELEASE": f"floor-{time.time_ns()}", "ROOT": ROOT},
            capture_output=True, text=True, check=False,
        )
    assert done.returncode == 0, done.stderr


def row(name: str, measures: list[Measure]) -> str:
    def middle(values: list[float]) -> float:
        return statistics.median(values)

    return (f"{name:24} {middle([m.wall for m in measures]):8.2f} s wall "
            f"{middle([m.cpu for m in measures]):8.2f} s CPU "
            f"{middle([m.logins for m in measures]):5.1f} logins a host")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--hosts", type=int, default=10)
    words.add_argument("--files", type=int, default=6900)
    words.add_argument("--rounds", type=int, default=3)
    wanted = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder), wanted.hosts, NUMBER)
        try:
            fleet.lab.up(print)
            history.build(fleet.site)
            subprocess.run(["git", "-C", str(fleet.site), "checkout", "-q", "main"], check=True)
            grow(fleet.site, wanted.files)
            fleet.write_inventory(release={"ref": "main"})
            fleet.fab("hosts.setup", check=0)
            first = measured(fleet, lambda: _fab(fleet))
            nothing = measured(fleet, lambda: _fab(fleet))
            ours, floor = [], []
            for round_ in range(wanted.rounds):
                change(fleet.site, 2 * round_)
                ours.append(measured(fleet, lambda: _fab(fleet)))
                change(fleet.site, 2 * round_ + 1)
                floor.append(measured(fleet, lambda: run_floor(fleet, fleet.site)))
                _fab(fleet)  # back to a release of ours, so that both link against the one before
            print(f"{wanted.hosts} hosts, {wanted.files} files, {wanted.rounds} rounds, medians")
            print(row("fab deploy, first", [first]))
            print(row("fab deploy, no change", [nothing]))
            print(row("fab deploy, update", ours))
            print(row("shell script, update", floor))
        finally:
            fleet.lab.down(lambda _: None)


def _fab(fleet: Fleet) -> None:
    fleet.fab("deploy", check=0, timeout=600)


if __name__ == "__main__":
    main()


