"""What every task that reaches hosts is made of: open, probe, plan, show, run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from fabfile.display.lines import Lines, screen
from fabfile.engine import closing, probe, secrets, source, wheels
from fabfile.engine.events import Listener
from fabfile.engine.fleet import FleetTransport, everywhere
from fabfile.engine.journal import Journal, new_run_id, operator
from fabfile.engine.lock import FleetLock, describe
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.run import Result, Runner, interruptible
from fabfile.engine.transport import Call
from fabfile.environment import Environment, open_environment
from fabfile.errors import (
    Failed,
    Interrupted,
    Pending,
    Refused,
    Unavailable,
    UsageError,
)
from fabfile.plan import Plan, Stage
from fabfile.strategies import preflight
from fabfile.strategies.targets import Fleet, bare_target, named, with_runtime
from inventories.model import Host
from roles.app import AppSettings
from roles.deploy import DeploySettings
from roles.python import PythonSettings
from roles.release import ReleaseSettings
from roles.role import HostFacts, Release, Step, Target, Wheelhouse

# How long a new run waits for the last commands of one that is gone.
SETTLE_SECONDS = 600


class Downtime(Listener):
    """How long the site was closed, by the account of what opened it: seconds, or None. ``stopped``
    are the hosts whose servers were stopped and have not answered well since."""

    seconds: float | None = None

    def __init__(self) -> None:
        self.stopped: set[str] = set()

    def step_finished(self, stage: Stage, step: Step, outcome: Outcome) -> None:
        if step.name == "wsgi.stop":
            self.stopped.add(step.host)
        if step.name == "wsgi.health" and outcome:
            self.stopped.discard(step.host)
        if step.name == "maintenance.open" and outcome:
            told = json.loads(outcome.stdout.splitlines()[-1])
            self.seconds = max(self.seconds or 0, told.get("closed_for", 0))


@dataclass
class Session:
    """One task's connections to one environment."""

    environment: Environment
    hosts: tuple[Host, ...]
    transport: FleetTransport
    lines: Lines
    filtered: bool = False
    skip_unreachable: bool = False
    skipped: tuple[str, ...] = ()
    facts: dict[str, HostFacts] = field(default_factory=dict)
    downtime: Downtime = field(default_factory=Downtime)

    @property
    def wanted(self) -> list[Host]:
        """The chosen hosts and, wherever they are, the migration host and the scheduler's."""
        authority = self.environment.migration_host
        chosen = {host.name: host for host in
                  (*self.hosts, authority, *self.environment.scheduler_hosts)}
        return list(chosen.values())

    def probe(self) -> dict[str, HostFacts]:
        """Facts of all wanted hosts, or one error that names every host that failed.

        With ``skip_unreachable``, hosts that do not answer the first time are left out from then
        on; the migration host never is.
        """
        authority = self.environment.migration_host.name
        skips = self.skip_unreachable and not self.facts
        self.facts = probe.look_or_refuse(
            self.transport, self.environment, self.wanted,
            lambda name: skips and name != authority)
        left = tuple(host for host in self.hosts if host.name in self.facts)
        if left != self.hosts:
            self.skipped = tuple(h.name for h in self.hosts if h.name not in self.facts)
            self.lines.note(f"left out, as they do not answer: {', '.join(self.skipped)}")
            self.hosts = left
        if not left:
            raise Unavailable("no host answers; nothing was changed")
        return self.facts

    def deployed_on(self, host: Host) -> str:
        """The release that is current there. Raises :class:`Refused` where there is none."""
        current = self.facts[host.name].current
        if current is None:
            raise Refused(f"{host.name}: nothing was deployed yet; "
                          f"fab deploy --env={self.environment.name} comes first")
        return current

    def refuse_debt(self) -> None:
        """Raises :class:`Refused` where --hosts leaves out a host that has to catch up."""
        owed = self.facts[self.environment.migration_host.name].owed
        chosen = {host.name for host in self.hosts}
        known = {host.name for host in self.environment.hosts}
        left = [name for name in owed if name in known - chosen and name not in self.skipped]
        if left:
            raise Refused(
                f"{', '.join(left)}: skipped by an earlier deploy and not on its release yet; "
                f"include it in --hosts, or say --skip-unreachable while it does not answer"
            )

    def find_secrets(self) -> None:
        """Look every secret up before anything is touched. Raises :class:`UsageError` for all that
        are missing."""
        missing: dict[str, None] = {}
        for host in self.hosts:
            app = self.environment.of(AppSettings, "app", host)
            for name, each in app.secrets.items():
                try:
                    secrets.resolve(each.reference())
                except UsageError as error:
                    missing[f"{host.where('app', 'secrets', name)}: {error}"] = None
        if missing:
            raise UsageError("\n".join(missing))

    def settle(self) -> None:
        """Wait until what a dead run left working has ended, then look again.

        Raises :class:`Failed`, naming the hosts where it goes on.
        """
        def wait(host: Host) -> Outcome:
            busy = quote(f"{self.environment.roots[host.name]}/.fabfleet/busy")
            line = f"[ ! -e {busy} ] || flock -w {SETTLE_SECONDS} {busy} true"
            return self.transport.run(host, Call(line, timeout=SETTLE_SECONDS + 30))

        outcomes = everywhere(self.wanted, wait)
        working = [name for name, outcome in outcomes.items() if outcome.kind is Kind.FAILED]
        if working:
            raise Failed(f"{', '.join(working)}: a command of an earlier run still works there "
                         f"after {SETTLE_SECONDS} s; try again when it has ended")
        self.probe()

    # --- what is to be deployed --------------------------------------------------------------

    def export(self, ref: str | None, worktree: bool, pinned: bool = False) -> source.Source:
        settings = self.environment.of(ReleaseSettings, "release")
        where = self.environment.hosts[0].where("release")
        return source.export(settings, where, ref, worktree, pinned)

    def fleet(self, exported: source.Source) -> Fleet:
        """The release, its wheels for every platform of the fleet, and the targets."""
        environment = self.environment
        settings = environment.of(ReleaseSettings, "release")
        pythons = environment.of(PythonSettings, "python")
        folder = Path(exported.tree, settings.subfolder)
        lock = wheels.find_lock(folder, pythons, environment.hosts[0].where("python"))
        release = Release(
            id="RELEASE", tree=exported.tree, manifest=exported.manifest, digest=exported.digest,
            files=exported.files, size=exported.size, commit=exported.commit, ref=exported.ref,
            origin=exported.origin,
        )
        dependencies = lock.requirements if lock else ""
        release = named(environment, release, dependencies, settings.subfolder, exported.name)
        houses: dict[wheels.Platform, Wheelhouse] = {}
        targets = {}
        for name, facts in self.facts.items():
            fits = wheels.Platform.of(facts)
            if lock and fits.python and fits not in houses:
                houses[fits] = wheels.build(lock, fits, pythons, exported.origin)
            target = bare_target(environment, facts, release, houses.get(fits))
            targets[name] = with_runtime(target, settings.subfolder)
        return self._fleet(targets)

    def fleet_of(self, release_id: str) -> Fleet:
        """The fleet with a release that is on the hosts already."""
        release = Release(release_id, "", "", "", 0, 0)
        return self._fleet({
            name: bare_target(self.environment, facts, release, None)
            for name, facts in self.facts.items()
        })

    def _fleet(self, targets: Mapping[str, Target]) -> Fleet:
        scheduler = [host.name for host in self.environment.scheduler_hosts]
        return Fleet(
            environment=self.environment.name,
            targets=tuple(targets[host.name] for host in self.hosts),
            migration=targets[self.environment.migration_host.name],
            hooks=self.environment.hooks,
            deploy=self.environment.of(DeploySettings, "deploy"),
            balancers={host.name: self.environment.balancers(host)
                       for host in self.environment.hosts},
            scheduler=targets.get(scheduler[0]) if scheduler else None,
            skipped=self.skipped,
            site=closing.site(self.environment),
            who=operator(),
        )

    def refuse_problems(self, fleet: Fleet) -> None:
        found = preflight.problems(fleet)
        if found:
            raise Refused("\n".join([*found, "nothing was changed"]))
        for note in preflight.clock_notes(fleet, time.time()):
            self.lines.note(note)

    def refuse_filter(self, fleet: Fleet) -> None:
        """Migrations run on one named host; a filter must not make that another one."""
        outside = fleet.migration.name not in {target.name for target in fleet.targets}
        if fleet.expand and outside:
            raise Refused(
                f"--hosts leaves out {fleet.migration.name}, the migration host, while migrations "
                f"are pending: {', '.join(fleet.expand.names)}. Include it, or deploy the whole "
                f"fleet"
            )

    # --- acting --------------------------------------------------------------------------------

    @contextmanager
    def run(self, task: str) -> Iterator[Run]:
        """The lock, the journal and the signals around everything that changes something."""
        environment = self.environment
        authority = environment.migration_host
        journal = Journal(environment.key, new_run_id())
        lock = FleetLock(
            self.transport, authority, environment.roots[authority.name], journal.run,
            environment.name,
        )
        try:
            lock.acquire()
        except BaseException:
            journal.discard()
            raise
        if lock.abandoned:
            gone = dict(lock.abandoned, alive=False)
            self.lines.note(f"taking over from {describe(gone)}")
        runner = Runner(
            self.transport, environment.inventory.hosts, environment.roots, journal,
            [self.lines, self.downtime], lock, {"FABFLEET_ENVIRONMENT": environment.name},
        )
        journal.write("run", task=task, environment=environment.name, argv=sys.argv[1:])
        outcome = "failed"
        try:
            seen = self.facts.get(authority.name)
            if lock.abandoned or any(facts.busy for facts in self.facts.values()):
                self.settle()
            elif seen is not None and lock.written_before != seen.lock_written:
                self.probe()
            with interruptible(runner):
                yield Run(self, runner)
            outcome = "ok"
        except (Pending, Refused, Interrupted) as ended:
            outcome = type(ended).__name__.lower()
            raise
        finally:
            journal.write("ended", outcome=outcome)
            journal.close()
            lock.release()


@dataclass
class Run:
    """A run that holds the lock."""

    session: Session
    runner: Runner

    def execute(self, plan: Plan) -> Result:
        return self.runner.execute(plan)

    def execute_or_fail(self, plan: Plan, again: str) -> None:
        """Raises :class:`Failed` or :class:`Interrupted` with the state of every host and what to
        do next; ``again`` is the command that goes on."""
        result = self.execute(plan)
        if not result:
            raise self.failure(plan, result, again)

    def failure(self, plan: Plan, result: Result, again: str) -> Failed | Interrupted | Refused:
        from fabfile.report import failure_text

        facts: dict[str, HostFacts] = {}
        silent: dict[str, Outcome] = {}
        if not self.runner.aborted:
            facts, silent = probe.look(self.session.transport, self.session.environment,
                                       self.session.wanted)
        judged = [each for each in result.failures
                  if each.step.judges and each.outcome.kind is Kind.FAILED]
        late = result.reached == plan.stages[0].name and result.failures and all(
            each.step.name == "maintenance.window" for each in result.failures)
        if late:
            return Refused("\n".join([*(each.outcome.message for each in result.failures),
                                      "nothing that serves was changed"]))
        if judged and plan.name == "stage":
            text = failure_text(plan, result, {}, {}, "")
            return Refused(f"{text}\nthe release was refused; nothing was changed")
        text = failure_text(plan, result, facts, silent, again)
        cut_off = self.runner.aborted or (result.interrupted and not result.failures)
        return Interrupted(text) if cut_off else Failed(text)


@contextmanager
def connected(
    env: str | None, inventory: str | None = None, hosts: str | None = None, json: bool = False,
    skip_unreachable: bool = False,
) -> Iterator[Session]:
    """Open an environment and, when it is left, close every connection."""
    environment = open_environment(env, inventory)
    chosen = environment.hosts
    if hosts is not None:
        picked = {host.name for host in environment.inventory.select(hosts)}
        chosen = tuple(host for host in environment.hosts if host.name in picked)
        if not chosen:
            listed = ", ".join(host.name for host in environment.hosts)
            raise UsageError(f"--hosts={hosts}: none of these gets the code; those that do: "
                             f"{listed}")
    transport = FleetTransport(environment.known_hosts, environment.name)
    lines = screen(sys.stderr if json else sys.stdout)
    try:
        yield Session(environment, chosen, transport, lines, hosts is not None,
                      skip_unreachable)
    finally:
        transport.close()


def confirm(environment: Environment, yes: bool) -> None:
    """Ask where the inventory wants it asked. Raises :class:`Refused`."""
    if yes or not environment.of(DeploySettings, "deploy").confirm:
        return
    if not sys.stdin.isatty():
        raise Refused("deploy.confirm is set and nobody can be asked here; add --yes")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("not confirmed; nothing was changed")
