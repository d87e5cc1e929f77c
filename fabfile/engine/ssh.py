"""SSH over Fabric and Paramiko: the one file that knows either.

One authenticated connection per host carries everything: commands, rsync, the lock. Fabric accepts
any host key and reads only a part of OpenSSH's configuration, so its connection is opened here by
our own rules: configuration from ``ssh -G``, host keys from known_hosts, a deadline for every wait,
and a pulse that notices a frozen peer.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import socket
import subprocess
import tempfile
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paramiko
from fabric import Config, Connection
from paramiko.agent import AgentSSH

from fabfile.engine import rsync
from fabfile.engine.outcome import Kind, Outcome, of_exit
from fabfile.engine.ssh_config import SshConfigError, Target, resolve
from fabfile.engine.transport import GRACE, Call, ConnectionBroken, Stream, Sync
from inventories.model import Host

WINDOW = 16 * 1024 * 1024
PACKET = 64 * 1024
BANNER_TIMEOUT = 15.0
AUTH_TIMEOUT = 30.0
CHANNEL_TIMEOUT = 30.0
PULSE_EVERY = 5.0
PULSE_LIMIT = 15.0
# Seconds in which the output of a command that has ended may still come.
LINGER = 5.0

# What went wrong is told by us; without a handler Python would print Paramiko's tracebacks.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class CannotConnect(Exception):
    """``kind`` is UNREACHABLE, REFUSED or TIMED_OUT; ``str()`` says why and what to do."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def fingerprint(key: paramiko.PKey) -> str:
    """As ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return f"{key.get_name()} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@dataclass(frozen=True)
class KnownKey:
    """One line of a known_hosts file."""

    marker: str
    kind: str
    blob: bytes
    file: str

    @property
    def shown(self) -> str:
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"{self.kind} SHA256:{digest}"


def known_keys(name: str, files: tuple[str, ...]) -> list[KnownKey]:
    """What known_hosts says of ``name``; ``ssh-keygen -F`` reads hashed names and markers too."""
    found = []
    for file in dict.fromkeys(files):
        if not os.path.isfile(file):
            continue
        asked = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", file],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        for line in asked.stdout.splitlines():
            if not line or line.startswith("#"):
                continue
            words = line.split()
            marker = words.pop(0) if words[0].startswith("@") else ""
            found.append(KnownKey(marker, words[1], base64.b64decode(words[2]), file))
    return found


class CheckedConnection(Connection):
    """Fabric's connection, opened by OpenSSH's rules."""

    # What the class does not have, Fabric would put into its configuration, as a copy.
    target: Any = None
    _proxy: subprocess.Popen[bytes] | None = None
    _proxy_errors: Any = None

    def __init__(self, target: Target) -> None:
        super().__init__(
            host=target.hostname, user=target.user, port=target.port,
            config=Config(overrides={"load_ssh_configs": False}),
        )
        self.target = target

    def open(self) -> None:
        """Raises :class:`CannotConnect`."""
        if self.is_connected:
            return
        target = self.target
        transport = None
        try:
            link = self.dial()
            transport = paramiko.Transport(
                link, default_window_size=WINDOW, default_max_packet_size=PACKET
            )
            transport.daemon = True
            transport.banner_timeout = BANNER_TIMEOUT
            transport.auth_timeout = AUTH_TIMEOUT
            transport.channel_timeout = CHANNEL_TIMEOUT
            known = known_keys(target.host_key_name, target.known_hosts)
            _prefer(transport, known)
            transport.start_client(timeout=BANNER_TIMEOUT)
            check_host_key(target, transport.get_remote_server_key(), known)
            _authenticate(transport, target)
        except CannotConnect:
            self.abandon(transport)
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            detail = self._proxy_message()
            self.abandon(transport)
            raise CannotConnect(Kind.UNREACHABLE, _unreachable(target, error, detail)) from error
        self.client._transport = transport  # noqa: SLF001 - Fabric reads it there
        self.transport = transport

    def dial(self) -> socket.socket:
        """A socket to the host, through whatever proxy there is. Raises OSError."""
        target = self.target
        if not target.proxy:
            return socket.create_connection(
                (target.hostname, target.port), timeout=target.connect_timeout
            )
        ours, theirs = socket.socketpair()
        self._proxy_errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the proxy
        self._proxy = subprocess.Popen(
            target.proxy, stdin=theirs.fileno(), stdout=theirs.fileno(),
            stderr=self._proxy_errors,
            start_new_session=True,
        )
        theirs.close()
        return ours

    def _proxy_message(self) -> str:
        if self._proxy_errors is None:
            return ""
        self._proxy_errors.seek(0)
        text: str = self._proxy_errors.read().decode("utf-8", "replace").strip()
        return text

    def abandon(self, transport: paramiko.Transport | None) -> None:
        """End everything that dialling and connecting began."""
        if transport is not None:
            transport.close()
        if self._proxy is not None:
            self._proxy.kill()
            self._proxy.wait()
            self._proxy_errors.close()
            self._proxy = self._proxy_errors = None

    def close(self) -> None:
        """Ends the connection and the process that dialled it."""
        self.abandon(self.transport)


def _unreachable(target: Target, error: BaseException, detail: str) -> str:
    where = f"{target.user}@{target.hostname} port {target.port}"
    what = detail or getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        what = detail or f"no answer within {target.connect_timeout:g} s"
    return f"{where}: {what}"


def _prefer(transport: paramiko.Transport, known: list[KnownKey]) -> None:
    """Ask for a key of a kind that we know, as OpenSSH does."""
    kinds = {each.kind for each in known if not each.marker}
    if "ssh-rsa" in kinds:
        kinds |= {"rsa-sha2-512", "rsa-sha2-256"}
    options = transport.get_security_options()
    options.key_types = sorted(options.key_types, key=lambda kind: kind not in kinds)


def check_host_key(target: Target, key: paramiko.PKey, known: list[KnownKey]) -> None:
    """Raises :class:`CannotConnect` unless ``key`` is one that known_hosts has for this host."""
    blob = key.asbytes()
    where = f"host key of {target.host_key_name}"
    env = f" --env={target.environment}" if target.environment else ""
    trust = f"fab hosts.trust{env} --hosts={target.name}"
    if any(each.marker == "@revoked" and each.blob == blob for each in known):
        raise CannotConnect(Kind.REFUSED, f"{where}: {fingerprint(key)} is marked as revoked")
    plain = [each for each in known if not each.marker]
    if any(each.blob == blob for each in plain):
        return
    if not plain:
        raise CannotConnect(
            Kind.REFUSED,
            f"{where} is not known: it shows {fingerprint(key)}, and known_hosts has none for it. "
            f"Compare it with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), "
            f"then accept it: {trust}",
        )
    expected = ", ".join(f"{each.shown} ({each.file})" for each in plain)
    raise CannotConnect(
        Kind.REFUSED,
        f"{where} HAS CHANGED: it shows {fingerprint(key)}, known is {expected}. Either the host "
        f"was set up anew or somebody is in between. If you know why: {trust} --replace",
    )


def _authenticate(transport: paramiko.Transport, target: Target) -> None:
    tried: list[str] = []
    notes: list[str] = []
    with _agent_keys(target) as agent:
        for name, key in _keys(target, agent, notes):
            tried.append(name)
            try:
                transport.auth_publickey(target.user, key)
                return
            except paramiko.BadAuthenticationType as error:
                notes.append(f"the server wants {', '.join(error.allowed_types)}")
                break
            except paramiko.SSHException:
                if not transport.is_active():
                    notes.append("the host allowed no more tries; with IdentitiesOnly=yes only the "
                                 "configured keys are offered")
                    break
    missing = ", ".join(path for path in target.identity_files if not os.path.isfile(path))
    if missing and not tried:
        notes.append(f"not there: {missing}")
    offered = ", ".join(tried) or "no key"
    more = f" ({'; '.join(notes)})" if notes else ""
    raise CannotConnect(
        Kind.REFUSED,
        f"{target.user}@{target.hostname} port {target.port}: authentication refused; "
        f"tried: {offered}{more}. Check ansible_user, the key, and authorized_keys on the host",
    )


def _keys(
    target: Target, agent: list[tuple[str, paramiko.PKey]], notes: list[str]
) -> list[tuple[str, paramiko.PKey]]:
    """Keys in OpenSSH's order: the agent's that are configured, the agent's others, the files."""
    wanted = {blob for path in target.identity_files if (blob := _public_blob(path))}
    first = [(name, key) for name, key in agent if key.asbytes() in wanted]
    others = [] if target.identities_only else [each for each in agent if each not in first]
    held = {key.asbytes() for _, key in agent}
    files = []
    for path in target.identity_files:
        if not os.path.isfile(path) or _public_blob(path) in held:
            continue
        try:
            key = paramiko.PKey.from_path(path)
        except paramiko.PasswordRequiredException:
            notes.append(f"{path} has a passphrase: ssh-add it")
            continue
        except (OSError, ValueError, TypeError, paramiko.SSHException) as error:
            if "password" in str(error).lower() or "passphrase" in str(error).lower():
                notes.append(f"{path} has a passphrase: ssh-add it")
            else:
                notes.append(f"{path}: {error}")
            continue
        for certificate in target.certificate_files:
            if os.path.isfile(certificate):
                key.load_certificate(certificate)
        files.append((path, key))
    return [*first, *others, *files]


@contextmanager
def _agent_keys(target: Target) -> Iterator[list[tuple[str, paramiko.PKey]]]:
    """The keys that the agent holds; they sign for as long as the connection to it is open."""
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.settimeout(5)
            link.connect(target.agent or "")
            agent: Any = AgentSSH()
            agent._connect(link)  # noqa: SLF001 - the only way to choose an agent's socket
            keys = [(f"agent key {key.comment or key.get_name()}", key) for key in agent.get_keys()]
        except (OSError, paramiko.SSHException):
            keys = []
        yield keys


def _public_blob(path: str) -> bytes | None:
    try:
        with open(f"{path}.pub", encoding="ascii") as text:
            return base64.b64decode(text.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None


class Pulse:
    """Asks the peer for a sign of life; one that gives none is cut off, so that nothing hangs."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.transport = transport
        self.asked = self.heard = time.monotonic()
        self.frozen = False
        self._stop = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _ask(self) -> None:
        while not self._stop.wait(PULSE_EVERY) and self.transport.is_active():
            self.asked = time.monotonic()
            try:
                self.transport.global_request("keepalive@openssh.com", wait=True)
            except (OSError, EOFError, paramiko.SSHException):
                return
            self.heard = time.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(1) and self.transport.is_active():
            if self.asked > self.heard and time.monotonic() - self.asked > PULSE_LIMIT:
                self.frozen = True
                self.transport.close()
                return

    def stop(self) -> None:
        self._stop.set()


class SshTransport:
    """One connection per host, opened when first needed."""

    def __init__(self, known_hosts: tuple[str, ...] = (), environment: str = "") -> None:
        self.known_hosts, self.environment = known_hosts, environment
        self._links: dict[str, tuple[CheckedConnection, Pulse]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()
        self._over = False

    def connection(self, host: Host) -> CheckedConnection:
        """Raises :class:`CannotConnect`."""
        with self._guard:
            lock = self._locks.setdefault(host.name, threading.Lock())
        with lock:
            if self._over:
                raise CannotConnect(Kind.UNREACHABLE, "the run is over; nothing more is asked")
            known = self._links.get(host.name)
            if known and known[0].is_connected:
                return known[0]
            if known:
                known[1].stop()
                known[0].close()
            try:
                link = CheckedConnection(resolve(host, self.known_hosts, self.environment))
            except SshConfigError as error:
                raise CannotConnect(Kind.REFUSED, f"ssh configuration: {error}") from None
            link.open()
            self._links[host.name] = (link, Pulse(link.transport))
            return link

    def _channel(self, host: Host) -> paramiko.Channel:
        transport = self.connection(host).transport
        return transport.open_session(
            window_size=WINDOW, max_packet_size=PACKET, timeout=CHANNEL_TIMEOUT
        )

    def _pipe(self, host: Host, line: str) -> _Pipe:
        with broken():
            return _Pipe(self._channel(host), line)

    def _is_frozen(self, host: Host) -> bool:
        known = self._links.get(host.name)
        return bool(known and known[1].frozen)

    def _failure(self, host: Host, error: BaseException, started: float) -> Outcome:
        if isinstance(error, CannotConnect):
            kind, message = error.kind, str(error)
        elif self._is_frozen(host):
            kind = Kind.UNREACHABLE
            message = f"gave no sign of life for {PULSE_LIMIT:g} s; the connection was cut"
        else:
            kind, message = Kind.LOST, f"the connection broke: {error or type(error).__name__}"
        return Outcome(host.name, kind, message=message, seconds=time.monotonic() - started)

    def run(self, host: Host, call: Call) -> Outcome:
        started = time.monotonic()
        try:
            channel = self._channel(host)
        except (CannotConnect, OSError, EOFError, paramiko.SSHException) as error:
            return self._failure(host, error, started)
        try:
            channel.exec_command(call.guarded)
            reader = _Reader(channel, call)
            if call.stdin:
                channel.sendall(call.stdin)
            channel.shutdown_write()
            if not reader.read_all(started + call.timeout + GRACE):
                late = f"did not end within {call.timeout:g} s"
                return Outcome(host.name, Kind.TIMED_OUT, None, *reader.text, late,
                               time.monotonic() - started)
            status = channel.recv_exit_status() if channel.exit_status_ready() else None
        except (OSError, EOFError, paramiko.SSHException) as error:
            return self._failure(host, error, started)
        finally:
            channel.close()
        seconds = time.monotonic() - started
        if (status is None or status < 0) and self._is_frozen(host):
            return self._failure(host, OSError(), started)
        return of_exit(host.name, status, *reader.text, seconds, call.timeout)

    def sync(self, host: Host, sync: Sync) -> Outcome:
        started = time.monotonic()
        try:
            self.connection(host)
        except CannotConnect as error:
            return self._failure(host, error, started)
        outcome = rsync.through(host.name, sync, lambda line: self._pipe(host, line))
        if outcome.kind is Kind.LOST and self._is_frozen(host):
            return self._failure(host, OSError(), started)
        return outcome

    def stream(self, host: Host, line: str, stdin: bytes) -> Stream:
        with broken():
            channel = self._channel(host)
            channel.exec_command(line)
            channel.sendall(stdin)
        return ChannelStream(channel)

    def close(self) -> None:
        """For good: what was about to ask a host does not get there any more."""
        self._over = True
        for link, pulse in list(self._links.values()):
            pulse.stop()
            link.close()
        self._links.clear()


@contextmanager
def broken() -> Iterator[None]:
    """Whatever Paramiko raises of a connection, as the one error of the seam."""
    try:
        yield
    except TimeoutError:
        raise
    except (CannotConnect, OSError, EOFError, paramiko.SSHException) as error:
        raise ConnectionBroken(str(error) or type(error).__name__) from error


class _Reader:
    """Collects both outputs of a channel until the remote command is over."""

    def __init__(self, channel: paramiko.Channel, call: Call) -> None:
        self.channel = channel
        self.out, self.err = bytearray(), bytearray()
        self.tell, self.tell_error = _in_text(call.tell), _in_text(call.tell_error)
        self.event = threading.Event()
        channel.in_buffer.set_event(self.event)
        channel.in_stderr_buffer.set_event(self.event)

    @property
    def text(self) -> tuple[str, str]:
        return self.out.decode("utf-8", "replace"), self.err.decode("utf-8", "replace")

    def _drain(self) -> bool:
        took = False
        while self.channel.recv_ready():
            block = self.channel.recv(1 << 20)
            self.out += block
            self.tell(block)
            took = True
        while self.channel.recv_stderr_ready():
            block = self.channel.recv_stderr(1 << 20)
            self.err += block
            self.tell_error(block)
            took = True
        return took

    def read_all(self, deadline: float) -> bool:
        """False where the deadline came first."""
        ended = 0.0
        while True:
            took, now = self._drain(), time.monotonic()
            over = self.channel.eof_received or self.channel.closed
            if not took and over and self.channel.status_event.wait(5):
                self._drain()
                return True
            if not took and over and not self.channel.get_transport().is_active():
                return True
            if self.channel.status_event.is_set():
                # What the command left behind in the background may keep its output for ever.
                ended = ended or now
                if now - ended > LINGER:
                    return True
            if now > deadline:
                return False
            if not took:
                self.event.wait(0.05)


def _in_text(tell: Callable[[str], None] | None) -> Callable[[bytes], None]:
    """Bytes in, text out; a letter may come in two pieces."""
    decoder = getincrementaldecoder("utf-8")("replace")

    def told(block: bytes) -> None:
        if tell:
            tell(decoder.decode(block))

    return told


class _Pipe:
    """A remote command as a pair of byte streams, for rsync."""

    def __init__(self, channel: paramiko.Channel, line: str) -> None:
        self.channel = channel
        channel.exec_command(line)
        self.errors = bytearray()

    def read(self) -> bytes:
        with broken():
            return self.channel.recv(1 << 18)

    def write(self, block: bytes) -> None:
        with broken():
            self.channel.sendall(block)

    def end_of_input(self) -> None:
        with broken():
            self.channel.shutdown_write()

    def finish(self) -> tuple[int | None, str]:
        """The exit status (None: unknown) and standard error, once both streams have ended."""
        with broken():
            while block := self.channel.recv_stderr(1 << 16):
                self.errors += block
        known = self.channel.status_event.wait(10)
        status = self.channel.recv_exit_status() if known else None
        self.channel.close()
        return (None if status is None or status < 0 else status,
                self.errors.decode("utf-8", "replace"))

    def abort(self) -> None:
        self.channel.close()


class ChannelStream:
    """A :class:`Stream` over a channel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self.channel = channel
        self.buffer = b""

    def send(self, line: str) -> None:
        with broken():
            self.channel.sendall(line.encode() + b"\n")

    def receive(self, timeout: float) -> str | None:
        deadline = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            self.channel.settimeout(max(0.01, deadline - time.monotonic()))
            with broken():
                block = self.channel.recv(65536)
            if not block:
                return None
            self.buffer += block
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        self.channel.close()


def scan(
    host: Host, extra_known_hosts: tuple[str, ...], environment: str
) -> tuple[Target, paramiko.PKey]:
    """The key that a host shows, without logging in. Raises :class:`CannotConnect`."""
    target = resolve(host, extra_known_hosts, environment)
    link = CheckedConnection(target)
    try:
        transport = paramiko.Transport(link.dial())
        transport.start_client(timeout=BANNER_TIMEOUT)
        key = transport.get_remote_server_key()
        transport.close()
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise CannotConnect(Kind.UNREACHABLE, _unreachable(target, error, "")) from error
    finally:
        link.abandon(None)
    return target, key
