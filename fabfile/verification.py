"""``fab verify``: every role's testinfra checks on the real hosts, with the inventory's own rules.

The checks lie in ``roles/<role>/checks/``; ``verification_plugin`` gives them a host and a target.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from fabfile.engine.fleet import everywhere
from fabfile.engine.programs import run_attached
from fabfile.engine.ssh_config import SshConfigError, resolve
from fabfile.errors import Failed, Refused
from fabfile.session import connected
from inventories.model import Host
from roles.registry import HERE


def verify_hosts(env: str, inventory: str, hosts: str | None) -> None:
    """Raises :class:`Failed` when a check fails; pytest's own report stands above."""
    with connected(env, inventory, hosts) as session:
        session.probe()
        with tempfile.TemporaryDirectory(prefix="fabfleet-") as folder:
            config = Path(folder, "ssh_config")
            known = session.environment.known_hosts
            config.write_text(ssh_config(session.hosts, known))
            names = [host.name for host in session.hosts]
            status = _pytest(session.environment.name, inventory, names, config)
    if status == 5:
        raise Refused("there is no check in roles/*/checks")
    if status != 0:
        raise Failed(f"{session.environment.name}: the checks named above failed")


def ssh_config(hosts: tuple[Host, ...], known_hosts: tuple[str, ...]) -> str:
    """What OpenSSH needs to reach the hosts by the same rules as we do."""
    remote = [host for host in hosts if host.connection.kind == "ssh"]
    return "".join(everywhere(remote, lambda host: _section(host, known_hosts)).values())


def _section(host: Host, known_hosts: tuple[str, ...]) -> str:
    try:
        target = resolve(host, known_hosts)
    except SshConfigError as error:
        raise Refused(f"{host.name}: ssh configuration: {error}") from None
    lines = [
        f"Host {host.name}",
        f"  HostName {target.hostname}",
        f"  Port {target.port}",
        f"  User {target.user}",
        f"  UserKnownHostsFile {' '.join(target.known_hosts)}",
        "  StrictHostKeyChecking yes",
        "  BatchMode yes",
        f"  IdentitiesOnly {'yes' if target.identities_only else 'no'}",
        *(f"  IdentityFile {path}" for path in target.identity_files),
        *((f"  HostKeyAlias {target.key_alias}",) if target.key_alias else ()),
        *((f"  ProxyCommand {shlex.join(target.proxy)}",) if target.proxy else ()),
    ]
    return "\n".join(lines) + "\n"


def _pytest(environment: str, inventory: str, hosts: list[str], config: Path) -> int:
    checks = sorted(str(path) for path in HERE.glob("*/checks"))
    command = [
        "-m", "pytest", "-q", "-p", "fabfile.verification_plugin",
        "-p", "no:pytest11.testinfra", "--tb=short",
        "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(HERE.parent),
        "-o", "python_files=check_*.py", "-o", "python_functions=check_*", *checks,
    ]
    told = {
        "FABFLEET_VERIFY_HOSTS": ",".join(hosts),
        "FABFLEET_VERIFY_SSH_CONFIG": str(config),
        "FABFLEET_ENV": environment,
        "PYTHONPATH": str(HERE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if inventory:
        told["FABFLEET_INVENTORY"] = inventory
    return run_attached(command, told)
