"""``./fab``: when it makes .venv, when it leaves it alone, and what it says when it cannot.

uv, apt and the interpreter are stand-ins that write down how they were called: no test needs a
network. That the real ones do what is asked of them is shown by every clean clone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

FAB = Path(__file__).parents[1] / "fab"
BORROWED = (
    "cat", "chmod", "cmp", "cp", "env", "flock", "grep", "ln", "mkdir", "mktemp", "mv",
    "readlink", "rm", "sed", "sh", "sleep", "tr",
)
NEEDED = ("rsync", "ssh", "ssh-keygen", "git")

UV = """\
#!/bin/sh
echo "uv $*" >>"$CALLS"
[ "$1" != --version ] || exit 0
if [ "$2" = venv ]; then
    for venv in "$@"; do :; done
    mkdir -p "$venv/bin"
    cp "$TOOLS/python3" "$venv/bin/python"
elif [ "$3" = sync ]; then
    [ -z "${SYNC_FAILS:-}" ] || exit 1
    exec sleep "${SYNC_SECONDS:-0}"
else
    printf '#!/bin/sh\\n# fabfile.program\\necho "fab ran: $*"\\n' >"${5%/*}/fab"
    chmod +x "${5%/*}/fab"
fi
"""
PYTHON = """\
#!/bin/sh
echo "python $*" >>"$CALLS"
case $* in *version_info*) echo "${PYTHON_SAYS:-3.11 1 $0}" ;; esac
case $* in *"-m "*) exit 1 ;; esac
"""


@dataclass
class Checkout:
    """A folder with ``fab`` in it, and a machine of stand-ins around it."""

    folder: Path
    tools: Path
    calls_file: Path

    def tool(self, name: str, text: str = "#!/bin/sh\n") -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def without(self, *names: str) -> None:
        for name in names:
            (self.tools / name).unlink()

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            "PATH": str(self.tools), "CALLS": str(self.calls_file), "TOOLS": str(self.tools),
            **variables,
        }

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.folder / "fab", *words], env=self.environment(**variables), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            start_new_session=True,
        )

    def fab(self, *words: str, code: int = 0, **variables: str) -> str:
        """What was said on standard error; the `fab` inside ran exactly when ``code`` is 0."""
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=20)
        assert process.returncode == code, err
        assert out == (f"fab ran: {' '.join(words)}\n" if code == 0 else ""), err
        return err

    def calls(self) -> list[str]:
        """What ran since the last time of asking."""
        lines = self.calls_so_far()
        self.calls_file.unlink(missing_ok=True)
        return lines

    def calls_so_far(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def synced(self) -> list[str]:
        """The lock files that .venv was made to follow since the last time of asking."""
        return [Path(line.split()[-1]).name for line in self.calls() if " pip sync " in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder, tools = tmp_path / "a check out", tmp_path / "bin"
    folder.mkdir()
    tools.mkdir()
    shutil.copy(FAB, folder)
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        (folder / name).write_text(f"# {name}\n")
    for name in BORROWED:
        if path := shutil.which(name):
            (tools / name).symlink_to(path)
    checkout = Checkout(folder, tools, tmp_path / "calls")
    for name in NEEDED:
        checkout.tool(name)
    checkout.tool("ps", "#!/bin/sh\nexit 1\n")
    checkout.tool("uv", UV)
    checkout.tool("python3", PYTHON)
    checkout.tool("id", "#!/bin/sh\necho 1000\n")
    return checkout


MADE = "fab: making .venv with Python 3.11 (once)\n"
UPDATED = "fab: bringing .venv up to date with {}\n"
FAILED = "fab: could not make .venv; what went wrong stands above\n"


def test_the_first_start_makes_the_environment_and_hands_over(checkout: Checkout) -> None:
    assert checkout.fab("deploy", "--env=local") == MADE
    assert checkout.synced() == ["requirements.lock"]


def test_a_later_start_says_nothing_and_runs_neither_python_nor_uv(checkout: Checkout) -> None:
    checkout.fab("status")
    checkout.calls()
    assert checkout.fab("status", "a b") == ""
    assert checkout.calls() == []


def test_a_later_start_runs_two_programs_before_it_hands_over(checkout: Checkout) -> None:
    checkout.fab()
    for name in BORROWED:
        if name not in ("env", "sh", "cmp") and (checkout.tools / name).exists():
            checkout.without(name)
    cmp = shutil.which("cmp")
    checkout.without("cmp")
    checkout.tool("cmp", f'#!/bin/sh\necho cmp >>"$CALLS"\nexec {cmp} "$@"\n')
    checkout.calls()
    checkout.fab()
    assert checkout.calls() == ["cmp", "cmp"]


def test_it_is_found_through_links_and_from_its_own_folder(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "first").symlink_to(checkout.folder / "fab")
    (tmp_path / "second").symlink_to("first")
    environment = checkout.environment()
    for argv in (["./second"], ["sh", "second"], ["sh", "a check out/fab"]):
        subprocess.run(argv, env=environment, cwd=tmp_path, check=True, capture_output=True)
    assert checkout.synced() == ["requirements.lock"]


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_change_is_followed_in_place(checkout: Checkout, name: str) -> None:
    checkout.fab()
    (checkout.folder / name).write_text("# changed\n")
    kept = checkout.folder / ".venv" / "kept"
    kept.touch()
    assert checkout.fab() == UPDATED.format("requirements.lock")
    assert kept.exists()
    assert checkout.fab() == ""


def test_only_the_tests_need_the_tools_of_developers(checkout: Checkout) -> None:
    checkout.fab("deploy")
    assert checkout.fab("--echo", "test") == UPDATED.format("requirements-dev.lock")
    assert checkout.fab("test", "--soak") == ""
    assert checkout.fab("deploy", "test") == ""
    assert checkout.synced() == ["requirements.lock", "requirements-dev.lock"]


def test_the_tools_of_developers_stay_when_the_lock_changes(checkout: Checkout) -> None:
    checkout.fab("test")
    checkout.calls()
    (checkout.folder / "requirements.lock").write_text("# changed\n")
    checkout.fab("deploy")
    assert checkout.synced() == ["requirements-dev.lock"]


def test_an_environment_without_its_stamp_is_made_anew(checkout: Checkout) -> None:
    checkout.fab()
    shutil.rmtree(checkout.folder / ".venv" / ".ready")
    half = checkout.folder / ".venv" / "half"
    half.touch()
    assert checkout.fab() == MADE
    assert not half.exists()


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.fab()
    python = checkout.folder / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.10")
    assert checkout.fab() == MADE


def test_a_moved_checkout_is_noticed(checkout: Checkout, tmp_path: Path) -> None:
    checkout.fab()
    checkout.folder = checkout.folder.rename(tmp_path / "elsewhere")
    assert checkout.fab() == MADE
    assert checkout.fab() == ""


def test_another_interpreter_can_be_chosen(checkout: Checkout) -> None:
    checkout.fab()
    checkout.tool("python4", PYTHON)
    chosen = str(checkout.tools / "python4")
    assert checkout.fab(FABFLEET_PYTHON=chosen) == MADE
    assert checkout.fab(FABFLEET_PYTHON=chosen) == ""
    assert checkout.fab() == ""


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PYTHON_SAYS": "3.9 0 /usr/bin/python3.9"}, "python3 is 3.9."),
        (
            {"FABFLEET_PYTHON": "/nowhere/python"},
            "none was found (tried /nowhere/python).",
        ),
    ],
)
def test_a_python_that_is_too_old_or_missing_is_named(
    checkout: Checkout, variables: dict[str, str], said: str
) -> None:
    err = checkout.fab(code=2, **variables)
    assert err == (
        f"fab: Python 3.11 or newer is needed; {said}"
        " Install one, or name one: FABFLEET_PYTHON=/path/to/python3 ./fab\n"
    )
    assert not (checkout.folder / ".venv").exists()


def test_without_root_or_sudo_it_says_what_to_install(checkout: Checkout) -> None:
    checkout.tool("apt-get")
    checkout.without("ssh", "ssh-keygen", "rsync")
    assert checkout.fab(code=2) == (
        "fab: missing on this machine: rsync openssh-client."
        " As root: apt-get install rsync openssh-client\n"
    )


def test_it_does_not_ask_for_sudo_where_nobody_can_answer(checkout: Checkout) -> None:
    checkout.tool("apt-get")
    checkout.tool("sudo", '#!/bin/sh\necho sudo >>"$CALLS"\n')
    checkout.without("git")
    expected = "fab: missing on this machine: git. As root: apt-get install git\n"
    assert checkout.fab(code=2) == expected
    assert "sudo" not in checkout.calls()


@pytest.mark.parametrize(
    ("manager", "told"),
    [
        ("dnf", "dnf install rsync openssh-clients"),
        ("brew", "brew install rsync openssh"),
        (None, "rsync openssh-client (their names in Debian)"),
    ],
)
def test_other_systems_are_told_their_own_command(
    checkout: Checkout, manager: str | None, told: str
) -> None:
    if manager:
        checkout.tool(manager)
    checkout.without("ssh", "rsync")
    err = checkout.fab(code=2)
    assert err == f"fab: missing on this machine: rsync openssh-client. Install: {told}\n"


APT = """\
#!/bin/sh
echo "apt-get $*" >>"$CALLS"
case $* in
    *update*) touch "$TOOLS/lists" ;;
    *) [ -e "$TOOLS/lists" ] || { echo "E: no such package"; exit 100; }
       [ -z "${NO_SUCH_PACKAGE:-}" ] || { echo "E: no such package"; exit 100; }
       cp "$TOOLS/ssh" "$TOOLS/git" ;;
esac
"""


@pytest.fixture
def rooted(checkout: Checkout) -> Checkout:
    """A machine on which we are root, and which has no git."""
    checkout.tool("id", "#!/bin/sh\necho 0\n")
    checkout.tool("apt-get", APT)
    checkout.tool("touch", '#!/bin/sh\n: >"$1"\n')
    checkout.without("git")
    return checkout


def apt_verbs(checkout: Checkout) -> list[str]:
    lines = [line for line in checkout.calls() if line.startswith("apt-get")]
    return [word for line in lines for word in line.split() if word in ("install", "update")]


def test_root_installs_and_updates_the_lists_only_when_that_fails(rooted: Checkout) -> None:
    assert rooted.fab() == "fab: installing with apt: git\n" + MADE
    assert apt_verbs(rooted) == ["install", "update", "install"]
    rooted.without("git")
    assert rooted.fab() == "fab: installing with apt: git\n"
    assert apt_verbs(rooted) == ["install"]


def test_what_apt_says_is_shown_when_it_fails(rooted: Checkout) -> None:
    err = rooted.fab(code=2, NO_SUCH_PACKAGE="1")
    assert err == (
        "fab: installing with apt: git\nE: no such package\nfab: apt could not install: git\n"
    )


def test_debian_without_ensurepip_and_uv_gets_the_package_of_that_python(
    rooted: Checkout,
) -> None:
    rooted.tool("git")
    rooted.tool("python3", PYTHON + 'case $* in *ensurepip*) exit 1 ;; esac\n')
    rooted.without("uv")
    err = rooted.fab(code=2, NO_SUCH_PACKAGE="1")
    assert err.startswith("fab: installing with apt: python3.11-venv\n")


def test_a_sync_that_fails_leaves_nothing_that_counts_as_ready(checkout: Checkout) -> None:
    err = checkout.fab(code=2, SYNC_FAILS="1")
    assert err == MADE + "fab: uv could not do it; trying pip\n" + FAILED
    assert checkout.fab() == MADE


def test_two_starts_at_once_make_it_once(checkout: Checkout) -> None:
    _start_two(checkout)
    assert checkout.synced() == ["requirements.lock"]


def test_two_starts_at_once_make_it_once_without_flock(checkout: Checkout) -> None:
    if (checkout.tools / "flock").exists():
        checkout.without("flock")
    _start_two(checkout)
    assert checkout.synced() == ["requirements.lock"]
    assert not os.path.lexists(checkout.folder / ".venv.lock.link")


def _start_two(checkout: Checkout) -> None:
    starts = [checkout.start("status", SYNC_SECONDS="0.3") for _ in range(2)]
    for start in starts:
        out, err = start.communicate(timeout=20)
        assert (start.returncode, out) == (0, "fab ran: status\n"), err


def test_a_lock_whose_owner_is_dead_is_taken_over(checkout: Checkout) -> None:
    if (checkout.tools / "flock").exists():
        checkout.without("flock")
    dead = subprocess.Popen(["true"])
    dead.wait()
    (checkout.folder / ".venv.lock.link").symlink_to(f"pid:{dead.pid}")
    assert checkout.fab() == MADE


def test_an_interrupted_start_is_begun_anew_by_the_next(checkout: Checkout) -> None:
    # What starts us may have made us deaf to SIGINT, and programs inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    start = checkout.start(SYNC_SECONDS="30")
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 20
    while not any("pip sync" in line for line in checkout.calls_so_far()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)  # the stand-in is a shell, which can miss a signal while it starts a program
    os.killpg(start.pid, signal.SIGINT)
    out, err = start.communicate(timeout=20)
    assert (start.returncode, out) == (130, "")
    assert err == MADE + "fab: interrupted; the next start begins anew\n"
    assert checkout.fab() == MADE


def test_shellcheck_finds_nothing() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.defpath}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = [FAB, *(FAB.parent / ".ci").iterdir()]
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""
