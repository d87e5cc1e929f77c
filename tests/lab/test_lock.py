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
from tests.lab.fleet import Fleet, wait_for

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
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=fleet.environment,
        )
        fleet.started.append(self.process)

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

    def end(self) -> None:
        assert self.process.communicate(timeout=30)[0] == ""
        assert self.process.returncode == 0


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
    """Its exit status and all that it said."""
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
    for racer in racers:
        racer.end()
    assert all(wins), wins
    check_free(on_v1)


@pytest.mark.timeout(240)
def test_five_races_of_whole_deploys_have_one_winner_each(on_v1: Fleet) -> None:
    for ref in ("race1", "race2", "race3", "race4", "race5"):
        on_v1.commit(ref, {"docs/race.txt": ref})
        known = len(on_v1.journals())
        pair = [on_v1.start("deploy", f"--ref={ref}") for _ in range(2)]
        (won, out), (lost, said) = sorted(map(end, pair))
        assert (won, lost) == (0, 75), out + said
        assert len(on_v1.journals()) == known + 1
        assert told(said)[::2] == (on_v1.journals()[-1].stem, "alive")
        check_free(on_v1)


def test_a_loser_says_who_has_it_and_leaves_the_record_alone(on_v1: Fleet) -> None:
    winner = staging(on_v1)
    run = on_v1.journals()[-1].stem
    before = on_v1.lock_record()
    loser = on_v1.fab("deploy", "--ref=v1", check=75)
    assert told(loser.stderr) == (run, "stage", "alive")
    assert f"{on_v1.env} is locked on web1: " in loser.stderr
    assert on_v1.journals()[-1].stem == run
    after = on_v1.lock_record()
    kept = ("run", "owner", "pid", "holder", "since")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    on_v1.let_go("web2")
    assert end(winner)[0] == 0
    check_free(on_v1)


# --- alive or gone -------------------------------------------------------------------------------


def test_a_stopped_owner_is_alive_and_a_killed_one_is_gone(on_v1: Fleet) -> None:
    owner = staging(on_v1)
    run = on_v1.journals()[-1].stem
    os.kill(owner.pid, signal.SIGSTOP)
    try:
        assert told(on_v1.fab("lock", check=0).stdout) == (run, "stage", "alive")
        assert f"lock: run {run} by " in on_v1.fab("status", check=0).stdout
        assert told(on_v1.fab("unlock", check=75).stderr)[::2] == (run, "alive")
        assert told(on_v1.fab("deploy", check=75).stderr)[::2] == (run, "alive")
        assert on_v1.lock_record()["run"] == run
    finally:
        owner.kill()
    owner.communicate()
    wait_for("the host knows that it is gone", lambda: "lost_at" in on_v1.lock_record())
    assert told(on_v1.fab("lock", check=0).stdout) == (run, "stage", "GONE")
    assert told(on_v1.fab("status", check=4).stderr)[::2] == (run, "GONE")
    on_v1.let_go("web2")
    taken = on_v1.fab("deploy", "--ref=v1", check=0)
    note = next(line for line in taken.stdout.splitlines() if "taking over from " in line)
    assert told(note) == (run, "stage", "GONE")
    check_free(on_v1)


def test_unlock_clears_what_a_dead_owner_left(on_v1: Fleet) -> None:
    owner = staging(on_v1)
    run = on_v1.journals()[-1].stem
    owner.kill()
    owner.communicate()
    on_v1.let_go("web2")
    wait_for("the host knows that it is gone", lambda: "lost_at" in on_v1.lock_record())
    assert told(on_v1.fab("unlock", check=0).stdout)[::2] == (run, "GONE")
    check_free(on_v1)
    assert "was not locked" in on_v1.fab("unlock", check=0).stdout
    assert "taking over" not in on_v1.fab("deploy", "--ref=v1", check=0).stdout


def test_an_owner_that_lost_it_to_another_run_stops(on_v1: Fleet) -> None:
    """It was stopped, its holder on the host ended, another run came and went: it must not go on
    with what it once decided."""
    old = on_v1.current("web1")
    owner = staging(on_v1)
    os.kill(owner.pid, signal.SIGSTOP)
    on_v1.on("web1", f"kill -9 {on_v1.lock_record()['holder']}")
    on_v1.let_go("web2")
    assert "taking over from " in on_v1.fab("deploy", "--ref=v1", check=0).stdout
    os.kill(owner.pid, signal.SIGCONT)
    code, said = end(owner)
    assert code in (1, 75), said
    assert "the lock was free for a while, and another run or fab unlock took it" in said
    assert set(on_v1.currents().values()) == {old}
    assert on_v1.migrations()[-1] == "0003_first_products"
    check_free(on_v1)


def test_the_lock_host_loses_its_network_for_some_seconds(on_v1: Fleet) -> None:
    owner = staging(on_v1)
    run = on_v1.journals()[-1].stem
    holder = on_v1.lock_record()["holder"]
    on_v1.lab.cut("web1")
    try:
        wait_for("five seconds without a word",
                 lambda: time.time() - on_v1.lock_record()["heartbeat"] > 5)
    finally:
        on_v1.lab.heal("web1")
    assert told(on_v1.fab("deploy", "--ref=v1", check=75).stderr)[::2] == (run, "alive")
    assert on_v1.lock_record()["holder"] == holder
    on_v1.let_go("web2")
    code, said = end(owner)
    assert code == 0, said
    check_free(on_v1)


# --- a person's freeze ---------------------------------------------------------------------------


def test_a_freeze_stops_every_run_until_it_is_lifted(on_v1: Fleet) -> None:
    reason = "an audit, until Friday"
    on_v1.fab("lock", f"--reason={reason}", check=0)
    for words in (("deploy", "--ref=v2"), ("restart",), ("lock", "--reason=another")):
        refused = on_v1.fab(*words, check=75)
        assert f"frozen by {operator()} " in refused.stderr
        assert refused.stderr.splitlines()[0].count(reason) == 1
    assert f"fab unlock --env={on_v1.env}" in on_v1.fab("deploy", check=75).stderr
    assert shown(on_v1)["freeze"]["reason"] == reason
    assert reason in on_v1.fab("status", check=0).stdout
    lifted = on_v1.fab("unlock", check=0)
    assert reason in lifted.stdout
    on_v1.fab("deploy", "--ref=v2", check=0)
    check_free(on_v1)


def test_a_freeze_does_not_break_the_run_that_goes_on(on_v1: Fleet) -> None:
    """Not even where that run has to take its lock anew."""
    owner = staging(on_v1)
    on_v1.fab("lock", "--reason=enough for today", check=0)
    first = on_v1.lock_record()
    on_v1.on("web1", f"kill -9 {first['holder']}")
    wait_for("it has the lock anew", lambda: on_v1.lock_record()["holder"] != first["holder"])
    assert on_v1.lock_record()["since"] == first["since"]
    on_v1.let_go("web2")
    code, said = end(owner)
    assert code == 0, said
    assert "enough for today" in on_v1.fab("deploy", "--ref=v2", check=75).stderr
    on_v1.fab("unlock", check=0)
    check_free(on_v1)


# --- every way out -------------------------------------------------------------------------------


@pytest.mark.parametrize(("ref", "code"), [("v2", 0), ("v3", 3), ("v4", 1)])
def test_the_lock_is_free_after_every_end(on_v1: Fleet, ref: str, code: int) -> None:
    """A success, a release that was refused, and one that proved to be sick; Ctrl-C has its own
    stories."""
    on_v1.fab("deploy", f"--ref={ref}", check=code)
    check_free(on_v1)
    assert on_v1.lock_record() == {}


if __name__ == "__main__":
    race(Path(sys.argv[1]))
