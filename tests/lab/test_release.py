"""What a deploy leaves on the hosts, looked at by means of our own."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.fleet import ROOT, Fleet, wait_for

pytestmark = pytest.mark.timeout(300)  # one deploy, or ten hosts, on a busy machine

# Runs on the host; knows nothing of manifests.
LISTING = r"""
import hashlib, json, os, stat, sys
top, found = sys.argv[1], {}
for parent, folders, files in os.walk(top):
    for name in folders + files:
        path = os.path.join(parent, name)
        status, content = os.lstat(path), ""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
        entry = [stat.filemode(status.st_mode), content, status.st_ino, status.st_mtime_ns]
        found[os.path.relpath(path, top)] = entry
print(json.dumps(found))
"""
TAMPERED = "docs/orders.csv"  # v2 does not change it


@dataclass(frozen=True)
class Entry:
    """``mode`` as in ls -l; ``content`` is a file's SHA-256 or where a link points to."""

    mode: str
    content: str
    inode: int = 0
    mtime: int = 0

    @property
    def git(self) -> Entry:
        """Only what git knows."""
        return Entry(self.mode, self.content)


Tree = dict[str, Entry]


def on_host(fleet: Fleet, host: str, release: str) -> Tree:
    words = ["python3", "-I", "-c", LISTING, f"{ROOT}/releases/{release}"]
    found = json.loads(fleet.lab.run(host, words).stdout)
    return {path: Entry(*values) for path, values in found.items()}


def in_git(repository: Path, ref: str) -> Tree:
    """The ref's files and links, and the folders that they need."""
    modes = {"100644": "-rw-r--r--", "100755": "-rwxr-xr-x", "120000": "lrwxrwxrwx"}
    found: Tree = {}
    for line in _git(repository, "ls-tree", "-r", "-z", ref).split(b"\0")[:-1]:
        meta, _, name = line.partition(b"\t")
        mode, _, blob = meta.decode().split()
        data = _blob(repository, blob)
        content = data.decode() if mode == "120000" else hashlib.sha256(data).hexdigest()
        found[name.decode()] = Entry(modes[mode], content)
        for parent in list(Path(name.decode()).parents)[:-1]:
            found[str(parent)] = Entry("drwxr-xr-x", "")
    return found


def _blob(repository: Path, blob: str) -> bytes:
    answer = _git(repository, "cat-file", "--batch", stdin=f"{blob}\n".encode())
    head, _, rest = answer.partition(b"\n")
    return rest[: int(head.split()[2])]


def _git(repository: Path, *words: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["git", *words], cwd=repository, input=stdin, capture_output=True,
                          check=True)
    return done.stdout


def git_only(tree: Tree) -> Tree:
    return {path: entry.git for path, entry in tree.items()}


@dataclass(frozen=True)
class Story:
    """v1, then v2 over it; each tree by host. web1 had an interrupted upload, and web2's v1 was
    tampered with in between."""

    fleet: Fleet
    v1: str
    v2: str
    before: dict[str, Tree]  # v1 when v2 began
    kept: dict[str, Tree]  # v1 when v2 was done
    after: dict[str, Tree]  # v2
    venvs: tuple[dict[str, str], dict[str, str]]  # name, inode and time, with v1 and with v2

    @property
    def untampered(self) -> list[str]:
        return [host for host in self.fleet.web if host != "web2"]


def venvs(fleet: Fleet) -> dict[str, str]:
    return {host: fleet.on(host, f"cd {ROOT}/venvs && stat -c '%n %i %Y %Z' -- * .[!.]* 2>/dev/null"
                                 f" || true") for host in fleet.web}


@pytest.fixture(scope="module")
def story(three: Fleet) -> Story:
    fleet = three
    fleet.reset()
    for host in fleet.web:
        fleet.on(host, f"rm -rf {ROOT}/venvs {ROOT}/.fabfleet/tools")
    fleet.fab("deploy", "--ref=v1", check=0)
    v1 = fleet.current("web1")
    v2 = fleet.release_id("--ref=v2")
    interrupt_an_upload(fleet, "web1", v2)
    tamper(fleet, "web2", f"{ROOT}/releases/{v1}/{TAMPERED}")
    before = {host: on_host(fleet, host, v1) for host in fleet.web}
    venvs_before = venvs(fleet)
    fleet.fab("deploy", "--ref=v2", check=0)
    return Story(
        fleet, v1, v2, before,
        kept={host: on_host(fleet, host, v1) for host in fleet.web},
        after={host: on_host(fleet, host, v2) for host in fleet.web},
        venvs=(venvs_before, venvs(fleet)),
    )


def interrupt_an_upload(fleet: Fleet, host: str, release: str) -> None:
    """What an upload that was cut off may leave: files of another time, and a folder where a file
    belongs, a file where a folder belongs, a link where either does."""
    fleet.on(host, f"""
        mkdir {ROOT}/releases/.staging-{release} && cd {ROOT}/releases/.staging-{release}
        mkdir -p manage.py/inside empty/empty catalog/__pycache__ bin
        echo junk >manage.py/inside/junk; echo junk >static; echo junk >.manage.py.Ab12Cd
        echo junk >catalog/promotions.py; echo junk >catalog/__pycache__/views.cpython-311.pyc
        ln -s /etc/passwd catalog/views.py; ln -s /tmp config; echo junk >docs
        chown -Rh deploy: .
    """)


def tamper(fleet: Fleet, host: str, path: str) -> None:
    """Another content of the same size and time."""
    fleet.on(host, f"touch -r {path} /run/time && printf X | dd of={path} bs=1 conv=notrunc "
                   f"status=none && touch -r /run/time {path}")


# --- one release after the other ---------------------------------------------------------------


def test_the_trees_are_what_git_says(story: Story) -> None:
    v1, v2 = in_git(story.fleet.site, "v1"), in_git(story.fleet.site, "v2")
    for host in story.untampered:
        assert git_only(story.before[host]) == v1, host
    for host in story.fleet.web:
        assert git_only(story.after[host]) == v2, host


def test_the_interrupted_upload_is_gone(story: Story) -> None:
    listed = story.fleet.on("web1", f"ls -A {ROOT}/releases").split()
    assert sorted(listed) == sorted([story.v1, story.v2])


def test_nothing_of_the_old_release_is_left_in_the_new(story: Story) -> None:
    """The tags of the sample hold what deployments get wrong; here by name."""
    gone = ("catalog/promotions.py", "catalog/pricing", "catalog/pricing/money.py",
            "templates/base.html", "static/shop/banner.svg", "docs/shelves/left.txt")
    for host in story.fleet.web:
        old, new = story.before[host], story.after[host]
        assert set(gone) <= set(old), host
        assert not set(gone) & set(new), host
        assert not [path for path in new if "__pycache__" in path], host
        assert old["docs/shelves"].mode[0] == "d", host
        assert new["docs/shelves"].mode[0] == "-", host
        assert old["docs/changes"].mode[0] == "-", host
        assert new["docs/changes"].mode[0] == "d", host
        assert old["catalog/hours.py"].content != new["catalog/hours.py"].content, host


def test_unchanged_files_are_shared_and_changed_ones_are_not(story: Story) -> None:
    v1, v2 = in_git(story.fleet.site, "v1"), in_git(story.fleet.site, "v2")
    files = [path for path, entry in v2.items() if entry.mode[0] == "-" and path in v1]
    same = {path for path in files if v1[path] == v2[path]}
    other = set(files) - same
    assert {"bin/backup", "catalog/hours.py"} <= other, "the sample lost its hard cases"
    for host in story.fleet.web:
        old, new = story.kept[host], story.after[host]
        shared = {path for path in files if old[path].inode == new[path].inode}
        assert shared == same - ({TAMPERED} if host == "web2" else set()), host


def test_the_old_release_is_untouched(story: Story) -> None:
    for host in story.fleet.web:
        assert story.kept[host] == story.before[host], host


def test_a_tampered_file_stays_where_it_is(story: Story) -> None:
    """It has the size and the time of the right one, so only its content tells."""
    right = in_git(story.fleet.site, "v1")[TAMPERED].content
    assert story.before["web2"][TAMPERED].content != right, "it was not tampered with"
    assert story.after["web2"][TAMPERED].content == right


def test_the_same_lock_keeps_its_environment(story: Story) -> None:
    before, after = story.venvs
    assert before == after
    assert all(len(listed.splitlines()) == 1 for listed in before.values()), before


def test_hosts_need_no_internet(story: Story) -> None:
    for host in story.fleet.web:
        assert story.fleet.on(host, "ip -4 route show default; ip -6 route show default") == ""
        venv = story.fleet.on(host, f"ls -d {ROOT}/venvs/*").strip()
        version = story.fleet.on(host, f"{venv}/bin/python -m django --version").strip()
        assert f"django=={version} " in (story.fleet.site / "requirements.txt").read_text()


def test_the_service_cannot_write_what_it_runs(story: Story) -> None:
    release, venv = f"{ROOT}/releases/{story.v2}", story.fleet.on("web1", f"ls -d {ROOT}/venvs/*")
    for line in (
        f"touch {release}/new", f"echo >>{release}/manage.py", f"mkdir {release}/catalog/cache",
        f"rm {release}/manage.py", f"chmod 777 {release}", f"ln -sfn /tmp {ROOT}/current",
        f"echo >>{ROOT}/.fabfleet/launch.py", f"touch {venv.strip()}/new",
        f"mv {release} {release}-x",
    ):
        done = story.fleet.lab.run("web1", ["sh", "-c", line], user="shop", check=False)
        assert done.returncode != 0, line
    done = story.fleet.lab.run("web1", ["touch", f"{ROOT}/shared/may"], user="shop", check=False)
    assert done.returncode == 0, "the user cannot even write where it may"


def test_the_same_deploy_again_repeats_nothing(story: Story) -> None:
    fleet = story.fleet
    pids, answers, before = fleet.main_pids(), fleet.serving(), venvs(fleet)
    assert all(pids.values())
    done = fleet.fab("deploy", "--ref=v2", check=0)
    assert fleet.main_pids() == pids
    assert fleet.serving() == answers == dict.fromkeys(fleet.web, story.v2)
    assert venvs(fleet) == before
    steps = {event["step"] for event in fleet.journal() if event["event"] == "started"}
    assert steps <= {"wsgi.health", "release.finish"}, done.stdout
    assert "already served" in done.stdout


# --- back ----------------------------------------------------------------------------------------


def test_rollback_goes_back_and_not_forth(story: Story) -> None:
    fleet, migrated = story.fleet, story.fleet.migrations()
    fleet.fab("rollback", check=0)
    everywhere_on(fleet, story.v1)
    again = fleet.fab("rollback", check=3)
    assert "no earlier good release" in again.stderr
    everywhere_on(fleet, story.v1)
    fleet.fab("rollback", f"--to={story.v2}", check=0)
    everywhere_on(fleet, story.v2)
    assert fleet.migrations() == migrated
    unknown = fleet.fab("rollback", "--to=nothing", check=3)
    assert story.v1 in unknown.stderr
    rows = json.loads(fleet.fab("releases", "--json", check=0).stdout)
    commits = {ref: _git(fleet.site, "rev-parse", ref).decode().strip() for ref in ("v1", "v2")}
    assert [(row["release"], row["ref"], row["commit"], row["current"], row["hosts"], row["at"] > 0)
            for row in rows] == [
        (story.v2, "v2", commits["v2"], fleet.web, fleet.web, True),
        (story.v1, "v1", commits["v1"], [], fleet.web, True),
    ]


def everywhere_on(fleet: Fleet, release: str) -> None:
    assert fleet.currents() == dict.fromkeys(fleet.web, release)
    assert fleet.serving() == dict.fromkeys(fleet.web, release)


# --- what stays ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Left:
    """What one host has."""

    releases: set[str]
    static: set[str]
    known: set[str]
    venvs: int


def left(fleet: Fleet, host: str) -> Left:
    def names(folder: str) -> set[str]:
        return set(fleet.on(host, f"ls -A {ROOT}/{folder}").split())

    return Left(names("releases"), names("static"), names(".fabfleet/releases"),
                len(names("venvs")))


def only(releases: set[str], environments: int) -> Left:
    return Left(releases, releases, releases, environments)


def test_pruning_keeps_what_is_needed(fleet: Fleet) -> None:
    """Two good releases stay; so does one that a process runs, for as long as it does."""
    settings = {"release": {"keep": 2}, "wsgi": {"health": {"deadline": 6}}}
    fleet.write_inventory(**settings)
    ids = []
    for ref in ("v1", "v2"):
        fleet.fab("deploy", f"--ref={ref}", check=0)
        ids.append(fleet.current("web1"))
    v1, v2 = ids
    one = only({v1, v2}, 1)
    assert {host: left(fleet, host) for host in fleet.web} == dict.fromkeys(fleet.web, one)

    with running(fleet, "web1", v1):
        fleet.fab("deploy", "--ref=v4", check=1)
        bad = {name for name in left(fleet, "web1").releases if name not in ids}
        assert len(bad) == 1, "the failed release should lie there now"
        fleet.fab("deploy", "--ref=v6", check=0)
        v6 = fleet.current("web1")
        # The failed one is not counted, so v2 is still one of the two good ones.
        assert left(fleet, "web1") == only({v1, v2, v6}, 2)
        assert left(fleet, "web2") == left(fleet, "web3") == only({v2, v6}, 2)

        fleet.write_inventory(release={"keep": 2}, wsgi={"workers": 1})
        fleet.fab("deploy", "--ref=v6", check=0)
        other = fleet.current("web1")
        assert other != v6, "other settings should make another release"
        # v1's environment stays with it.
        assert left(fleet, "web1") == only({v1, v6, other}, 2)
        assert left(fleet, "web2") == left(fleet, "web3") == only({v6, other}, 1)
    fleet.fab("deploy", "--ref=v6", check=0)
    assert left(fleet, "web1") == only({v6, other}, 1)
    everywhere_on(fleet, other)


@contextmanager
def running(fleet: Fleet, host: str, release: str) -> Iterator[None]:
    """A process of a release, as somebody's long report would be."""
    fleet.on(host, f"systemd-run -q --unit=report --uid=shop /usr/bin/python3 -I "
                   f"{ROOT}/.fabfleet/launch.py --release {release} -- sleep 600")
    try:
        wait_for("the process of the old release", lambda: "sleep" in fleet.on(
            host, "ps -o comm= -p $(systemctl show -p MainPID --value report)", check=False))
        yield
    finally:
        fleet.on(host, "systemctl stop report")
