"""Who has the fleet: one run or nobody, with a name; a person's freeze; and no lock left behind.

Started as a program, this file is one of two that race for the lock.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fabfile.engine.journal import operator
from fabfile.engine.lock import FleetLock
from fabfile.errors import LockHeld
from fabfile.session import connected
from tests.lab.fleet import ROOT, Fleet, wait_for

RACES = 50
HOLDER = re.compile(r"run (\S+) by (\S+) \(process (\d+)\), since \d+ \w+, phase ([\w-]+), "
                    r"that process is (alive|GONE)")


def race(folder: Path) -> None:
    """Answers each line of standard input, ``go RUN``, ``release`` or ``die``, with a line."""
    mark, lock = folder / "mark", None
    with connected("") as session:
        environment = session.environment
        authority = environment.migration_host
        for line in sys.stdin:
            word, _, run = line.strip().partition(" ")
            answer: dict[str, Any] = {}
            if word == "go":
                lock = FleetLock(session.transport, authority, environment.roots[authority.name],
                                 run, environment.name)
                try:
                    lock.acquire()
                    mark.touch(exist_ok=False)
                    answer = {"won": run, "over": lock.abandoned and lock.abandoned["run"]}
                except LockHeld as held:
                    answer = {"lost": str(held)}
            elif lock is not None:
                mark.unlink()
                if word == "die":
                    lock.abandon()
                    lock._close()
                else:
                    lock.release()
            print(json.dumps(answer), flush=True)


class Racer:
    """One of the two, in a process of its own."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.process = fleet.start(str(folder), driver=__file__)

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def ask(self, line: str) -> dict[str, Any]:
        self.send(line)
        return self.answer()


def told(text: str) -> tuple[str, str, str]:
    """(run, phase, alive or GONE) of the holder, as a message names it."""
    found = HOLDER.search(text)
    assert found, text
    run, owner, _, phase, life = found.groups()
    assert owner == operator()
    return run, phase, life


def shown(fleet: Fleet) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fleet.fab("lock", "--json", check=0).stdout)
    return found


def check_free(fleet: Fleet) -> None:
    assert shown(fleet) == {"lock": None, "freeze": None}
    assert fleet.lock_record() == {}


def staging(fleet: Fleet) -> subprocess.Popen[str]:
    """A deploy of v2 that waits in its staging, on web2, until ``let_go``."""
    fleet.hold("web2")
    process = fleet.begin("deploy", "--ref=v2", at="started/static.collect/web2")
    wait_for("web2 collects", lambda: fleet.pids("web2", "^sleep 0.05"))
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=90)
    return process.returncode, out + err


# --- one winner ----------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_fifty_races_have_one_winner_each(on_v1: Fleet, tmp_path: Path) -> None:
    """Both have answered before the winner lets go. Every third winner dies instead, so that the
    next two race for what it left."""
    racers = [Racer(on_v1, tmp_path), Racer(on_v1, tmp_path)]
    dead, wins = None, [0, 0]
    for number in range(RACES):
        runs = [f"race-{number}-{each}" for each in "ab"]
        for racer, run in zip(racers, runs, strict=True):
            racer.send(f"go {run}")
        answers = [racer.answer() for racer in racers]
        winners = [each for each in (0, 1) if "won" in answers[each]]
        assert len(winners) == 1, answers
        winner, loser = winners[0], 1 - winners[0]
        wins[winner] += 1
        assert answers[winner] == {"won": runs[winner], "over": dead}
        assert told(answers[loser]["lost"])[::2] == (runs[winner], "alive")
        assert on_v1.lock_record()["run"] == runs[winner]
        dead = runs[winner] if number % 3 == 0 and number < RACES - 1 else None
        assert racers[winner].ask("die" if dead else "release") == {}
        assert bool(on_v1.lock_record()) == bool(dead)
    assert all(wins), wins
    check_free(on_v1)


@pytest.mark.timeout(240)
def test_five_races_of_whole_deploys_have_one_winner_each(on_v1: Fleet) -> None:
    for ref in ("v2", "v1", "v2", "v1", "v2"):
        known = len(on_v1.journals())
        deploys = [on_v1.start("deploy", f"--ref={ref}") for _ in range(2)]
        (lost, winner), (code, loser) = sorted(
            ((process, end(process)) for process in deploys), key=lambda each: each[1][0])[::1][1], \
            (0, "")
        del lost, winner, code, loser
        codes = sorted(process.returncode for process in deploys)
        assert codes == [0, 75]
        assert len(on_v1.journals()) == known + 1
        check_free(on_v1)
