"""What has to be done once before a host can be deployed to."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

from fabfile.display.lines import Lines
from fabfile.engine.fleet import FleetTransport, everywhere
from fabfile.engine.outcome import Outcome
from fabfile.engine.transport import Call
from fabfile.environment import Environment
from fabfile.errors import Failed, Refused, UsageError
from fabfile.session import Session, confirm, connected
from inventories.model import Host
from roles.app import AppSettings
from roles.backup import BackupSettings
from roles.balancer import BalancerSettings, sudo_rules
from roles.command import as_root, command
from roles.maintenance import seeds
from roles.onhost import ship
from roles.registry import roles
from roles.role import HostFacts, Release, Setup, Target
from roles.templates import render

PACKAGES = ("rsync", "python3", "sudo", "util-linux", "coreutils", "ca-certificates")
BALANCER_PACKAGES = ("python3", "sudo")


def _deploy_user(host: Host) -> str:
    deploy = host.connection.user
    if not deploy:
        raise UsageError(f"{host.where('ansible_user')}: missing; name the ordinary user who "
                         f"deploys, for example deploy")
    if deploy == "root":
        raise UsageError(f"{host.where('ansible_user')}: root; name an ordinary user who deploys, "
                         f"for example deploy; it is created")
    return deploy


def arguments(environment: Environment, host: Host) -> dict[str, object]:
    """What ``roles/onhost/setup.py`` is told. Raises :class:`UsageError`."""
    if host not in environment.hosts:
        return _of_balancer(environment, host)
    deploy = _deploy_user(host)
    app = environment.of(AppSettings, "app", host)
    wanted = setups(environment, host)
    files = {path: text for each in wanted for path, text in each.files.items()}
    rules = render("app/templates/sudoers.j2", app=app, deploy=deploy,
                   rules=[rule for each in wanted for rule in each.rules])
    return {
        "root": app.folder,
        "deploy": deploy,
        "service": app.user,
        "packages": list(PACKAGES),
        "programs": {path: text for each in wanted for path, text in each.programs.items()},
        "units": {path: text for path, text in files.items() if text},
        "gone": [path for path, text in files.items() if not text],
        "sudoers": [_sudoers(app), rules + _rules(environment, host, deploy)],
        "private": _private_folders(environment, host),
        "sockets": _sockets(environment, host),
        "page": _page(environment, host),
    }


def _of_balancer(environment: Environment, host: Host) -> dict[str, object]:
    """A host that gets no code: the user who deploys, and what it may tell the balancer."""
    deploy, app = _deploy_user(host), environment.app
    head = (f"# Written by `fab hosts.setup`: what {deploy} may do for {app.name}'s balancer, and "
            f"nothing more.\n")
    return {
        "root": "",
        "deploy": deploy,
        "service": None,
        "packages": list(BALANCER_PACKAGES),
        "programs": {},
        "units": {},
        "gone": [],
        "sudoers": [_sudoers(app), head + _rules(environment, host, deploy)],
        "private": [],
        "sockets": _sockets(environment, host),
        "page": _page(environment, host),
    }


def _sudoers(app: AppSettings) -> str:
    return f"/etc/sudoers.d/fabfleet-{app.name}"


def balancer_hosts(environment: Environment) -> list[Host]:
    """The hosts of all balancers, and of whatever shows the page of a maintenance, that get no code
    themselves."""
    found = {each.name: each for host in environment.hosts for each in environment.balancers(host)}
    found |= {each.name: each for each in environment.site.hosts} if environment.site else {}
    return [each for each in found.values() if each not in environment.hosts]


def _balancing(environment: Environment, host: Host) -> list[BalancerSettings]:
    """How this host is told to take servers out, by each code host that it balances."""
    found: list[BalancerSettings] = []
    for each in environment.hosts:
        settings = environment.of(BalancerSettings, "balancer", each)
        if host in environment.balancers(each) and settings not in found:
            found.append(settings)
    return found


def _rules(environment: Environment, host: Host, deploy: str) -> str:
    rules = (sudo_rules(each, deploy) for each in _balancing(environment, host))
    return "".join(dict.fromkeys(rules))


def _sockets(environment: Environment, host: Host) -> list[str]:
    found = [each.haproxy.socket for each in _balancing(environment, host)
             if each.driver == "haproxy"]
    site = environment.site
    if site and host in site.hosts and site.settings.driver == "haproxy":
        found.append(site.settings.socket)
    return list(dict.fromkeys(found))


def _page(environment: Environment, host: Host) -> dict[str, object] | None:
    """Where the page of a maintenance lies, and what the server has to find there at its start."""
    site = environment.site
    if site is None or host not in site.hosts:
        return None
    return {"folder": site.folder, "files": seeds(site.settings.driver)}


def _private_folders(environment: Environment, host: Host) -> list[str]:
    """A folder for backups that the service could not make by itself, as shared/backups."""
    folder = environment.of(BackupSettings, "backup", host).folder
    return [folder] if folder and host == environment.migration_host else []


def setups(environment: Environment, host: Host) -> list[Setup]:
    """What each role needs on the host."""
    nothing = Release("", "", "", "", 0, 0)
    target = Target(host, environment.paths(host), environment.settings[host.name],
                    HostFacts(host.name), nothing)
    return [role.setup(target) for role in roles()]


def prepare_hosts(
    env: str, inventory: str, hosts: str | None, user: str, dry_run: bool, yes: bool
) -> None:
    """``fab hosts.setup``. All hosts at once; every failure is shown."""
    with connected(env, inventory, hosts) as session:
        hosts_to_prepare = _with_balancers(session)
        remote = [host for host in hosts_to_prepare if host.connection.kind == "ssh"]
        for host in hosts_to_prepare:
            if host not in remote:
                session.lines.write(f"{host.name}: local, needs no setup")
        told = {host.name: arguments(session.environment, host) for host in remote}
        if dry_run:
            _show(session.lines, told)
            return
        confirm(session.environment, yes)
        as_admin = [_as(host, user) for host in remote]
        outcomes = everywhere(
            as_admin, lambda host: _setup(session.transport, host, told[host.name])
        )
    failed = []
    for name, outcome in outcomes.items():
        if outcome:
            changed = json.loads(outcome.stdout.splitlines()[-1])["changed"]
            said = "; ".join(changed) if changed else "nothing to change"
            session.lines.write(f"{name}: ready: {said}")
        else:
            failed.append(f"{name}: {outcome.kind.value}: {outcome.reason}")
    if failed:
        raise Failed("\n".join(failed))


def _with_balancers(session: Session) -> list[Host]:
    """The chosen hosts; where none were chosen, the hosts of balancers too."""
    return [*session.hosts, *([] if session.filtered else balancer_hosts(session.environment))]


def _as(host: Host, user: str) -> Host:
    return replace(host, variables={**host.variables, "ansible_user": user})


def _setup(transport: FleetTransport, host: Host, told: dict[str, object]) -> Outcome:
    python = command(host.connection.python or "python3", "-I")
    line = ship.line(python)
    if host.connection.user != "root":
        line = as_root(line)
    return transport.run(host, Call(line.line, ship.package("setup", told, {}), timeout=900))


def _show(lines: Lines, told: dict[str, dict[str, object]]) -> None:
    for name, each in told.items():
        units, sudoers, private = each["units"], each["sudoers"], each["private"]
        assert isinstance(units, dict) and isinstance(sudoers, list) and isinstance(private, list)
        programs = cast(dict[str, str], each["programs"])
        folders = ", ".join([str(each["root"]), *private])
        lines.write(f"{name}: user {each['deploy']}, service {each['service']}, {folders}"
                    if each["root"] else f"{name}: user {each['deploy']}, for the balancer")
        for socket in cast(list[str], each["sockets"]):
            lines.write(f"--- {each['deploy']} joins the group of {socket}")
        for path, text in [*programs.items(), *units.items(), sudoers]:
            lines.write(f"--- {path}")
            lines.write(text)


def trust_hosts(
    env: str, inventory: str, hosts: str | None, replacing: bool, yes: bool
) -> None:
    """``fab hosts.trust``: show each host's key, then write it to the team's known_hosts."""
    from fabfile.engine import ssh
    from fabfile.engine.outcome import Kind

    with connected(env, inventory, hosts) as session:
        file = Path(session.environment.known_hosts[0])
        for host in _with_balancers(session):
            if host.connection.kind != "ssh":
                continue
            try:
                target, key = ssh.scan(
                    host, session.environment.known_hosts, session.environment.name
                )
            except ssh.CannotConnect as error:
                raise Failed(f"{host.name}: {error}") from None
            known = ssh.known_keys(target.host_key_name, target.known_hosts)
            try:
                ssh.check_host_key(target, key, known)
                session.lines.write(f"{host.name}: already known: {ssh.fingerprint(key)}")
                continue
            except ssh.CannotConnect as error:
                assert error.kind is Kind.REFUSED
                if known and not replacing:
                    raise Refused(f"{host.name}: {error}") from None
            session.lines.write(f"{host.name}: {target.host_key_name} shows {ssh.fingerprint(key)}")
            if not yes and not _asked(host.name):
                raise Refused(f"{host.name}: its key was not accepted")
            _write(file, target.host_key_name, f"{key.get_name()} {key.get_base64()}")
            foreign = [each.file for each in known if each.file != str(file)]
            if foreign:
                session.lines.note(f"{foreign[0]} still has the old key: remove it there with "
                                   f"ssh-keygen -R {target.host_key_name} -f {foreign[0]}")
            session.lines.write(f"{host.name}: written to {file}")


def _asked(name: str) -> bool:
    if not sys.stdin.isatty():
        raise Refused(f"{name}: nobody can be asked here; compare the key, then add --yes")
    return input("Is this the host's own key? [y/N] ").strip().lower() in ("y", "yes")


def _write(file: Path, name: str, key: str) -> None:
    """One line a host and kind of key; an older line for the same is replaced."""
    old = file.read_text().splitlines() if file.is_file() else []
    kind = key.split()[0]
    kept = [line for line in old if line.split()[:2] != [name, kind]]
    new = file.with_suffix(".new")
    new.write_text("\n".join([*kept, f"{name} {key}"]) + "\n")
    new.rename(file)
