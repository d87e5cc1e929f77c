"""Commands of local hosts: real processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from fabfile.engine import transport
from fabfile.engine.local import LocalTransport
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.transport import Call, ConnectionBroken, Stream, Sync
from inventories.model import Host
from tests.fabfile.engine.test_run import is_gone

HOST = Host("web1", ("web",), {"ansible_connection": "local"}, {}, "hosts.yml", {})


def run(line: str, stdin: bytes = b"", timeout: float = 20) -> Outcome:
    return LocalTransport().run(HOST, Call(line, stdin, timeout))


def test_what_came_of_it() -> None:
    outcome = run("echo out; echo größe >&2; exit 3")
    assert (outcome.host, outcome.kind, outcome.exit) == ("web1", Kind.FAILED, 3)
    assert (outcome.stdout, outcome.stderr) == ("out\n", "größe\n")
    assert outcome.seconds > 0
    assert run("true")


@pytest.mark.parametrize(("line", "status"), [
    ("exit 7", 7), ("no-such-program-at-all", 127), ("kill -TERM $$", 128 + 15),
    ("kill -KILL $$", 128 + 9),
])
def test_exit_codes(line: str, status: int) -> None:
    outcome = run(line)
    assert (outcome.kind, outcome.exit) == (Kind.FAILED, status)


def test_bytes_that_are_no_text() -> None:
    assert run(r"printf '\377a'").stdout == "\ufffda"


def test_standard_input() -> None:
    everything = bytes(range(256)) * 4096
    assert run("wc -c", everything).stdout.strip() == str(len(everything))
    assert run("cat", b"a\nb").stdout == "a\nb"


def test_a_command_may_leave_its_input_unread() -> None:
    assert run("true", b"x" * 10_000_000)
    assert run("exec 0<&-; exit 4", b"x" * 10_000_000).exit == 4


def test_much_output_on_both_sides_blocks_nothing() -> None:
    outcome = run("yes out | head -c 1000000; yes err | head -c 1000000 >&2")
    assert (len(outcome.stdout), len(outcome.stderr)) == (1000000, 1000000)


def test_a_small_environment_as_sshd_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "evil")
    monkeypatch.setenv("LANG", "C.UTF-8")
    names = {line.partition("=")[0] for line in run("env").stdout.splitlines()}
    assert names - {"_", "SHLVL", "OLDPWD"} <= {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "PWD"
    }
    assert run("pwd").stdout == f"{Path.home()}\n"
    assert run("echo $PATH").stdout.startswith(f"{Path(sys.executable).parent}:")


def test_output_is_told_as_it_comes(tmp_path: Path) -> None:
    heard: list[str] = []
    (tmp_path / "go").unlink(missing_ok=True)

    def tell(text: str) -> None:
        heard.append(text)
        (tmp_path / "go").touch()

    line = f"echo first; while ! test -e {tmp_path}/go; do sleep 0.01; done; echo second"
    assert LocalTransport().run(HOST, Call(line, b"", 10, tell)).stdout == "first\nsecond\n"
    assert heard == ["first\n", "second\n"]


def test_errors_are_told_apart_from_output() -> None:
    out: list[str] = []
    err: list[str] = []
    call = Call("echo out; echo err >&2", tell=out.append, tell_error=err.append)
    assert LocalTransport().run(HOST, call).stderr == "err\n"
    assert (out, err) == (["out\n"], ["err\n"])


def test_a_letter_that_comes_in_two_pieces_is_told_whole() -> None:
    heard: list[str] = []
    line = r"printf 'gr\303'; sleep 0.1; printf '\266\303\237e'"
    LocalTransport().run(HOST, Call(line, b"", 10, heard.append))
    assert "".join(heard) == "größe"


def test_when_time_is_up_all_that_was_started_ends(tmp_path: Path) -> None:
    started = time.monotonic()
    outcome = run(f"sleep 60 & echo $! >{tmp_path}/a; sleep 60 & echo $! >{tmp_path}/b; wait",
                  timeout=0.3)
    assert time.monotonic() - started < 5
    assert (outcome.kind, outcome.reason) == (
        Kind.TIMED_OUT, "did not end within 0.3 s and was stopped"
    )
    for name in ("a", "b"):
        assert is_gone(int((tmp_path / name).read_text()))


def test_what_does_not_want_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "KILL_AFTER", 0.2)
    line = f"trap '' TERM; echo $$ >{tmp_path}/pid; while true; do sleep 0.05; done"
    outcome = run(line, timeout=0.2)
    assert outcome.kind is Kind.TIMED_OUT
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_daemon_that_keeps_our_output_open_keeps_nobody_from_leaving(tmp_path: Path) -> None:
    """Its readers must not hold the interpreter back when all is done."""
    before = set(threading.enumerate())
    found: list[threading.Thread] = []

    def tell(_: str) -> None:
        found.extend(set(threading.enumerate()) - before)

    LocalTransport().run(HOST, Call("echo x", b"", 10, tell))
    assert found
    assert all(thread.daemon for thread in found)


def test_rsync_within_this_machine(tmp_path: Path) -> None:
    source, target, old = (tmp_path / name for name in ("a b", "to", "old"))
    for folder in (source, old):
        folder.mkdir()
        (folder / "same").write_text("same")
        os.utime(folder / "same", (1, 1) if folder == old else (2, 2))
    (source / "new").write_text("new")
    target.mkdir()
    (target / "stray").touch()
    sync = Sync(str(source), str(target), str(old), 20,
                before=f"echo before >{tmp_path}/log; ",
                after=f"echo after $rc >>{tmp_path}/log; ")
    assert LocalTransport().sync(HOST, sync)
    assert sorted(os.listdir(target)) == ["new", "same"]
    assert (target / "same").samefile(old / "same")
    assert (tmp_path / "log").read_text() == "before\nafter 0\n"


def test_rsync_that_fails(tmp_path: Path) -> None:
    outcome = LocalTransport().sync(HOST, Sync(str(tmp_path / "no"), str(tmp_path / "to")))
    assert (outcome.kind, outcome.exit) == (Kind.FAILED, 23)
    assert "No such file or directory" in outcome.reason
    (tmp_path / "a").mkdir()
    stopped = Sync(str(tmp_path / "a"), str(tmp_path / "to2"), before="exit 73; ")
    assert LocalTransport().sync(HOST, stopped).exit == 73
    assert not (tmp_path / "to2").exists()


def test_rsync_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    slow = Sync(str(tmp_path / "a"), str(tmp_path / "to"), timeout=0.3,
                before=f"sleep 60 & echo $! >{tmp_path}/pid; wait; ")
    outcome = LocalTransport().sync(HOST, slow)
    assert (outcome.kind, outcome.reason) == (
        Kind.TIMED_OUT, "did not end within 0.3 s and was stopped"
    )
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_stream_is_spoken_to_in_lines() -> None:
    stream = LocalTransport().stream(HOST, "read a; echo \"$a!\"; read b; echo \"$b?\"", b"one\n")
    assert stream.receive(5) == "one!"
    with pytest.raises(TimeoutError):
        stream.receive(0.01)
    stream.send("two")
    assert stream.receive(5) == "two?"
    assert stream.receive(5) is None
    with pytest.raises(ConnectionBroken):
        send_until_it_is_noticed(stream)
    stream.close()


def send_until_it_is_noticed(stream: Stream) -> None:
    for _ in range(200):
        stream.send("nobody reads this")
        time.sleep(0.01)


def test_closing_a_stream_ends_its_command(tmp_path: Path) -> None:
    stream = LocalTransport().stream(HOST, "echo $$; exec cat", b"")
    pid = int(stream.receive(5) or 0)
    stream.close()
    assert is_gone(pid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
