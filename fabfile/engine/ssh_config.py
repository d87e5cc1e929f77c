"""Which machine, which user, which keys: as OpenSSH itself reads its configuration (``ssh -G``)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from getpass import getuser
from itertools import pairwise

from inventories.model import Host


class SshConfigError(Exception):
    """``ssh -G`` refused; the text is OpenSSH's own."""


@dataclass(frozen=True)
class Target:
    """What OpenSSH would do for this host. ``proxy`` is the command line that dials it, or none."""

    name: str
    hostname: str
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    certificate_files: tuple[str, ...] = ()
    identities_only: bool = False
    agent: str | None = None
    known_hosts: tuple[str, ...] = ()
    key_alias: str | None = None
    proxy: tuple[str, ...] = ()
    connect_timeout: float = 10.0
    environment: str = ""

    @property
    def host_key_name(self) -> str:
        """The name to look for in known_hosts."""
        if self.key_alias:
            return self.key_alias
        return self.hostname if self.port == 22 else f"[{self.hostname}]:{self.port}"


def resolve(
    host: Host, extra_known_hosts: tuple[str, ...] = (), environment: str = ""
) -> Target:
    """``environment`` is for the commands that messages name. Raises :class:`SshConfigError`."""
    connection = host.connection
    options: list[str] = []
    if connection.port:
        options += ["-p", str(connection.port)]
    if connection.user:
        options += ["-l", connection.user]
    if connection.key_file:
        # Unlike -i, this also names a file that is not there, so that a message can.
        options += ["-o", f'IdentityFile="{connection.key_file}"']
    # OpenSSH takes the first of several, and Ansible puts the inventory's own words first too.
    options += connection.ssh_args
    values = _ask(tuple(options), connection.address)
    target = _target(host.name, values, tuple(options), extra_known_hosts)
    return replace(target, environment=environment)


@lru_cache(maxsize=4096)
def _ask(options: tuple[str, ...], address: str) -> tuple[tuple[str, str], ...]:
    asked = subprocess.run(
        ["ssh", "-G", *options, address],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )
    if asked.returncode != 0:
        raise SshConfigError(asked.stderr.strip())
    pairs = (line.partition(" ") for line in asked.stdout.splitlines())
    return tuple((key.lower(), value) for key, _, value in pairs)


def _target(
    name: str, pairs: tuple[tuple[str, str], ...], options: tuple[str, ...], extra: tuple[str, ...]
) -> Target:
    one = dict(reversed(pairs))
    hostname, port, user = one["hostname"], int(one["port"]), one["user"]

    def expand(text: str) -> str:
        tokens = {"%%": "%", "%h": hostname, "%p": str(port), "%r": user, "%u": getuser(),
                  "%n": one.get("host", name), "%d": os.path.expanduser("~")}
        text = re.sub("%.", lambda found: tokens.get(found[0], found[0]), text)
        return os.path.expanduser(text)

    def files(key: str) -> tuple[str, ...]:
        return tuple(expand(value) for found, value in pairs if found == key and value != "none")

    def words(key: str) -> tuple[str, ...]:
        return tuple(expand(word) for word in shlex.split(one.get(key, "")) if word != "none")

    alias = one.get("hostkeyalias")
    timeout = one.get("connecttimeout", "none")
    return Target(
        name=name,
        hostname=hostname,
        port=port,
        user=user,
        identity_files=files("identityfile"),
        certificate_files=files("certificatefile"),
        identities_only=one.get("identitiesonly") == "yes",
        agent=_agent(one.get("identityagent"), expand),
        known_hosts=(*extra, *words("userknownhostsfile"), *words("globalknownhostsfile")),
        key_alias=None if alias in (None, "none") else alias,
        proxy=_proxy(one, hostname, port, expand, options),
        connect_timeout=float(timeout) if timeout.isdigit() else 10.0,
    )


def _agent(value: str | None, expand: Callable[[str], str]) -> str | None:
    if value == "none":
        return None
    if value and value != "SSH_AUTH_SOCK":
        return os.path.expandvars(expand(value))
    return os.environ.get("SSH_AUTH_SOCK")


def _proxy(
    one: dict[str, str], hostname: str, port: int, expand: Callable[[str], str],
    options: tuple[str, ...],
) -> tuple[str, ...]:
    """OpenSSH does the hops itself, so they are dialled in its order and checked by its rules."""
    command = one.get("proxycommand", "none")
    if command != "none":
        return ("sh", "-c", f"exec {expand(command)}")
    jumps = one.get("proxyjump", "none")
    if jumps == "none":
        return ()
    *before, last = jumps.split(",")
    config = [word for flag, word in pairwise(options) if flag == "-F"]
    address = f"[{hostname}]:{port}" if ":" in hostname else f"{hostname}:{port}"
    last = last if last.startswith("ssh://") else f"ssh://{last}"
    return (
        "ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
        *(("-F", config[-1]) if config else ()),
        *(("-J", ",".join(before)) if before else ()), "-W", address, last,
    )
