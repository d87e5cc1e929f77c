"""What a role is: settings in, steps out. A role touches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from inventories.model import Host
from roles.command import Action
from roles.settings import Settings

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Step:
    """A named action of one role on one host.

    ``timeout`` is in seconds and ends the remote process too. ``diagnose`` runs when the step
    failed, to show why (the last lines of a log). ``resumable`` marks detached work that may be
    asked for again after a lost connection. ``judges`` marks a check of the release itself: when
    it fails, nothing that serves was touched and what was staged is taken away again. ``if_well``
    marks a step that, on the way back, only follows steps that went well: a host that is not
    healthy gets no requests. ``apart`` marks a step whose failure keeps only its own host from what
    follows on the way back, as one of several servers in front of the site. ``rotation`` marks a
    step that changes nothing on the host itself, but whether it gets requests.
    """

    name: str
    host: str
    actions: tuple[Action, ...]
    timeout: float = 60.0
    diagnose: tuple[Action, ...] = ()
    resumable: bool = False
    judges: bool = False
    if_well: bool = False
    apart: bool = False
    rotation: bool = False


@dataclass(frozen=True)
class Release:
    """One release: its id, where its tree lies on the controller, and where it came from."""

    id: str
    tree: str
    manifest: str
    digest: str
    files: int
    size: int
    commit: str = ""
    ref: str = ""
    origin: str = ""


@dataclass(frozen=True)
class HostFacts:
    """What the probe found on one host. Sizes in bytes, times in seconds since the epoch.

    ``running`` are the releases that some process runs; ``draining`` are those among them that only
    finish what they have, or stay up for a way back. ``links`` are sockets that lead to others.
    ``commands`` are the launcher's names in the current release. ``paused`` is what a run that
    stopped everything has noted (``roles/onhost/timers.py``), until it has started again.
    """

    host: str
    user: str = ""
    python: str = ""
    venv_python: str = ""
    machine: str = ""
    libc: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    root_exists: bool = False
    writable: bool = False
    free_bytes: int = 0
    free_inodes: int = 0
    clock: float = 0.0
    current: str | None = None
    releases: tuple[str, ...] = ()
    statics: tuple[str, ...] = ()
    venvs: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    services: Mapping[str, str] = field(default_factory=dict)
    draining: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    lock: Mapping[str, Any] | None = None
    lock_written: int = 0
    freeze: Mapping[str, Any] | None = None
    job: Mapping[str, Any] | None = None
    owed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    paused: Mapping[str, Any] | None = None
    busy: bool = False

    @property
    def working(self) -> tuple[str, ...]:
        """The releases that run, but for those that are ``draining``."""
        return tuple(each for each in self.running
                     if each == self.current or each not in self.draining)


@dataclass(frozen=True)
class Paths:
    """Where everything lies on a host."""

    root: str

    @property
    def current(self) -> str:
        return f"{self.root}/current"

    @property
    def releases(self) -> str:
        return f"{self.root}/releases"

    @property
    def shared(self) -> str:
        return f"{self.root}/shared"

    @property
    def venvs(self) -> str:
        return f"{self.root}/venvs"

    @property
    def state(self) -> str:
        return f"{self.root}/.fabfleet"

    @property
    def launcher(self) -> str:
        return f"{self.state}/launch.py"

    def release(self, release_id: str) -> str:
        return f"{self.releases}/{release_id}"

    def staging(self, release_id: str) -> str:
        return f"{self.releases}/.staging-{release_id}"

    def static(self, release_id: str) -> str:
        return f"{self.root}/static/{release_id}"

    def venv(self, lock_hash: str) -> str:
        return f"{self.venvs}/{lock_hash}"


@dataclass(frozen=True)
class Wheelhouse:
    """The wheels of one dependency lock, built on the controller for the hosts' platform.

    ``tools`` is a folder that holds uv, for hosts that have none.
    """

    folder: str
    requirements: str
    digest: str
    tools: str = ""


@dataclass(frozen=True)
class Setup:
    """What ``fab hosts.setup`` brings to a host once, as root.

    ``files`` (an empty one must not be there) and ``programs`` by path; ``rules`` are the commands
    that sudo has to allow. ``units`` are those that then have to be there; ``hint`` says who brings
    them where it is not ``hosts.setup``.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Target:
    """One host as a role sees it: the host, its settings, its facts, and the release to come.

    ``afresh``: processes that run this very release are replaced as well. ``off``: what a person
    has stopped before everything stops, by the launcher's names, so that it is not started after;
    None where nothing of the kind is asked.
    """

    host: Host
    paths: Paths
    settings: Mapping[str, Settings]
    facts: HostFacts
    release: Release
    venv: str | None = None
    wheelhouse: Wheelhouse | None = None
    runtime: Mapping[str, Any] = field(default_factory=dict)
    afresh: bool = False
    off: frozenset[str] | None = None

    @property
    def name(self) -> str:
        return self.host.name

    def of(self, model: type[S], role: str) -> S:
        """This host's settings of one role."""
        found = self.settings[role]
        assert isinstance(found, model)
        return found

    def on(self, release: str) -> Target:
        """The same host with another release, of which no more than the id is known."""
        return replace(self, release=replace(self.release, id=release))


class Role:
    """One thing that a host does. Subclasses override the moments in which they take part.

    ``name`` is also the key of the settings in the inventory. ``after`` names the roles whose
    steps come first in every moment.
    """

    name: ClassVar[str]
    settings: ClassVar[type[Settings]] = Settings
    after: ClassVar[tuple[str, ...]] = ()
    groups: ClassVar[tuple[str, ...]] = ()

    def environment(self, target: Target) -> Mapping[str, str]:
        """Environment variables that the release's processes get."""
        return {}

    def commands(self, target: Target) -> Mapping[str, list[str]]:
        """Commands of the release that the launcher knows by name."""
        return {}

    def stage(self, target: Target) -> Iterable[Step]:
        """While the old code serves: bring and check what the new release needs."""
        return ()

    def stop(self, target: Target) -> Iterable[Step]:
        """Take the service down."""
        return ()

    def start(self, target: Target) -> Iterable[Step]:
        """Bring the service up on whatever is current, and wait until it is healthy."""
        return ()

    def restart(self, target: Target) -> Iterable[Step]:
        """Bring the service from the old code to the new, and wait until it is healthy."""
        return ()

    def confirm(self, target: Target) -> Iterable[Step]:
        """Look, without changing anything, whether the release really serves."""
        return ()

    def retire(self, target: Target) -> Iterable[Step]:
        """End what is kept of other releases for a way back, which there is none from here on."""
        return ()

    def finish(self, target: Target) -> Iterable[Step]:
        """When every host runs the release: record and clean up."""
        return ()

    def discard(self, target: Target) -> Iterable[Step]:
        """Take away what ``stage`` brought, when the release proved to be bad."""
        return ()

    def setup(self, target: Target) -> Setup:
        """What the host needs before the first deploy."""
        return Setup()

    def off(self, target: Target) -> Iterable[str]:
        """What of the current release's commands somebody has stopped, as far as facts tell."""
        return ()

    def serves(self, target: Target) -> bool:
        """Whether all that this role runs on the host runs the release, as far as facts tell."""
        return True

    def probe(self, host: Host, settings: Mapping[str, Settings]) -> Mapping[str, Any]:
        """What the probe should look for on the host on behalf of this role."""
        return {}
