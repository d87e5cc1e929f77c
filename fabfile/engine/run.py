"""Run a plan: journal, act, journal; stop where something failed; put back what can be put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from queue import SimpleQueue
from shlex import quote
from typing import Any

from fabfile.engine import secrets
from fabfile.engine.events import Failure, Listener
from fabfile.engine.fleet import FORKS
from fabfile.engine.journal import Journal
from fabfile.engine.lock import FleetLock
from fabfile.engine.outcome import Kind, Outcome, of_exit
from fabfile.engine.transport import Call, Sync, Transport
from fabfile.errors import FabfleetError
from fabfile.plan import CONTROLLER, Plan, Stage, Turn, to_json
from inventories.model import Host
from roles.command import Action, OnController, OnHost, Run, Upload
from roles.onhost import ship
from roles.role import Step

# How long a detached job is asked for again after the connection broke, and how often.
REATTACH_SECONDS = 600.0
REATTACH_PAUSE = 2.0


@dataclass
class Result:
    """How a plan ended. ``running`` says what was cut off on which host; ``reverted``: hosts that
    were done and had to go back all the same, and whether they did."""

    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False
    reached: str = ""
    running: dict[str, str] = field(default_factory=dict)
    reverted: dict[str, bool] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return not self.failures and not self.interrupted


class Runner:
    """Runs plans of one run. ``roots`` are the hosts' deploy roots. ``too_late`` is asked before
    each stage from which there is a way back, and says why it must not begin any more, or nothing.
    """

    def __init__(
        self,
        transport: Transport,
        hosts: Mapping[str, Host],
        roots: Mapping[str, str],
        journal: Journal,
        listeners: Sequence[Listener],
        lock: FleetLock | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.transport, self.hosts, self.roots = transport, hosts, roots
        self.journal, self.listeners, self.lock = journal, listeners, lock
        self.facts = dict(facts or {})
        self.too_late: Callable[[str], str] | None = None
        self.stopping = False
        self.aborted = False
        self.running: dict[str, str] = {}
        self._guard = threading.RLock()
        self._hooks: set[subprocess.Popen[str]] = set()

    # --- the plan, its stages, their turns -------------------------------------------------

    def execute(self, plan: Plan) -> Result:
        """Stage after stage; ends at the first stage in which something failed."""
        result = Result()
        resume: list[tuple[Stage, Step]] = []
        stopped = False
        self.journal.write("plan", plan=to_json(plan))
        self._tell("plan_started", plan)
        try:
            for stage in plan.stages:
                own = _recovery(stage)
                if self.stopping:
                    # What would follow may have a way back for what is stopped by now.
                    resume = resume or (own if stopped else [])
                    break
                result.reached = stage.name
                way_back = resume or own
                # Where the stage itself gives up the way back, to go on is the shorter one.
                backs_out = own or stage.resume or (stage.resume is None and resume)
                late = self._too_late(stage) if backs_out else None
                if against := late or self._without_lock(stage):
                    result.failures.append(against)
                    resume = way_back
                    break
                if stage.resume is not None:
                    resume = [(stage, step) for step in stage.resume]
                    stopped = stopped or bool(resume)
                self._stage(stage, result)
                if result.failures:
                    break
            if result.failures or self.stopping:
                self._resume(resume, result)
        finally:
            self._tell("plan_ended")
        result.interrupted = self.stopping
        result.running = dict(self.running)
        self.journal.write("plan-ended", plan=plan.name, ok=bool(result),
                           interrupted=result.interrupted)
        return result

    def _too_late(self, stage: Stage) -> Failure | None:
        reason = self.too_late(stage.name) if self.too_late else ""
        if not reason:
            return None
        outcome = Outcome(CONTROLLER, Kind.REFUSED, message=reason)
        return Failure(stage.name, Step("maintenance.window", CONTROLLER, ()), outcome)

    def _without_lock(self, stage: Stage) -> Failure | None:
        """Why the lock's record cannot name this stage, which is why it does not begin."""
        try:
            if self.lock:
                self.lock.phase(stage.name)
        except FabfleetError as error:
            outcome = Outcome(CONTROLLER, Kind.REFUSED, message=f"the lock is lost: {error}")
            return Failure(stage.name, Step("lock", CONTROLLER, ()), outcome)
        return None

    def _resume(self, steps: Sequence[tuple[Stage, Step]], result: Result) -> None:
        """What was stopped for the plan's sake goes on, unless what it waited for may go on too."""
        if not steps or self.aborted:
            return
        if any(each.step.resumable and each.outcome.kind is not Kind.FAILED
               for each in result.failures):
            self._tell("note", "what was lost may still run, so nothing is started again")
            return
        well, ill = True, set[str]()
        for stage, step in steps:
            if step.if_well and (not well or step.host in ill):
                continue
            outcome = self.step(stage, step)
            if outcome:
                continue
            if step.apart:
                ill.add(step.host)
            else:
                well = False
            result.failures.append(Failure(stage.name, step, outcome, "", None, step.host))

    def _stage(self, stage: Stage, result: Result) -> None:
        self.journal.write("stage", stage=stage.name)
        self._tell("stage_started", stage)
        done: list[Turn] = []
        for number, batch in enumerate(stage.batches):
            if number and stage.pause:
                self._pause(stage.pause)
            if self.stopping:
                return
            with ThreadPoolExecutor(min(FORKS, len(batch))) as pool:
                failures = list(pool.map(lambda turn: self._turn(stage, turn), batch))
            result.failures += [each for found in failures for each in found]
            done += [turn for turn, failure in zip(batch, failures, strict=True) if not failure]
            if len(result.failures) > stage.may_fail and stage.mode != "parallel":
                if stage.revert:
                    self._revert(stage, done, result)
                return

    def _pause(self, seconds: float) -> None:
        self._tell("note", f"pausing for {seconds:g} s")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.stopping:
            time.sleep(0.1)

    def _revert(self, stage: Stage, done: Sequence[Turn], result: Result) -> None:
        """Put back the hosts that were done, one at a time, the last one first.

        A failure of which nobody knows whether its work goes on is no reason to move anything.
        """
        if any(each.outcome.kind is Kind.LOST for each in result.failures):
            self._tell("note", "what was lost may still run, so nothing else is put back")
            return
        for turn in reversed(done):
            if self.stopping or not turn.recover:
                return
            out = _taken_out(turn)
            well = all(self.step(stage, step) for step in out)
            if well:
                well, apart = self._recover(stage, turn)
                result.failures += apart
            result.reverted[turn.host] = well
            if not result.reverted[turn.host]:
                return

    def _turn(self, stage: Stage, turn: Turn) -> list[Failure]:
        """Its own failure, if any, and after it those of the way back that are apart."""
        done: list[Step] = []
        for step in turn.steps:
            # A host that was taken out for its turn is brought back before an interrupt counts.
            if self.aborted or (self.stopping and stage.mode == "parallel"):
                return []
            outcome = self.step(stage, step)
            if outcome:
                done.append(step)
                continue
            diagnosis = self._diagnose(step) if step.diagnose else ""
            # Nobody starts anything beside detached work that may still run.
            unknown = step.resumable and outcome.kind is not Kind.FAILED
            back = () if self.aborted or unknown else _way_back(turn, done, step)
            recovered, apart = (self._recover(stage, replace(turn, recover=back)) if back
                                else (None, []))
            return [Failure(stage.name, step, outcome, diagnosis, recovered, turn.host), *apart]
        return []

    def _recover(self, stage: Stage, turn: Turn) -> tuple[bool, list[Failure]]:
        """(whether it is as before, failures apart): those say nothing of the host whose turn it
        was."""
        self._tell("note", f"{turn.host}: putting it back")
        verdicts: dict[tuple[str, str], bool] = {}
        apart: list[Failure] = []
        for step in turn.recover:
            # Every step of the way back is tried, also after one of them failed. The last of each
            # role is its verdict: where a restart was refused, the old process may well run on.
            ill = step.host in [each.step.host for each in apart]
            if step.if_well and (ill or not all(verdicts.values())):
                continue
            outcome = self.step(stage, step)
            if step.apart:
                apart += [] if outcome else [Failure(stage.name, step, outcome)]
                continue
            verdicts[step.host, step.name.partition(".")[0]] = bool(outcome)
            if outcome.kind is Kind.UNREACHABLE:
                break
        return all(verdicts.values()), apart

    def _diagnose(self, step: Step) -> str:
        texts = [self._act(step, action, "", "").stdout for action in step.diagnose]
        return "\n".join(text.rstrip() for text in texts if text.strip())

    # --- one step --------------------------------------------------------------------------

    def step(self, stage: Stage, step: Step) -> Outcome:
        """Journal, act, journal."""
        shown = [action.shown for action in step.actions]
        try:
            if self.lock:
                self.lock.ensure()
        except FabfleetError as error:
            outcome = Outcome(step.host, Kind.REFUSED, message=f"the lock is lost: {error}")
            self._tell("step_finished", stage, step, outcome)
            return outcome
        with self._guard:
            self.journal.write("started", stage=stage.name, step=step.name, host=step.host,
                               actions=shown)
            self.running[step.host] = step.name
        self._tell("step_started", stage, step)
        outcome = self._perform(step)
        if outcome.kind is Kind.FAILED:
            outcome = self._unless_locked_out(outcome)
        with self._guard:
            self.running.pop(step.host, None) if outcome.kind is not Kind.LOST else None
            self.journal.write("finished", stage=stage.name, step=step.name, host=step.host,
                               outcome=outcome.kind.value, exit=outcome.exit,
                               seconds=round(outcome.seconds, 3),
                               reason="" if outcome else outcome.reason[-2000:])
        self._tell("step_finished", stage, step, outcome)
        return outcome

    def _unless_locked_out(self, failed: Outcome) -> Outcome:
        """Another run that has the lock by now may be why it failed; then nothing is put back."""
        try:
            if self.lock:
                self.lock.confirm()
        except FabfleetError as error:
            message = f"the lock is lost: {error}\n{failed.reason}"
            return replace(failed, kind=Kind.REFUSED, message=message)
        return failed

    def _perform(self, step: Step) -> Outcome:
        started = time.monotonic()
        outcome = Outcome(step.host, Kind.OK)
        stdout = ""
        for number, action in enumerate(step.actions):
            before = self._before(step, first=number == 0)
            after = self._after(step, last=number == len(step.actions) - 1)
            outcome = self._act(step, action, before, after)
            stdout += outcome.stdout
            if not outcome:
                break
        seconds = time.monotonic() - started
        return Outcome(step.host, outcome.kind, outcome.exit, stdout, outcome.stderr,
                       outcome.message, seconds)

    def _act(self, step: Step, action: Action, before: str, after: str) -> Outcome:
        try:
            outcome = self._once(step, action, before, after)
        except FabfleetError as error:
            return Outcome(step.host, Kind.FAILED, message=str(error))
        deadline = time.monotonic() + min(step.timeout, REATTACH_SECONDS)
        lost = (Kind.LOST, Kind.UNREACHABLE)
        while step.resumable and outcome.kind in lost and not self.aborted:
            if time.monotonic() > deadline:
                break
            self._tell("note", f"{step.host}: {outcome.reason}; looking for the job again")
            time.sleep(REATTACH_PAUSE)
            outcome = self._once(step, action, before, after)
        return outcome

    def _once(self, step: Step, action: Action, before: str, after: str) -> Outcome:
        if isinstance(action, OnController):
            return self._on_controller(step, action)
        host = self.hosts[step.host]
        if isinstance(action, Upload):
            sync = Sync(action.source, action.target, action.link_to, step.timeout, before, after)
            return self.transport.sync(host, sync)
        line, stdin = self._line(step, action)
        if before:
            line = f"{before}{{ {line}; }} 9>&-; rc=$?; {after}exit $rc"

        def tell(text: str) -> None:
            self._tell("step_output", step, text)

        return self.transport.run(
            host, Call(line, stdin, step.timeout, tell if step.resumable else None)
        )

    def _line(self, step: Step, action: Run | OnHost) -> tuple[str, bytes]:
        if isinstance(action, Run):
            return action.command.line, b""
        files = {name: Path(file.path).read_bytes() for name, file in action.files.items()}
        for name, secret in action.secrets.items():
            files[name] = secrets.resolve(secret).encode()
        arguments: dict[str, Any] = dict(action.arguments)
        if action.program == "job" or "run" in arguments:
            arguments["run"] = self.journal.run
        line = ship.line(action.interpreter).line
        return line, ship.package(action.program, arguments, files)

    def _on_controller(self, step: Step, action: OnController) -> Outcome:
        started = time.monotonic()
        environment = {**os.environ, **self.facts, **action.environment,
                       "FABFLEET_RUN": self.journal.run}
        # In a process group of its own: Ctrl-C is for us, and we let finish what runs.
        with subprocess.Popen(
            ["sh", "-c", action.line], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
        ) as process:
            self._hooks.add(process)
            if self.aborted:  # it came before the hook was to be seen
                _end_group(process)
            try:
                out, err = process.communicate(timeout=step.timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                late = f"did not end within {step.timeout:g} s and was stopped"
                return Outcome(CONTROLLER, Kind.TIMED_OUT, message=late, seconds=step.timeout)
            finally:
                self._hooks.discard(process)
        return of_exit(CONTROLLER, process.returncode, out, err,
                       time.monotonic() - started, step.timeout)

    # --- the host's own journal --------------------------------------------------------------

    def _before(self, step: Step, first: bool) -> str:
        """Shell that waits for what a dead run left running here, and writes the journal.

        The lock on ``busy`` is held by this shell alone, never by what it starts, so that a
        service that is started here does not keep it.
        """
        if step.host not in self.roots:
            return ""  # the controller, or a balancer: no release and no journal is there
        state = quote(f"{self.roots[step.host]}/.fabfleet")
        folder = f"{state}/runs/{self.journal.run}"
        wait = (
            f"umask 022; mkdir -p {folder} || exit 73; exec 9>>{state}/busy || exit 73; "
            f"flock -w {step.timeout:g} 9 || {{ echo 'a command of an earlier run still runs here'"
            f" >&2; exit 75; }}; "
        )
        journal = f"{_append(step, 'started', folder)} || exit 73; " if first else ""
        # A detached job has a lock of its own; who only follows it must not keep the next run out.
        return wait + journal + ("exec 9>&-; " if step.resumable else "")

    def _after(self, step: Step, last: bool) -> str:
        if step.host not in self.roots or not last:
            return ""
        folder = quote(f"{self.roots[step.host]}/.fabfleet/runs/{self.journal.run}")
        return f"{_append(step, 'ended', folder)}; "

    # --- listeners and interrupts --------------------------------------------------------------

    def _tell(self, what: str, *values: object) -> None:
        with self._guard:
            for listener in self.listeners:
                getattr(listener, what)(*values)

    def interrupt(self) -> None:
        """Once: finish what runs, then stop. Twice: cut the connections."""
        if self.stopping:
            self.aborted = True
            if self.lock:
                self.lock.abandon()
            self.transport.close()
            for process in list(self._hooks):
                _end_group(process)
            return
        self.stopping = True
        self._tell("note", "interrupted: finishing what runs; press Ctrl-C again to abort")


def _recovery(stage: Stage) -> list[tuple[Stage, Step]]:
    """What would follow where a stage of one turn fails."""
    turns = stage.turns[:1] if stage.mode == "once" else ()
    return [(stage, step) for turn in turns for step in turn.recover]


def _end_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, signal.SIGTERM)


def _taken_out(turn: Turn) -> tuple[Step, ...]:
    """The steps of a turn that take its host out of rotation, before the first that touches it."""
    before = takewhile(lambda step: step.rotation or _is_hook(step), turn.steps)
    return tuple(step for step in before if step.rotation)


def _is_hook(step: Step) -> bool:
    return step.name.startswith("hook ")


def _way_back(turn: Turn, done: Sequence[Step], failed: Step) -> tuple[Step, ...]:
    """Where a host was not taken out of rotation everywhere, it was not touched itself: then only
    its rotation is put right, on the balancers where it was changed. A turn of hooks alone has the
    way back of the stage that they stand before."""
    if all(map(_is_hook, turn.steps)) or not all(
            step.rotation or _is_hook(step) for step in (*done, failed)):
        return turn.recover
    changed = {step.host for step in done if step.rotation}
    return tuple(step for step in turn.recover if step.rotation and step.host in changed)


def _append(step: Step, event: str, folder: str) -> str:
    """One line for the host's journal, with the host's own clock."""
    record = json.dumps({"event": event, "step": step.name})[1:-1]
    status = ',"exit":%s' if event == "ended" else ""
    values = '"$(date +%s)"' + (' "$rc"' if event == "ended" else "")
    pattern = quote(f'{{"at":%s,{record}{status}}}\\n')
    return f"printf {pattern} {values} >>{folder}/journal.jsonl"


@contextmanager
def interruptible(runner: Runner) -> Iterator[None]:
    """Ctrl-C and SIGTERM become the runner's interrupts.

    A thread tells them, because a handler runs in the midst of whatever it interrupts and would
    wait forever for a lock that is held there.
    """
    signals: SimpleQueue[bool] = SimpleQueue()

    def handle(_number: int, _frame: object) -> None:
        signals.put(True)

    def tell() -> None:
        while signals.get():
            runner.interrupt()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    # After vfork Python gives a child back the default handlers before its own process group, and
    # Ctrl-C in between kills it (59 of 400 under a rain of signals); after fork it does not (0).
    vfork = vars(subprocess)["_USE_VFORK"]
    vars(subprocess)["_USE_VFORK"] = False
    try:
        yield
    finally:
        vars(subprocess)["_USE_VFORK"] = vfork
        for number, handler in old.items():
            signal.signal(number, handler)
        signals.put(False)
        teller.join()
