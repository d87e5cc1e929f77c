"""The lab's SSH identities: made once, so that strict host key checking holds in the lab too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fabfile.lab import shell
from fabfile.lab.model import LabHost

LAB_KEY = "id_ed25519"
HOST_KEY = "ssh_host_ed25519_key"


def prepare(lab: str, directory: Path, hosts: Sequence[LabHost]) -> None:
    """Write ``id_ed25519``, ``known_hosts`` and ``ssh_config``, and a host key for each host."""
    _make_key(directory / LAB_KEY, f"fabfleet-lab-{lab}", f"lab {lab}")
    for host in hosts:
        (directory / host.name).mkdir(exist_ok=True)
        _make_key(directory / host.name / HOST_KEY, host.name, f"lab {lab}: {host.name}")
    _replace(directory / "known_hosts", _known_hosts(directory, hosts))
    _replace(directory / "ssh_config", _ssh_config(directory, hosts))


def public_key(path: Path) -> str:
    """The line of the public half of the private key at ``path``."""
    return path.with_suffix(".pub").read_text().strip()


def _make_key(path: Path, comment: str, where: str) -> None:
    # The public half is written last: with it, the pair is complete.
    if path.with_suffix(".pub").exists():
        return
    path.unlink(missing_ok=True)
    shell.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)],
        where=where,
    )


def _known_hosts(directory: Path, hosts: Sequence[LabHost]) -> str:
    lines = []
    for host in hosts:
        kind, key, *_ = public_key(directory / host.name / HOST_KEY).split()
        lines.append(f"{host.address},{host.name} {kind} {key}\n")
    return "".join(lines)


def _ssh_config(directory: Path, hosts: Sequence[LabHost]) -> str:
    return "".join(
        f"""\
Host {host.name}
    HostName {host.address}

"""
        for host in hosts
    ) + (
        f"""\
Host {" ".join(name for host in hosts for name in (host.name, host.address))}
    User root
    IdentityFile {directory / LAB_KEY}
    IdentitiesOnly yes
    UserKnownHostsFile {directory / "known_hosts"}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
"""
    )


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    os.replace(new, path)
