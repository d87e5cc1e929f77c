"""The engine over a transport in memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fabfile.engine import run as engine
from fabfile.engine.journal import Journal, read
from fabfile.engine.lock import FleetLock
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.run import Runner, interruptible
from fabfile.environment import Environment
from fabfile.errors import LockHeld, Unavailable
from fabfile.plan import CONTROLLER, Mode, Plan, Stage, Turn, to_json
from fabfile.strategies import rolling
from roles.command import Action, LocalFile, OnController, OnHost, Run, SecretRef, Upload, command
from roles.role import Step
from tests.fabfile.engine.doubles import Heard, Memory, events
from tests.fabfile.fleets import make_fleet

HOSTS = ("web1", "web2", "web3")


class Rig:
    """A runner with everything around it."""

    def __init__(self, environment: Environment, lock: FleetLock | None = None) -> None:
        self.transport, self.heard = Memory(), Heard()
        self.journal = Journal("shop-prod", "run1")
        self.runner = Runner(
            self.transport, environment.inventory.hosts, environment.roots, self.journal,
            [self.heard], lock, {"FABFLEET_ENVIRONMENT": "prod"},
        )

    def execute(self, *stages: Stage) -> engine.Result:
        return self.runner.execute(Plan("release", "prod", "r1", "rolling", stages))

    @property
    def written(self) -> list[str]:
        return events(list(read(self.journal.path)))

    def fails(self, host: str, word: str, kind: Kind = Kind.FAILED) -> None:
        code = 1 if kind is Kind.FAILED else None
        self.transport.answer(host, word, Outcome(host, kind, code, stderr=f"{word} broke"))


@pytest.fixture
def rig(
    prod: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(engine, "REATTACH_PAUSE", 0.001)
    found = Rig(prod)
    yield found
    found.journal.close()


def step(host: str, name: str, **values: Any) -> Step:
    return Step(name, host, (Run(command(name)),), **values)


def stage(name: str, mode: Mode, *names: str, hosts: tuple[str, ...] = HOSTS,
          recover: tuple[str, ...] = ()) -> Stage:
    return Stage(name, mode, tuple(
        Turn(host, tuple(step(host, each) for each in names),
             tuple(step(host, each) for each in recover)) for host in hosts
    ))


def done(rig: Rig, host: str) -> list[str]:
    """The steps that a host was asked for."""
    return [found[1] for line in rig.transport.lines(host)
            if (found := re.search(r"\{ ([\w.]+); \} 9>&-", line))]


# --- stages -----------------------------------------------------------------------------------


def test_all_is_well(rig: Rig) -> None:
    result = rig.execute(stage("a", "parallel", "one", "two"), stage("b", "rolling", "three"))
    assert result
    assert (result.reached, result.interrupted, result.running) == ("b", False, {})
    for host in HOSTS:
        assert done(rig, host) == ["one", "two", "three"]
    third = [host for host, line in rig.transport.calls if " three;" in line]
    assert third == list(HOSTS)


def test_a_parallel_stage_tells_of_every_host_that_failed_and_is_the_last(rig: Rig) -> None:
    rig.fails("web1", "one")
    rig.fails("web3", "two", Kind.UNREACHABLE)
    result = rig.execute(stage("a", "parallel", "one", "two"), stage("b", "parallel", "three"))
    assert not result
    assert [(each.step.host, each.step.name, each.outcome.kind) for each in result.failures] == [
        ("web1", "one", Kind.FAILED), ("web3", "two", Kind.UNREACHABLE)
    ]
    assert [done(rig, host) for host in HOSTS] == [["one"], ["one", "two"], ["one", "two"]]
    assert result.reached == "a"


def test_the_first_failure_ends_a_rolling_stage_and_the_host_is_put_back(rig: Rig) -> None:
    rig.fails("web2", "restart")
    result = rig.execute(
        stage("roll", "rolling", "switch", "restart", "health", recover=("back", "again")),
        stage("finish", "parallel", "finish"),
    )
    (failure,) = result.failures
    assert (failure.stage, failure.step.host, failure.recovered) == ("roll", "web2", True)
    assert [done(rig, host) for host in HOSTS] == [
        ["switch", "restart", "health"], ["switch", "restart", "back", "again"], []
    ]
    assert "note web2: putting it back" in rig.heard.events


def test_every_step_of_the_way_back_is_tried(rig: Rig) -> None:
    rig.fails("web1", "switch")
    rig.fails("web1", "back")
    result = rig.execute(stage("roll", "rolling", "switch", recover=("back", "again")))
    assert result.failures[0].recovered is False
    assert done(rig, "web1") == ["switch", "back", "again"]


def test_a_host_that_is_healthy_in_the_end_was_put_back(rig: Rig) -> None:
    rig.fails("web1", "wsgi.new")
    rig.fails("web1", "wsgi.restart")
    roll = stage("roll", "rolling", "wsgi.new", recover=("wsgi.restart", "wsgi.health"))
    assert rig.execute(roll).failures[0].recovered is True


def test_a_host_that_is_not_there_any_more_is_not_asked_step_by_step(rig: Rig) -> None:
    rig.fails("web1", "switch")
    rig.fails("web1", "back", Kind.UNREACHABLE)
    result = rig.execute(stage("roll", "rolling", "switch", recover=("back", "again")))
    assert result.failures[0].recovered is False
    assert done(rig, "web1") == ["switch", "back"]


def test_where_there_is_no_way_back_none_is_told(rig: Rig) -> None:
    rig.fails("web1", "stop")
    assert rig.execute(stage("stop", "parallel", "stop")).failures[0].recovered is None


def test_a_batch_runs_together_and_is_the_last_when_one_fails(rig: Rig) -> None:
    rig.fails("web1", "restart")
    rolling_stage = replace(stage("roll", "rolling", "restart"), sizes=(2,))
    result = rig.execute(rolling_stage)
    assert [len(done(rig, host)) for host in HOSTS] == [1, 1, 0]
    assert [each.step.host for each in result.failures] == ["web1"]


def behind(mode: Mode, *names: str) -> Stage:
    """Each host leaves its rotation first."""
    plain = stage("roll", mode, *names, recover=("back",))
    return replace(plain, turns=tuple(
        replace(turn, steps=(step(turn.host, "hook before turn"),
                             step(turn.host, "balancer.drain", rotation=True), *turn.steps))
        for turn in plain.turns))


def test_hosts_that_were_done_leave_rotation_before_they_go_back(rig: Rig) -> None:
    rig.fails("web3", "restart")
    result = rig.execute(replace(behind("rolling", "restart"), revert=True))
    assert result.reverted == {"web2": True, "web1": True}
    assert done(rig, "web1")[-2:] == ["balancer.drain", "back"]
    assert done(rig, "web3")[-2:] == ["restart", "back"]


def paused() -> Stage:
    return replace(stage("pause", "once", "stop", hosts=("web1",)),
                   resume=(step("web1", "again"),))


MIGRATE: tuple[str, Mode, str] = ("migrate", "once", "migrate")


def test_a_plan_that_ends_early_starts_again_what_it_stopped(rig: Rig) -> None:
    rig.fails("web2", "migrate")
    assert len(rig.execute(paused(), stage(*MIGRATE, hosts=("web2",))).failures) == 1
    assert done(rig, "web1") == ["stop", "again"]


def test_nothing_is_started_again_after_a_stage_that_ends_that(rig: Rig) -> None:
    migrate = replace(stage(*MIGRATE, hosts=("web2",)), resume=())
    rig.fails("web3", "switch")
    rig.execute(paused(), migrate, stage("switch", "once", "switch", hosts=("web3",)))
    assert done(rig, "web1") == ["stop"]


def test_nothing_is_started_beside_work_that_may_go_on(rig: Rig) -> None:
    migrate = stage("migrate", "once", hosts=("web2",))
    turn = Turn("web2", (step("web2", "migrate", resumable=True),))
    rig.fails("web2", "migrate", Kind.TIMED_OUT)
    rig.execute(paused(), replace(migrate, turns=(turn,)))
    assert done(rig, "web1") == ["stop"]
    assert "note what was lost may still run, so nothing is started again" in rig.heard.events


def test_what_cannot_be_started_again_is_a_failure_too(rig: Rig) -> None:
    rig.fails("web2", "migrate")
    rig.fails("web1", "again")
    result = rig.execute(paused(), stage(*MIGRATE, hosts=("web2",)))
    assert [each.step.name for each in result.failures] == ["migrate", "again"]


def test_on_the_way_back_some_steps_only_follow_what_went_well(rig: Rig) -> None:
    """A host that does not get healthy on its old release either stays out of rotation."""
    rig.fails("web1", "restart")
    back = (step("web1", "a.old"), step("web1", "b.undrain", if_well=True))
    plain = stage("roll", "rolling", "restart", hosts=("web1",))
    back_stage = replace(plain, turns=(replace(plain.turns[0], recover=back),))
    rig.execute(back_stage)
    assert done(rig, "web1") == ["restart", "a.old", "b.undrain"]


def test_a_sick_host_gets_no_requests(rig: Rig) -> None:
    rig.fails("web1", "restart")
    rig.fails("web1", "a.old")
    back = (step("web1", "a.old"), step("web1", "b.undrain", if_well=True))
    plain = stage("roll", "rolling", "restart", hosts=("web1",))
    result = rig.execute(replace(plain, turns=(replace(plain.turns[0], recover=back),)))
    assert done(rig, "web1") == ["restart", "a.old"]
    assert [each.recovered for each in result.failures] == [False]


def test_a_host_that_stays_in_rotation_is_not_touched(rig: Rig) -> None:
    """One balancer let it go, the other did not: only the first hears of it again."""
    rig.fails("web3", "out")
    steps = (step("web2", "out", rotation=True), step("web3", "out", rotation=True),
             step("web1", "restart"))
    back = (step("web1", "old"), step("web2", "in", rotation=True, if_well=True),
            step("web3", "in", rotation=True, if_well=True))
    result = rig.execute(Stage("roll", "rolling", (Turn("web1", steps, back),)))
    assert [done(rig, host) for host in HOSTS] == [[], ["out", "in"], ["out"]]
    assert [(each.turn, each.recovered) for each in result.failures] == [("web1", True)]


AHEAD = tuple(step(host, name, if_well=True, apart=True)
              for host in ("web2", "web3") for name in ("smoke", "open"))


@pytest.mark.parametrize(("broken", "opened"), [
    (("web2", "smoke"), {"web2": ["smoke"], "web3": ["smoke", "open"]}),
    (("web3", "open"), {"web2": ["smoke", "open"], "web3": ["smoke", "open"]}),
    (("web1", "a.old"), {"web2": [], "web3": []}),
])
@pytest.mark.parametrize("way", ["resume", "recover"])
def test_what_is_dead_in_front_keeps_nothing_else_closed(
    rig: Rig, broken: tuple[str, str], opened: dict[str, list[str]], way: str
) -> None:
    """But where the site itself did not get well, nobody opens it."""
    back = (step("web1", "a.old"), *AHEAD)
    rig.fails(*broken, Kind.UNREACHABLE)
    rig.fails("web1", "restart")
    plain = stage("roll", "parallel", "restart", hosts=("web1",))
    if way == "resume":
        result = rig.execute(replace(plain, resume=back))
        assert [each.step.name for each in result.failures] == ["restart", broken[1]]
    else:
        result = rig.execute(replace(plain, turns=(replace(plain.turns[0], recover=back),)))
        apart = [] if broken[0] == "web1" else [(broken[0], None)]
        assert [(each.step.host, each.recovered) for each in result.failures] == [
            ("web1", broken[0] != "web1"), *apart]
    assert {host: done(rig, host) for host in opened} == opened


def test_nothing_was_done_so_nothing_goes_back(rig: Rig) -> None:
    rig.fails("web3", "out")
    steps = (step("web3", "out", rotation=True), step("web1", "restart"))
    back = (step("web1", "old"), step("web3", "in", rotation=True, if_well=True))
    result = rig.execute(Stage("roll", "rolling", (Turn("web1", steps, back),)))
    assert [done(rig, host) for host in HOSTS] == [[], [], ["out"]]
    assert [each.recovered for each in result.failures] == [None]


def test_what_was_done_goes_back_too_where_that_is_wanted(rig: Rig) -> None:
    """One at a time, the last one first; what was not touched stays untouched."""
    rig.fails("web3", "restart")
    rolling_stage = replace(stage("roll", "rolling", "restart", recover=("back",)), revert=True)
    result = rig.execute(rolling_stage)
    assert result.reverted == {"web2": True, "web1": True}
    backs = [line for line in rig.written if line.startswith("started") and "back" in line]
    assert [line.split()[-1] for line in backs] == ["web3", "web2", "web1"]


def test_going_back_ends_with_the_first_that_cannot(rig: Rig) -> None:
    rig.fails("web3", "restart")
    rig.fails("web2", "back")
    rolling_stage = replace(stage("roll", "rolling", "restart", recover=("back",)), revert=True)
    assert rig.execute(rolling_stage).reverted == {"web2": False}


def test_nothing_goes_back_beside_what_may_still_run(rig: Rig) -> None:
    rig.fails("web3", "restart", Kind.LOST)
    rolling_stage = replace(stage("roll", "rolling", "restart", recover=("back",)), revert=True)
    assert rig.execute(rolling_stage).reverted == {}


def test_some_hosts_may_fail(rig: Rig) -> None:
    """They are put back, the others go on, and it is a failure in the end all the same."""
    rig.fails("web1", "restart")
    rolling_stage = replace(stage("roll", "rolling", "restart", recover=("back",)), may_fail=1)
    result = rig.execute(rolling_stage, stage("finish", "parallel", "record"))
    assert [(each.step.host, each.recovered) for each in result.failures] == [("web1", True)]
    assert done(rig, "web3") == ["restart"]
    assert result.reached == "roll"


def test_between_batches_there_may_be_a_pause(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rig.execute(replace(stage("roll", "rolling", "restart"), pause=5.0))
    assert sum(slept) == pytest.approx(10, abs=0.3)


def test_once_is_one_after_the_other(rig: Rig) -> None:
    rig.fails("web2", "x")
    rig.execute(stage("hooks", "once", "x"))
    assert [len(done(rig, host)) for host in HOSTS] == [1, 1, 0]


def test_why_it_failed_is_looked_up(rig: Rig) -> None:
    rig.fails("web1", "health")
    rig.transport.answer("web1", "journalctl", Outcome("web1", Kind.OK, 0, "line 1\nline 2\n"))
    look = (Run(command("journalctl")), Run(command("silent")))
    turn = Turn("web1", (step("web1", "health", diagnose=look),))
    (failure,) = rig.execute(Stage("roll", "rolling", (turn,))).failures
    assert failure.diagnosis == "line 1\nline 2"
    assert rig.transport.lines("web1")[-1] == "silent"


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.OK])
def test_nothing_but_ok_is_a_success(rig: Rig, kind: Kind) -> None:
    rig.fails("web1", "one", kind)
    result = rig.execute(stage("a", "once", "one", "two", hosts=("web1",)))
    assert [each.outcome.kind for each in result.failures] == [kind]
    assert done(rig, "web1") == ["one"]


def test_what_was_lost_may_still_run(rig: Rig) -> None:
    rig.fails("web1", "one", Kind.LOST)
    result = rig.execute(stage("a", "parallel", "one"))
    assert result.running == {"web1": "one"}
    assert rig.written[-1] == "plan-ended"


# --- one step ---------------------------------------------------------------------------------


def test_the_journal_has_a_line_before_and_one_after_each_step(rig: Rig) -> None:
    seen: list[list[str]] = []
    rig.transport.answer("web1", "two", lambda: seen.append(rig.written))
    rig.execute(stage("a", "once", "one", "two", hosts=("web1",)))
    assert seen == [[
        "plan", "stage a", "started a one web1", "finished a one web1 ok", "started a two web1",
    ]]
    assert rig.written[-2:] == ["finished a two web1 ok", "plan-ended"]


def test_the_journal_holds_the_plan_and_what_was_done(rig: Rig) -> None:
    rig.fails("web1", "one")
    plan = Plan("release", "prod", "r1", "rolling", (stage("a", "once", "one"),))
    rig.runner.execute(plan)
    lines = list(read(rig.journal.path))
    assert lines[0]["plan"] == to_json(plan)
    assert lines[2]["actions"] == ["one"]
    assert (lines[3]["exit"], lines[3]["reason"]) == (1, "one broke")
    assert (lines[-1]["plan"], lines[-1]["ok"], lines[-1]["interrupted"]) == (
        "release", False, False
    )


def test_listeners_hear_everything_in_order(rig: Rig) -> None:
    rig.execute(stage("a", "once", "one", hosts=("web1",)))
    assert rig.heard.events == [
        "plan release", "stage a", "web1 one ...", "web1 one ok", "plan ended"
    ]


def test_actions_of_a_step_in_order_up_to_the_first_that_fails(rig: Rig) -> None:
    rig.fails("web1", "rsync")
    actions: tuple[Action, ...] = (
        Run(command("one")), Upload("/from", "/to"), Run(command("three"))
    )
    turn = Turn("web1", (Step("x", "web1", actions),))
    (failure,) = rig.execute(Stage("a", "once", (turn,))).failures
    assert failure.outcome.stderr == "rsync broke"
    assert len(rig.transport.calls) == 2


def test_the_line_keeps_a_journal_on_the_host_too_and_waits_for_earlier_work(
    rig: Rig, tmp_path: Path
) -> None:
    rig.execute(stage("a", "once", "one", hosts=("web1",)))
    (line,) = rig.transport.lines("web1")
    root = tmp_path / "a root"
    local = line.replace("/srv/shop", f"'{root}'").replace("{ one; }", "{ echo did; exit 3; }")
    # The exit above ends only what was asked for when that runs in a shell of its own.
    local = local.replace("exit 3", "(exit 3)")
    finished = subprocess.run(["sh", "-c", local], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout, finished.stderr) == (3, "did\n", "")
    started, ended = read(root / ".fabfleet" / "runs" / "run1" / "journal.jsonl")
    assert {key: started[key] for key in ("event", "step")} == {"event": "started", "step": "one"}
    assert {key: ended[key] for key in ("event", "step", "exit")} == {
        "event": "ended", "step": "one", "exit": 3
    }


def test_a_program_gets_its_files_secrets_and_the_run_over_standard_input(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_TEST_TOKEN", "hunter2")
    (tmp_path / "file").write_bytes(b"bytes")
    action = OnHost("job", {"key": "r1"}, {"f": LocalFile(str(tmp_path / "file"), "")},
                    {"s": SecretRef("env", "RUN_TEST_TOKEN")})
    line, stdin = rig.runner._line(step("web1", "x"), action)
    header, _, rest = stdin.partition(b"\n")
    assert b'"arguments": {"key": "r1", "run": "run1"}' in header
    assert rest.endswith(b"byteshunter2")
    assert "hunter2" not in line


def test_a_secret_that_cannot_be_had_fails_the_step_and_shows_in_no_journal(rig: Rig) -> None:
    action = OnHost("secrets", secrets={"s": SecretRef("env", "NO_SUCH_TOKEN")})
    turn = Turn("web1", (Step("app.secrets", "web1", (action,)),))
    (failure,) = rig.execute(Stage("a", "once", (turn,))).failures
    assert failure.outcome.reason == (
        "secret env:NO_SUCH_TOKEN: this environment variable is not set here; export it first"
    )
    assert rig.transport.calls == []


def test_no_secret_gets_into_the_journal(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_TEST_TOKEN", "hunter2")
    action = OnHost("secrets", secrets={"s": SecretRef("env", "RUN_TEST_TOKEN")})
    assert rig.execute(Stage("a", "once", (Turn("web1", (Step("x", "web1", (action,)),)),)))
    assert "hunter2" not in rig.journal.path.read_text()
    assert all("hunter2" not in line for _, line in rig.transport.calls)


# --- on the controller --------------------------------------------------------------------------


def hook(line: str, timeout: float = 10) -> Stage:
    one = Step("hook", CONTROLLER, (OnController(line, {"FABFLEET_HOST": "x"}),), timeout=timeout)
    return Stage("hooks", "once", (Turn(CONTROLLER, (one,)),))


def test_a_hook_on_the_controller_knows_what_goes_on(rig: Rig, tmp_path: Path) -> None:
    line = f"echo $FABFLEET_ENVIRONMENT $FABFLEET_HOST $FABFLEET_RUN >{tmp_path}/told"
    assert rig.execute(hook(line))
    assert (tmp_path / "told").read_text() == "prod x run1\n"


def test_a_hook_that_begins_with_the_second_interrupt_is_ended_as_well(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*_: object) -> None:
        rig.runner.interrupt()
        rig.runner.interrupt()

    monkeypatch.setattr(rig.heard, "step_started", twice)
    began = time.monotonic()
    assert not rig.execute(hook("sleep 60; true", timeout=60))
    assert time.monotonic() - began < 30


def test_a_hook_that_fails_stops(rig: Rig) -> None:
    result = rig.execute(hook("echo no >&2; exit 3"), stage("a", "parallel", "one"))
    assert [(each.outcome.exit, each.outcome.reason) for each in result.failures] == [(3, "no")]
    assert rig.transport.calls == []


def test_a_hook_that_takes_too_long_is_ended_with_all_that_it_started(
    rig: Rig, tmp_path: Path
) -> None:
    started = time.monotonic()
    result = rig.execute(hook(f"sleep 30 & echo $! >{tmp_path}/pid; wait; true", timeout=0.3))
    assert time.monotonic() - started < 5
    assert result.failures[0].outcome.kind is Kind.TIMED_OUT
    assert result.failures[0].outcome.reason == "did not end within 0.3 s and was stopped"
    assert is_gone(int((tmp_path / "pid").read_text()))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return False


# --- detached work --------------------------------------------------------------------------------


def resumable(rig: Rig, *kinds: Kind) -> engine.Result:
    rig.transport.answer("web1", "migrate", *(Outcome("web1", kind, message="gone")
                                              for kind in kinds))
    one = step("web1", "migrate", resumable=True)
    return rig.execute(Stage("migrate", "once", (Turn("web1", (one,)),)))


def test_detached_work_is_asked_for_again_after_a_lost_connection(rig: Rig) -> None:
    assert resumable(rig, Kind.LOST, Kind.UNREACHABLE, Kind.OK)
    assert len(rig.transport.calls) == 3
    assert len(set(rig.transport.calls)) == 1
    assert rig.heard.events.count("note web1: gone; looking for the job again") == 2


@pytest.mark.parametrize("kind", [Kind.FAILED, Kind.TIMED_OUT, Kind.REFUSED])
def test_what_ended_for_another_reason_is_not_asked_for_again(rig: Rig, kind: Kind) -> None:
    assert not resumable(rig, kind, Kind.OK)
    assert len(rig.transport.calls) == 1


def test_asking_again_has_an_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "REATTACH_SECONDS", 0.05)
    result = resumable(rig, Kind.LOST)
    assert [each.outcome.kind for each in result.failures] == [Kind.LOST]
    assert result.running == {"web1": "migrate"}


def test_nothing_is_started_beside_detached_work_that_may_still_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "REATTACH_SECONDS", 0.0)
    rig.fails("web1", "migrate", Kind.LOST)
    turn = Turn("web1", (step("web1", "migrate", resumable=True),), (step("web1", "back"),))
    (failure,) = rig.execute(Stage("migrate", "once", (turn,))).failures
    assert failure.recovered is None
    assert "back" not in done(rig, "web1")


def test_other_steps_are_never_repeated(rig: Rig) -> None:
    rig.fails("web1", "one", Kind.LOST)
    assert not rig.execute(stage("a", "once", "one", hosts=("web1",)))
    assert len(rig.transport.calls) == 1


# --- interrupts -----------------------------------------------------------------------------------


def interrupt_at(rig: Rig, host: str, word: str, times: int = 1) -> None:
    def interrupt() -> None:
        for _ in range(times):
            rig.runner.interrupt()

    rig.transport.answer(host, word, interrupt, Outcome(host, Kind.OK, 0))


def test_once_a_host_s_turn_is_finished_then_it_stops(rig: Rig) -> None:
    interrupt_at(rig, "web1", "switch")
    result = rig.execute(stage("roll", "rolling", "switch", "restart"),
                         stage("finish", "parallel", "finish"))
    assert not result
    assert (result.interrupted, result.failures, result.reached) == (True, [], "roll")
    assert [done(rig, host) for host in HOSTS] == [["switch", "restart"], [], []]
    assert rig.transport.closed == 0
    assert "note interrupted: finishing what runs; press Ctrl-C again to abort" in rig.heard.events


def test_once_in_a_parallel_stage_no_further_step_begins(rig: Rig) -> None:
    interrupt_at(rig, "web1", "one")
    result = rig.execute(stage("a", "parallel", "one", "two", hosts=("web1",)))
    assert result.interrupted
    assert done(rig, "web1") == ["one"]


def test_a_host_that_fails_after_an_interrupt_is_put_back_all_the_same(rig: Rig) -> None:
    interrupt_at(rig, "web1", "switch")
    rig.fails("web1", "restart")
    result = rig.execute(stage("roll", "rolling", "switch", "restart", recover=("back",)))
    assert (result.failures[0].recovered, result.interrupted) == (True, True)


def test_twice_connections_are_cut_and_nothing_else_is_tried(rig: Rig) -> None:
    interrupt_at(rig, "web1", "switch", times=2)
    result = rig.execute(stage("roll", "rolling", "switch", "restart", recover=("back",)))
    assert rig.transport.closed == 1
    assert result.interrupted
    assert done(rig, "web1") == ["switch"]


def test_twice_a_lost_step_is_neither_repeated_nor_recovered(rig: Rig) -> None:
    def cut() -> Outcome:
        rig.runner.interrupt()
        rig.runner.interrupt()
        return Outcome("web1", Kind.LOST)

    rig.transport.answer("web1", "switch", cut)
    result = rig.execute(stage("roll", "rolling", "switch", recover=("back",)))
    assert result.failures[0].recovered is None
    assert result.running == {"web1": "switch"}
    assert len(rig.transport.calls) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_interrupts_while_a_run_lasts(rig: Rig, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptible(rig.runner):
        os.kill(os.getpid(), number)
        wait_for(lambda: rig.runner.stopping)
        assert not rig.runner.aborted
        os.kill(os.getpid(), number)
        wait_for(lambda: rig.runner.aborted)
    assert signal.getsignal(number) is before
    assert not rig.execute(stage("a", "parallel", "one"))
    assert rig.transport.calls == []


RAIN = """
import os, signal, subprocess, threading, types
from fabfile.engine.run import interruptible

stop = threading.Event()

def rain():
    while not stop.wait(0.0003):
        os.killpg(0, signal.SIGINT)

with interruptible(types.SimpleNamespace(interrupt=lambda: None)):
    cloud = threading.Thread(target=rain)
    cloud.start()
    children = [subprocess.Popen(["true"], process_group=0).wait() for _ in range(200)]
    stop.set()
    cloud.join()
print(sum(status != 0 for status in children))
"""


def test_ctrl_c_reaches_no_child_before_its_own_process_group() -> None:
    done = subprocess.run([sys.executable, "-c", RAIN], check=True, start_new_session=True,
                          capture_output=True, text=True)
    assert done.stdout == "0\n"


# --- the lock -------------------------------------------------------------------------------------


class LostAfter(FleetLock):
    """A lock that somebody else has after so many steps; nothing is asked over any network."""

    def __init__(self, steps: int, error: Exception) -> None:
        self.left, self.error, self.phases = steps, error, list[str]()

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def ensure(self) -> None:
        self.left -= 1
        self.confirm()

    def confirm(self) -> None:
        if self.left < 0:
            raise self.error


@pytest.mark.parametrize("error", [LockHeld("run b by eve"), Unavailable("web1: no answer")])
def test_without_the_lock_nothing_more_is_done(
    prod: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    lock = LostAfter(3, error)
    rig = Rig(prod, lock)
    result = rig.execute(stage("roll", "rolling", "switch", "restart", recover=("back",)),
                         stage("finish", "parallel", "finish"))
    rig.journal.close()
    (failure,) = result.failures
    assert (failure.step.host, failure.step.name) == ("web2", "restart")
    assert (failure.outcome.kind, failure.outcome.reason) == (
        Kind.REFUSED, f"the lock is lost: {error}"
    )
    assert failure.recovered is False
    assert [done(rig, host) for host in HOSTS] == [["switch", "restart"], ["switch"], []]
    assert lock.phases == ["roll"]


class TakenMeanwhile(LostAfter):
    """Heard of so short ago that only who asks again learns that it is lost."""

    def ensure(self) -> None:
        if self.left < 0:
            raise self.error

    def confirm(self) -> None:
        self.left = -1
        self.ensure()


def test_a_step_that_fails_where_another_run_has_the_lock_by_now_puts_nothing_back(
    prod: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That run may be why it failed: the code that it served from was removed."""
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    rig = Rig(prod, TakenMeanwhile(0, LockHeld("run b by eve")))
    rig.transport.answer("web1", "check", Outcome("web1", Kind.FAILED, 1, stderr="no such file"))
    result = rig.execute(stage("roll", "rolling", "check", recover=("back",)))
    rig.journal.close()
    (failure,) = result.failures
    assert (failure.outcome.kind, failure.outcome.reason) == (
        Kind.REFUSED, "the lock is lost: run b by eve\nno such file")
    assert done(rig, "web1") == ["check"]


class LostBetween(LostAfter):
    """Lost before this stage begins, and found again after it."""

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == "migrate":
            raise self.error


def test_a_lock_that_is_lost_between_stages_is_a_failure_with_its_way_back(
    prod: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an error that says that nothing was changed."""
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    rig = Rig(prod, LostBetween(99, Unavailable("web1: no answer")))
    result = rig.execute(*closing(moved=True))
    rig.journal.close()
    assert [(each.stage, each.outcome.kind, each.outcome.message) for each in result.failures] == [
        ("migrate", Kind.REFUSED, "the lock is lost: web1: no answer")]
    assert done(rig, "web1") == ["stop", "again"]
    assert events(list(read(rig.journal.path)))[-1].startswith("plan-ended")


def test_a_real_plan_runs_as_it_stands(rig: Rig, prod: Environment) -> None:
    plan = rolling.plan(make_fleet(prod))
    assert rig.runner.execute(plan)
    assert len(rig.transport.calls) == sum(len(each.actions) for _, each in plan.steps())


# --- the end of a window ------------------------------------------------------------------------


def closing(*, moved: bool) -> list[Stage]:
    """Everything stops, the database moves, everything starts."""
    again = (step("web1", "again"),)
    migrate = replace(stage("migrate", "once", "migrate", hosts=("web1",),
                            recover=("untouched", "again")), resume=())
    switch = replace(stage("switch", "parallel", "switch"), resume=() if moved else again)
    return [replace(stage("stop", "parallel", "stop", hosts=("web1",)), resume=again),
            *([migrate] if moved else []), switch,
            replace(stage("start", "rolling", "start", recover=("back",)), resume=())]


@pytest.mark.parametrize(("late", "moved", "expected"), [
    ("stop", True, []),
    ("migrate", True, ["stop", "again"]),
    ("switch", False, ["stop", "again"]),
    ("switch", True, ["stop", "migrate", "switch", "start"]),
    ("start", True, ["stop", "migrate", "switch", "start"]),
    ("start", False, ["stop", "switch", "start"]),
])
def test_no_stage_begins_too_late_from_which_there_is_a_way_back(
    rig: Rig, late: str, moved: bool, expected: list[str]
) -> None:
    """Where there is none, to go on is the shortest way to a site that serves."""
    rig.runner.too_late = lambda name: "the window is over" if name == late else ""
    result = rig.execute(*closing(moved=moved))
    assert done(rig, "web1") == expected
    stopped = "start" not in expected
    assert [(each.stage, each.outcome.kind, each.outcome.message) for each in result.failures] == (
        [(late, Kind.REFUSED, "the window is over")] if stopped else [])


def before_migrating(name: str) -> list[Stage]:
    """Something that comes between the stop and the migration."""
    between = replace(stage("between", "once", name, hosts=("web1",), recover=("again",)),
                      resume=())
    first, *rest = closing(moved=True)
    return [first, between, *rest]


@pytest.mark.parametrize(("at", "expected"), [
    ("stop", ["stop", "again"]),
    ("backup", ["stop", "backup", "untouched", "again"]),
    ("migrate", ["stop", "backup", "migrate"]),
    ("switch", ["stop", "backup", "migrate", "switch"]),
])
def test_an_interrupt_before_the_migration_leaves_nothing_stopped(
    rig: Rig, at: str, expected: list[str]
) -> None:
    """After it nobody starts what may not fit."""
    interrupt_at(rig, "web1", at)
    result = rig.execute(*before_migrating("backup"))
    assert (result.interrupted, result.failures) == (True, [])
    assert done(rig, "web1") == expected


def test_an_interrupt_before_anything_stopped_takes_no_way_back(rig: Rig) -> None:
    interrupt_at(rig, "web1", "look")
    rig.execute(stage("look", "parallel", "look", hosts=("web1",)),
                stage("flip", "once", "flip", hosts=("web1",), recover=("flip-back",)))
    assert done(rig, "web1") == ["look"]


def test_a_hook_before_the_migration_that_fails_leaves_nothing_stopped(rig: Rig) -> None:
    first, hooks, *rest = before_migrating("check")
    (turn,) = hooks.turns
    named = replace(turn, steps=(replace(turn.steps[0], name="hook before migrate"),))
    rig.transport.answer("web1", "check", Outcome("web1", Kind.FAILED, 1, stderr="no"))
    result = rig.execute(first, replace(hooks, turns=(named,)), *rest)
    assert [each.recovered for each in result.failures] == [True]
    assert done(rig, "web1") == ["stop", "check", "again"]


def test_after_a_backup_it_may_be_too_late_as_well(rig: Rig) -> None:
    backup = replace(stage("backup", "once", "backup", hosts=("web1",), recover=("again",)),
                     resume=())
    first, *rest = closing(moved=True)
    rig.runner.too_late = lambda name: "the window is over" if name == "migrate" else ""
    rig.execute(first, backup, *rest)
    assert done(rig, "web1") == ["stop", "backup", "untouched", "again"]
