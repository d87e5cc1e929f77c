"""What bad input gets on real hosts: a message that starts with where, an exit code, no traceback,
and nothing changed on any host."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.fleet import ROOT, Fleet, wait_for
from tests.sites import history

SECOND = "catalog.0006_prices_in_cents"
UNIT = "/etc/systemd/system/shop-wsgi.service"
SUDOERS = "/etc/sudoers.d/fabfleet-shop"
# Where staging had begun: the journal of the run, the lock's record, and folders that held the
# release for a while, or the launcher written anew, which have another time.
OF_A_RUN = (f"{ROOT}/.fabfleet/runs/", f"{ROOT}/.fabfleet/lock", f"{ROOT}/.fabfleet/busy")


@pytest.fixture(scope="module")
def deployed(three: Fleet) -> Fleet:
    """v2 everywhere, once for this file: what is tested here leaves it as it is."""
    three.reset()
    three.fab("deploy", "--ref=v2", check=0)
    return three


@pytest.fixture
def fleet(deployed: Fleet) -> Iterator[Fleet]:
    deployed.write_inventory()
    serving = deployed.serving()
    assert set(serving.values()) == {deployed.current("web1")}
    yield deployed
    deployed.write_inventory()
    (deployed.inventory / deployed.env / "known_hosts").unlink(missing_ok=True)


def digests(fleet: Fleet, staged: bool) -> dict[str, dict[str, str]]:
    """Every byte and attribute below the deploy root of each host."""
    found = fleet.everywhere(lambda host: fleet.lab.tree_digest(host, [ROOT]))
    if not staged:
        return found
    return {host: {path: _without_time(path, text) for path, text in tree.items()
                   if not f"{path}/".startswith(OF_A_RUN)} for host, tree in found.items()}


def _without_time(path: str, text: str) -> str:
    mode, owner, size, _, *rest = text.split(" ", 4)
    is_touched = mode.startswith("d") or path.endswith("/.fabfleet/launch.py")
    return f"{mode} {owner} {size} {rest}" if is_touched else text


@contextmanager
def unchanged(fleet: Fleet, staged: bool = False) -> Iterator[None]:
    before = digests(fleet, staged), fleet.serving(), fleet.migrations(), fleet.main_pids()
    yield
    after = digests(fleet, staged), fleet.serving(), fleet.migrations(), fleet.main_pids()
    for host, tree in before[0].items():
        assert after[0][host] == tree, host
    assert after[1:] == before[1:]


def refused(
    fleet: Fleet, code: int, message: str, *words: str, staged: bool = False, **more: Any
) -> None:
    """``fab WORDS`` says exactly this on standard error, and changes nothing on any host."""
    with unchanged(fleet, staged):
        done = fleet.fab(*words, **more)
    assert (done.stderr, done.returncode) == (message + "\n", code), done.stdout
    assert "Traceback" not in done.stdout


def ssh(options: str) -> str:
    return f"-F none -o GlobalKnownHostsFile=none -o IdentitiesOnly=yes {options}"


def new_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name,
                    "-f", str(path)], stdin=subprocess.DEVNULL, check=True)
    return path


def shown(fleet: Fleet, host: str) -> str:
    """The host key's fingerprint as the host itself tells it."""
    said = fleet.on(host, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    return "ssh-ed25519 " + said.split()[1]


# --- hosts that cannot be reached, or must not be trusted -----------------------------------------


def test_all_unreachable_hosts_are_listed(fleet: Fleet) -> None:
    second, third = fleet.address["web2"], fleet.address["web3"]
    fleet.write_inventory(
        ansible_port="{{ 2 if inventory_hostname == 'web3' else 22 }}",
        ansible_ssh_extra_args="-o ConnectTimeout=2",
    )
    with unchanged(fleet):
        fleet.lab.cut("web2")
        try:
            done = fleet.fab("deploy", "--ref=v7")
        finally:
            fleet.lab.heal("web2")
    assert (done.stderr, done.returncode) == (
        f"web2: unreachable: deploy@{second} port 22: no answer within 2 s\n"
        f"web3: unreachable: deploy@{third} port 2: Connection refused\n"
        "nothing was changed\n"
        f"to deploy to the others meanwhile: fab deploy --env={fleet.env} --ref=v7 "
        "--skip-unreachable\n", 69,
    )


def test_a_refused_login_names_the_user_and_the_keys(fleet: Fleet, tmp_path: Path) -> None:
    key, address = new_key(tmp_path / "other"), fleet.address
    fleet.write_inventory(ansible_ssh_private_key_file=str(key))
    refused(fleet, 3, "\n".join(
        f"{host}: refused: deploy@{address[host]} port 22: authentication refused; tried: {key}. "
        f"Check ansible_user, the key, and authorized_keys on the host" for host in fleet.web
    ) + "\nnothing was changed", "deploy", "--ref=v7")
    fleet.write_inventory(ansible_ssh_private_key_file=f"{key}.gone")
    done = fleet.fab("deploy", "--hosts=web1", check=3)
    assert done.stderr.startswith(
        f"web1: refused: deploy@{address['web1']} port 22: authentication refused; tried: no key "
        f"(not there: {key}.gone). Check"
    )


def test_an_unknown_host_key_is_refused_and_can_be_accepted(fleet: Fleet) -> None:
    fleet.write_inventory(ansible_ssh_common_args=ssh("-o UserKnownHostsFile=none"))
    refused(fleet, 3, "\n".join(
        f"{host}: refused: host key of {fleet.address[host]} is not known: it shows "
        f"{shown(fleet, host)}, and known_hosts has none for it. Compare it with the host's own "
        f"(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then accept it: "
        f"fab hosts.trust --env={fleet.env} --hosts={host}" for host in fleet.web
    ) + "\nnothing was changed", "deploy", "--ref=v7")
    done = fleet.fab("hosts.trust", f"--env={fleet.env}", "--hosts=web1", check=3)
    assert done.stdout == f"web1: {fleet.address['web1']} shows {shown(fleet, 'web1')}\n"
    assert done.stderr == (
        "web1: nobody can be asked here; compare the key, then add --yes\n")
    fleet.fab("hosts.trust", "--yes", check=0)
    fleet.fab("status", check=0)


def test_a_changed_host_key_is_refused_until_it_is_replaced(fleet: Fleet, tmp_path: Path) -> None:
    old = new_key(tmp_path / "old").with_suffix(".pub").read_text().split()
    address = fleet.address["web2"]
    team = fleet.inventory / fleet.env / "known_hosts"
    others = fleet.lab.known_hosts.read_text().splitlines()
    kept = [line for line in others if not line.startswith(f"{address},")]
    team.write_text("\n".join([*kept, f"{address} {old[0]} {old[1]}"]) + "\n")
    fleet.write_inventory(ansible_ssh_common_args=ssh("-o UserKnownHostsFile=none"))
    known = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "old.pub")], text=True,
                           capture_output=True, check=True).stdout.split()[1]
    changed = (
        f"host key of {address} HAS CHANGED: it shows {shown(fleet, 'web2')}, known is ssh-ed25519 "
        f"{known} ({team}). Either the host was set up anew or somebody is in between. If you know "
        f"why: fab hosts.trust --env={fleet.env} --hosts=web2 --replace"
    )
    refused(fleet, 3, f"web2: refused: {changed}\nnothing was changed", "deploy", "--ref=v7")
    refused(fleet, 3, f"web2: {changed}", "hosts.trust", "--hosts=web2", "--yes")
    fleet.fab("hosts.trust", "--hosts=web2", "--replace", "--yes", check=0)
    fleet.fab("deploy", "--ref=v2", check=0)


# --- hosts that lack something --------------------------------------------------------------------


@contextmanager
def without(fleet: Fleet, host: str, path: str, after: str = "true") -> Iterator[None]:
    """The host while one file of it has another name."""
    fleet.on(host, f"mv {path} {path}.away && {after}")
    try:
        yield
    finally:
        fleet.on(host, f"mv {path}.away {path} && {after}")


def test_rsync_is_missing(fleet: Fleet) -> None:
    with without(fleet, "web1", "/usr/bin/rsync"):
        refused(fleet, 3, "web1: rsync is not on this host; install it there: apt install rsync\n"
                "nothing was changed", "deploy", "--ref=v7")


def test_python_is_missing(fleet: Fleet) -> None:
    with unchanged(fleet), without(fleet, "web2", "/usr/bin/python3"):
        done = fleet.fab("deploy", "--ref=v7")
    assert (done.stderr, done.returncode) == (
        "web2: failed: python3 is not on this host; install it there (apt install python3), or set "
        "ansible_python_interpreter\nnothing was changed\n", 3)


def size_of(tag: str) -> tuple[int, int]:
    """(bytes, files) of a version of the sample."""
    tree = history.tree(tag)
    return sum(len(entry.data) for entry in tree.values()), len(tree)


def test_the_disk_is_too_full(fleet: Fleet) -> None:
    """Said before the first byte is sent, with the numbers."""
    size, files = size_of("v7")
    folder = "/srv/small"
    fleet.lab.limit_disk("web1", folder, 32 << 20)
    fleet.on("web1", f"install -d -o deploy -g shop {folder}/shop")
    fleet.lab.limit_disk("web2", folder, 256 << 20, inodes=200)
    fleet.on("web2", f"install -d -o deploy -g shop {folder}/shop")
    fleet.on("web3", f"install -d -o deploy -g shop {folder}/shop")
    fleet.write_inventory(app={"root": f"{folder}/shop"}, wsgi={"application": None})
    free = int(fleet.on("web1", f"stat -f -c %a*%S {folder} | bc 2>/dev/null || python3 -c "
                                f"\"import os; s = os.statvfs('{folder}'); "
                                f"print(s.f_bavail * s.f_frsize)\""))
    inodes = int(fleet.on("web2", f"stat -f -c %d {folder}"))
    before = [fleet.lab.tree_digest(host, [folder]) for host in fleet.web]
    refused(
        fleet, 3,
        f"web1: the disk of {folder}/shop is too full: {(size + (64 << 20)) / 1e6:.1f} MB are "
        f"needed ({size / 1e6:.1f} MB release, 67.1 MB spare), {free / 1e6:.1f} MB are free\n"
        f"web2: the disk of {folder}/shop has too few inodes: {files + 1000} are needed, {inodes} "
        "are free\nnothing was changed", "deploy", "--ref=v7",
    )
    assert [fleet.lab.tree_digest(host, [folder]) for host in fleet.web] == before


def test_the_deploy_root_is_not_writable(fleet: Fleet) -> None:
    with unchanged(fleet):
        fleet.on("web1", f"chown root {ROOT}")
        try:
            done = fleet.fab("deploy", "--ref=v7")
        finally:
            fleet.on("web1", f"chown deploy {ROOT}")
    assert (done.stderr, done.returncode) == (
        f"web1: {ROOT} is not writable for deploy; prepare the host once as root: fab hosts.setup "
        f"--env={fleet.env} --hosts=web1\nnothing was changed\n", 3)


def test_a_unit_is_missing_and_another_was_edited(fleet: Fleet) -> None:
    setup = f"fab hosts.setup --env={fleet.env} --hosts="
    with without(fleet, "web1", UNIT, "systemctl daemon-reload"):
        fleet.on("web2", f"echo '# mine' >> {UNIT} && systemctl daemon-reload")
        refused(
            fleet, 3, "web1: the unit shop-wsgi.service is not installed; prepare the host once as "
            f"root: {setup}web1\nweb2: {UNIT} is not what these settings make of it; somebody "
            f"changed it, or the settings changed. Write it anew: {setup}web2\nnothing was changed",
            "deploy", "--ref=v7",
        )
        fleet.fab("hosts.setup", "--hosts=web2", check=0)
    fleet.fab("hosts.check", check=0)


def test_sudo_does_not_let_the_service_be_asked(fleet: Fleet) -> None:
    """All rules are gone, so already the release's check cannot run as the service's user."""
    change(fleet)
    with without(fleet, "web3", SUDOERS):
        refused(
            fleet, 3, "web3: wsgi.check: sudo: a password is required\nweb3: sudo lacks the rules "
            "that a deploy needs; write them anew: fab hosts.setup "
            f"--env={fleet.env} --hosts=web3\n"
            "the release was refused; nothing was changed", "deploy", "--hosts=web3",
            staged=True,
        )


def change(fleet: Fleet) -> None:
    """v2 with one more variable, which makes another release: there is something to do."""
    path = fleet.inventory / fleet.env / "group_vars" / "all.yml"
    text = path.read_text().replace("ref: v1", "ref: v2")
    path.write_text(text.replace("    SECRET_KEY:", "    AGAIN: '1'\n    SECRET_KEY:"))


def test_sudo_does_not_let_systemctl_restart(fleet: Fleet) -> None:
    """The restart says what to do, and the host serves what it served."""
    change(fleet)
    before = fleet.current("web2")
    fleet.on("web2", f"cp -p {SUDOERS} /root/sudoers && sed -i /systemctl/d {SUDOERS}")
    try:
        with unchanged_service(fleet):
            done = fleet.fab("deploy", "--hosts=web2")
    finally:
        fleet.on("web2", f"cp -p /root/sudoers {SUDOERS}")
    new = fleet.release_id()
    assert (done.stderr, done.returncode) == (
        "web2: wsgi.restart: sudo: a password is required\n"
        "web2: put back on the release it had\n"
        f"web2: sudo lacks the rules that a deploy needs; write them anew: fab hosts.setup "
        f"--env={fleet.env} --hosts=web2\n"
        "where every host is now:\n"
        + "".join(f"  {host}  {before} (old); shop-wsgi.service active\n"
                  for host in ("web2", "web1"))
        + f"next: fab deploy --env={fleet.env} --hosts=web2\n", 1)
    assert new != before
    assert fleet.current("web2") == before
    fleet.on("web2", f"rm -rf {ROOT}/releases/{new} {ROOT}/static/{new}")


@contextmanager
def unchanged_service(fleet: Fleet) -> Iterator[None]:
    """Every host serves the same release before and after, and is on it."""
    before = fleet.currents(), fleet.serving()
    yield
    assert (fleet.currents(), fleet.serving()) == before


# --- releases that cannot work --------------------------------------------------------------------


def empty_index(folder: Path) -> str:
    (folder / "index").mkdir()
    return (folder / "index").as_uri()


def test_a_dependency_that_is_nowhere(fleet: Fleet, tmp_path: Path) -> None:
    fleet.commit("nowhere", {"requirements.txt": "a-package-that-is-nowhere==1.0\n"})
    fleet.write_inventory(python={"index": empty_index(tmp_path)})
    refused(fleet, 3, f"{fleet.site}: requirements.txt: no wheel of a-package-that-is-nowhere==1.0 "
            "can be had", "deploy", "--ref=nowhere")


def test_a_dependency_that_cannot_be_built(fleet: Fleet, tmp_path: Path) -> None:
    """It has no wheel, and its source needs what is not there."""
    source = tmp_path / "broken-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["a-builder-that-is-nowhere"]\n'
        '[project]\nname = "broken"\nversion = "1.0"\n')
    subprocess.run(["tar", "-C", str(tmp_path), "-czf", str(tmp_path / "broken-1.0.tar.gz"),
                    "broken-1.0"], check=True)
    url = (tmp_path / "broken-1.0.tar.gz").as_uri()
    fleet.commit("unbuilt", {"requirements.txt": f"broken @ {url}\n"})
    fleet.write_inventory(python={"index": empty_index(tmp_path)})
    with unchanged(fleet):
        done = fleet.fab("deploy", "--ref=unbuilt", check=3)
    assert done.stderr == (f"{fleet.site}: requirements.txt: no wheel of a-builder-that-is-nowhere "
                           "can be had\n")


def test_the_system_check_fails(fleet: Fleet) -> None:
    with unchanged(fleet, staged=True):
        done = fleet.fab("deploy", "--ref=v5")
    first, *_ = done.stderr.splitlines()
    assert first == ("web[1-3]: wsgi.check: manage.py check: SystemCheckError: System check "
                     "identified some issues:")
    assert "    ?: (catalog.E002) This release cannot work.\n" in done.stderr
    assert done.stderr.endswith("the release was refused; nothing was changed\n")
    assert done.returncode == 3


def test_the_application_cannot_be_imported(fleet: Fleet) -> None:
    with unchanged(fleet, staged=True):
        done = fleet.fab("deploy", "--ref=v3")
    first, *_ = done.stderr.splitlines()
    assert first == ("web[1-3]: wsgi.check: ModuleNotFoundError: No module named "
                     "'a_module_that_is_not_there'")
    assert "    config.wsgi:application cannot be imported:\n" in done.stderr
    assert done.stderr.endswith("the release was refused; nothing was changed\n")
    assert done.returncode == 3


def test_the_health_check_is_red(fleet: Fleet) -> None:
    """The first host shows it, with the log of that service, and the others are not touched."""
    fleet.write_inventory(wsgi={"health": {"deadline": 2}})
    old, pids = fleet.current("web1"), fleet.main_pids()
    with unchanged_service(fleet):
        done = fleet.fab("deploy", "--ref=v4")
    new = fleet.release_id("--ref=v4")
    text = re.sub(r"after [\d.]+ s", "after N s", done.stderr)
    first, log, *lines = text.splitlines()
    assert (first, log, done.returncode) == (
        "web1: wsgi.health: not healthy after N s: GET /healthz on 127.0.0.1:8000: status 503 "
        f'instead of 200: {{"release": "{new}", "host": "web1", "database": "ProgrammingError"}}',
        "  web1: the last lines of its log:", 1)
    *shown_log, recovered, _, one, two, three, again = lines
    assert "    ERROR django.request: Service Unavailable: /healthz" in re.sub(
        r" \(\d+ times\)", "", "\n".join(shown_log))
    assert (recovered, again) == ("web1: put back on the release it had",
                                  f"next: fab deploy --env={fleet.env} --ref=v4")
    assert [one, two, three] == [
        f"  {host}  {old} (old); shop-wsgi.service active" for host in fleet.web]
    assert {host: pid for host, pid in fleet.main_pids().items() if host != "web1"} == {
        host: pid for host, pid in pids.items() if host != "web1"}


def test_a_dirty_tree_and_the_way_out(fleet: Fleet, tmp_path: Path) -> None:
    site = history.build(tmp_path / "site")
    (site / "docs" / "new.txt").write_text("not committed\n")
    fleet.write_inventory(release={"repository": str(site), "ref": "HEAD"})
    refused(
        fleet, 3, f"{site}: the work tree has changes that commit "
        f"{history.commits(site)['v2'][:7]} does not hold:\n  ?? docs/new.txt\n"
        "Commit or stash them, or ship them as they are with --worktree", "deploy",
    )
    before = fleet.current("web1")
    fleet.fab("deploy", "--worktree", check=0)
    assert set(fleet.currents().values()) == {fleet.current("web1")} != {before}
    assert fleet.current("web1").startswith("worktree-")
    assert fleet.on("web3", f"cat {ROOT}/current/docs/new.txt") == "not committed\n"
    fleet.write_inventory()
    fleet.fab("rollback", check=0)
    assert set(fleet.currents().values()) == {before}


# --- filters and pending migrations ---------------------------------------------------------------


def test_the_migration_host_is_left_out_while_migrations_are_pending(fleet: Fleet) -> None:
    """Staging had begun on web2, so what was staged lies there; the others saw nothing of it."""
    whole = digests(fleet, staged=True)
    with unchanged_service(fleet):
        done = fleet.fab("deploy", "--ref=v7", "--hosts=web2")
    assert (done.stderr, done.returncode) == (
        "--hosts leaves out web1, the migration host, while migrations are pending: "
        f"{SECOND}. Include it, or deploy the whole fleet\n", 3)
    after = digests(fleet, staged=True)
    assert (after["web1"], after["web3"]) == (whole["web1"], whole["web3"])
    assert fleet.on("web1", "ls /tmp").count("fabfleet") == 0
    assert fleet.migrations()[-1] == "0005_note_stock"
    fleet.on("web2", f"rm -rf {ROOT}/releases/*-e07db01-* {ROOT}/static/*-e07db01-*")


def test_the_database_is_down_when_django_is_asked(fleet: Fleet) -> None:
    fleet.on("db1", "systemctl stop postgresql 'postgresql@*'")
    try:
        with unchanged_currents(fleet):
            done = fleet.fab("plan", "--ref=v7")
            deploy = fleet.fab("deploy", "--ref=v7")
    finally:
        fleet.on("db1", "systemctl start postgresql")
        wait_for("the database answers", lambda: fleet.answer("web1").get("database") == "ok")
        wait_for("the database answers", lambda: len(set(fleet.serving().values())) == 1)
    for ended in (done, deploy):
        assert (ended.stderr, ended.returncode) == (
            "web1: pending migrations cannot be read: OperationalError: connection failed: "
            f'connection to server at "{fleet.address["db1"]}", port 5432 failed: Connection '
            "refused\n\tIs the server running on that host and accepting TCP/IP connections?\n"
            "nothing that serves was changed\n", 69)


@contextmanager
def unchanged_currents(fleet: Fleet) -> Iterator[None]:
    before = fleet.currents()
    yield
    assert fleet.currents() == before


# --- somebody else, and going back ----------------------------------------------------------------


def test_somebody_else_holds_the_lock(fleet: Fleet, tmp_path: Path) -> None:
    gate, reached = tmp_path / "gate", tmp_path / "reached"
    wait = f"touch {reached}; while [ ! -e {gate} ]; do sleep 0.05; done"
    fleet.write_inventory(hooks={"before": {"finish": [{"run": wait}]}})
    first = fleet.start("deploy", "--ref=v2")
    try:
        wait_for("the first run holds the lock", reached.exists)
        second = fleet.fab("deploy", "--ref=v2")
        other = fleet.fab("unlock")
    finally:
        gate.touch()
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, out + err
    record = (r"run \d{8}-\d{6}-[0-9a-f]{6} by \S+@\S+ \(process "
              rf"{first.pid}\), since \d+ s, phase before-finish, that process is alive")
    assert re.fullmatch(
        rf"{fleet.env} is locked on web1: {record}\. Wait for it, or look: fab status "
        rf"--env={fleet.env}\n", second.stderr), second.stderr
    assert second.returncode == 75
    assert re.fullmatch(rf"{fleet.env}: a living run holds the lock, which only itself lets go: "
                        rf"{record}\n", other.stderr), other.stderr
    assert other.returncode == 75


def test_the_fleet_is_frozen(fleet: Fleet) -> None:
    fleet.fab("lock", "--reason=audit", check=0)
    try:
        with unchanged(fleet):
            ended = [fleet.fab("deploy", "--ref=v7"), fleet.fab("restart")]
    finally:
        fleet.fab("unlock", check=0)
    for each in ended:
        assert re.fullmatch(rf"{fleet.env} is frozen by \S+@\S+ \d+ s ago: audit\. Lift it: "
                            rf"fab unlock --env={fleet.env}\n", each.stderr), each.stderr
        assert each.returncode == 75


def test_going_back_to_what_is_not_everywhere(fleet: Fleet) -> None:
    refused(fleet, 3, "--to=v9: no host has this release; on all hosts there are: "
            f"{', '.join(fleet.on('web1', f'ls {ROOT}/releases').split())}",
            "rollback", "--to=v9")
    fleet.on("web2", f"cp -al {ROOT}/current/ {ROOT}/releases/half")
    try:
        refused(fleet, 3, "release half is on some hosts only: web2 have it, web1, web3 have not. "
                "Deploy its commit instead: "
                f"fab deploy --env={fleet.env} --ref=...", "rollback", "--to=half")
    finally:
        fleet.on("web2", f"rm -r {ROOT}/releases/half")


# --- no secret anywhere ---------------------------------------------------------------------------

VALUES = {"FROM_ENV": "hunter2-env-7Q!", "FROM_FILE": 'hunter2 "file" \\ $HOME', "FROM_COMMAND":
          "hunter2-command-7Q"}


def write_secrets(fleet: Fleet, folder: Path, **more: Any) -> dict[str, str]:
    (folder / "token").write_text(VALUES["FROM_FILE"] + "\n")
    (folder / "vault").write_text(VALUES["FROM_COMMAND"] + "\n")
    fleet.write_inventory(app={"secrets": {
        "FROM_ENV": {"env": "SHOP_TOKEN"},
        "FROM_FILE": {"file": str(folder / "token")},
        "FROM_COMMAND": {"command": f"cat {folder / 'vault'}"},
    }}, **more)
    return {"SHOP_TOKEN": VALUES["FROM_ENV"]}


def environment_of(fleet: Fleet, host: str) -> dict[str, str]:
    """What the kernel says the service's process was given."""
    text = fleet.on(host, f"cat /proc/{fleet.main_pid(host)}/environ")
    return dict(pair.split("=", 1) for pair in text.split("\0") if pair)


def everything_written(fleet: Fleet) -> str:
    """The controller's journals, and whatever the hosts keep, but for the one file made for it."""
    kept = [path.read_text() for path in fleet.state.rglob("*") if path.is_file()]
    look = (f"find {ROOT} /tmp /home/deploy /var/log -xdev -type f -not -path '*/venvs/*' "
            f"-not -path '*/tools/*' -not -path '*/wheelhouse/*' -not -name secrets.env "
            f"-exec cat {{}} + 2>/dev/null || true; journalctl -q")
    on_hosts = fleet.everywhere(lambda host: fleet.lab.run(host, ["sh", "-c", look]).stdout)
    return "\n".join([*kept, *on_hosts.values()])


def processes(fleet: Fleet) -> str:
    """Every command line on this machine; the hosts' processes are among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue  # it has just ended
    return "\n".join(found)


def test_a_secret_reaches_its_service_and_nothing_else(fleet: Fleet, tmp_path: Path) -> None:
    given = write_secrets(fleet, tmp_path)
    before = fleet.current("web1")
    plan = fleet.fab("plan", "--ref=v2", environment=given, check=0)
    as_json = fleet.fab("plan", "--ref=v2", "--json", environment=given, check=0)
    assert "<secret env:SHOP_TOKEN>" in plan.stdout
    assert "SHOP_TOKEN" in as_json.stdout
    change(fleet)
    with fleet.sampled(lambda: processes(fleet), every=0.02) as samples:
        done = fleet.fab("deploy", environment=given, check=0)
    assert len(samples) > 20
    assert any("rsync --server" in text for _, text in samples), "the sampling saw no host"
    for host in fleet.web:
        found = environment_of(fleet, host)
        assert {name: found.get(name) for name in VALUES} == VALUES
        mode = fleet.on(host, f"stat -c '%a %U:%G' {ROOT}/.fabfleet/secrets.env").strip()
        assert mode == "640 deploy:shop"
        read = fleet.lab.run(host, ["cat", f"{ROOT}/.fabfleet/secrets.env"], user="nobody",
                             check=False)
        assert read.returncode != 0
    written = everything_written(fleet)
    assert "app.secrets" in written
    assert "Listening at" in written
    told = [plan.stdout, plan.stderr, as_json.stdout, as_json.stderr, done.stdout, done.stderr,
            written, *(text for _, text in samples)]
    assert not [text for text in told if "hunter2" in text]
    fleet.write_inventory()
    fleet.fab("rollback", f"--to={before}", check=0)


def test_a_failing_step_does_not_tell_the_secret(fleet: Fleet, tmp_path: Path) -> None:
    """The secret cannot be written, and later a release that has it is not healthy."""
    given = write_secrets(fleet, tmp_path, wsgi={"health": {"deadline": 2}})
    fleet.on("web2", f"mkdir -p {ROOT}/.fabfleet/secrets.env.new/in-the-way")
    try:
        failed = fleet.fab("deploy", "--ref=v4", environment=given, check=1)
    finally:
        fleet.on("web2", f"rm -r {ROOT}/.fabfleet/secrets.env.new")
    assert failed.stderr.startswith("web2: app.secrets: IsADirectoryError: ")
    with unchanged_service(fleet):
        sick = fleet.fab("deploy", "--ref=v4", environment=given, check=1)
    told = [failed.stdout, failed.stderr, sick.stdout, sick.stderr, everything_written(fleet)]
    assert not [text for text in told if "hunter2" in text]


def test_a_missing_secret_is_named_before_anything_is_touched(fleet: Fleet, tmp_path: Path) -> None:
    write_secrets(fleet, tmp_path)
    where = f"{fleet.inventory}/{fleet.env}/group_vars/all.yml: app.secrets.FROM_ENV"
    refused(fleet, 2, f"{where}: secret env:SHOP_TOKEN: this environment variable is not set here; "
            "export it first", "deploy", "--ref=v7")
