from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.roles.onhost.programs import end, run, start

# Not for ever: a test that fails must not leave it running.
GO = "n=0; while ! test -e go && test $n -lt 500; do n=$((n+1)); sleep 0.02; done; "


def job(root: Path, script: str, key: str = "k1", by: str = "run1") -> dict[str, Any]:
    argv = ["sh", "-c", f"cd {root}; {script}"]
    return {"root": str(root), "name": "migrate", "key": key, "run": by, "argv": argv}


def folder(root: Path) -> Path:
    return root / ".fabfleet" / "jobs" / "migrate"


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
    return path.read_text()


def lost_controller(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    end(process)


def test_output_and_success(tmp_path: Path) -> None:
    done = run("job", job(tmp_path, "echo one; echo two >&2"))
    assert (done.exit, done.out, done.err) == (0, "one\ntwo\n", "")
    result = json.loads((folder(tmp_path) / "result.json").read_text())
    assert result["exit"] == 0
    assert result["started"] <= result["ended"]
    record = json.loads((folder(tmp_path) / "job.json").read_text())
    assert (record["key"], record["run"]) == ("k1", "run1")


@pytest.mark.parametrize(("script", "status"), [
    ("exit 3", 3), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9),
])
def test_its_exit_code_is_ours(tmp_path: Path, script: str, status: int) -> None:
    assert run("job", job(tmp_path, script)).exit == status


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    done = run("job", {**job(tmp_path, ""), "argv": ["/no/such"]})
    assert (done.exit, done.out) == (
        127, "cannot start /no/such: [Errno 2] No such file or directory: '/no/such'\n"
    )


def test_it_outlives_the_connection_and_is_found_again(tmp_path: Path) -> None:
    first = start("job", job(tmp_path, f"echo x >>count; echo began; {GO} echo ended; exit 5"))
    wait_for(tmp_path / "count")
    lost_controller(first)
    second = start("job", job(tmp_path, "echo never", by="run2"))
    assert second.stdout is not None
    assert second.stdout.readline() == b"following the job that run run1 started\n"
    (tmp_path / "go").touch()
    assert second.stdout.read() == b"began\nended\n"
    assert end(second).exit == 5
    assert (tmp_path / "count").read_text() == "x\n"


def test_the_same_run_asks_again_after_it_ended(tmp_path: Path) -> None:
    again = job(tmp_path, "echo x >>count; echo done; exit 4")
    assert run("job", again).exit == 4
    done = run("job", again)
    assert (done.exit, done.out) == (4, "done\n")
    assert (tmp_path / "count").read_text() == "x\n"


@pytest.mark.parametrize("change", [{"by": "run2"}, {"key": "k2"}])
def test_a_later_run_or_another_release_starts_it_anew(
    tmp_path: Path, change: dict[str, str]
) -> None:
    run("job", job(tmp_path, "echo x >>count; echo first"))
    assert run("job", job(tmp_path, "echo x >>count; echo second", **change)).out == "second\n"
    assert (tmp_path / "count").read_text() == "x\nx\n"


def test_never_two_at_a_time(tmp_path: Path) -> None:
    first = start("job", job(tmp_path, f"echo x >>count; {GO}"))
    wait_for(tmp_path / "count")
    done = run("job", job(tmp_path, "echo x >>count", key="k2", by="run2"))
    assert (done.exit, done.err) == (
        75, "another job still runs here: k1, started by run run1\n"
    )
    (tmp_path / "go").touch()
    assert end(first).exit == 0
    assert (tmp_path / "count").read_text() == "x\n"


def test_who_comes_while_another_starts_waits_to_see_which(tmp_path: Path) -> None:
    """The other one has the lock and has not yet written down who it is: what is there is old."""
    folder(tmp_path).mkdir(parents=True)
    record = folder(tmp_path) / "job.json"
    record.write_text('{"key": "k1", "run": "run1"}')
    with (folder(tmp_path) / "starting").open("w") as door, (
            folder(tmp_path) / "lock").open("w") as lock:  # fmt: skip
        for each in (door, lock):
            fcntl.flock(each, fcntl.LOCK_EX)
        late = start("job", job(tmp_path, "echo never", key="k1", by="run3"))
        time.sleep(0.3)
        assert late.poll() is None
        record.write_text('{"key": "k2", "run": "run2"}')
        fcntl.flock(door, fcntl.LOCK_UN)
        done = end(late)
    assert (done.exit, done.out, done.err) == (
        75, "", "another job still runs here: k2, started by run run2\n"
    )


def test_a_job_that_took_its_place_is_not_taken_for_ours(tmp_path: Path) -> None:
    follower = start("job", job(tmp_path, f"echo began; {GO}"))
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"began\n"
    (folder(tmp_path) / "job.json").write_text('{"key": "k2", "run": "run2"}')
    (folder(tmp_path) / "result.json").write_text('{"exit": 0}')
    assert end(follower).exit == 70
    (tmp_path / "go").touch()


def runner_of(pid: int) -> int:
    """The parent of a process: the detached runner."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_runner_that_is_gone_without_a_result(tmp_path: Path) -> None:
    follower = start("job", job(tmp_path, "echo $$ >pid; exec sleep 30"))
    command = int(wait_for(tmp_path / "pid"))
    os.kill(runner_of(command), signal.SIGKILL)
    os.kill(command, signal.SIGKILL)
    done = end(follower)
    assert (done.exit, done.err) == (70, "the detached process is gone and left no result\n")


def test_a_command_that_lost_its_runner_still_counts_as_running(tmp_path: Path) -> None:
    """Two migrations at a time are the worst that can happen."""
    follower = start("job", job(tmp_path, f"echo $$ >pid; {GO}"))
    os.kill(runner_of(int(wait_for(tmp_path / "pid"))), signal.SIGKILL)
    assert run("job", job(tmp_path, "echo never", key="k2", by="run2")).exit == 75
    assert follower.poll() is None
    (tmp_path / "go").touch()
    assert end(follower).exit == 70


def test_after_a_lost_one_the_next_run_starts_it_anew(tmp_path: Path) -> None:
    folder(tmp_path).mkdir(parents=True)
    (folder(tmp_path) / "job.json").write_text('{"key": "k1", "run": "run1"}')
    (folder(tmp_path) / "log").write_text("old\n")
    assert run("job", job(tmp_path, "echo new")).out == "new\n"


def test_it_needs_neither_our_input_nor_our_folder(tmp_path: Path) -> None:
    arguments = {**job(tmp_path, ""), "argv": ["sh", "-c", "pwd; cat; ps -o tty= -p $$"]}
    assert run("job", arguments).out.split() == ["/", "?"]


def shipped(root: Path, source: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A job whose program travels along."""
    arguments = {**job(root, ""), "argv": [sys.executable, "-I"]}
    return arguments, {"program": source.encode()}


def test_a_program_tells_how_it_ended(tmp_path: Path) -> None:
    say = 'print("@@FABFLEET " + json.dumps({"event": "result"}))'
    done = run("job", *shipped(tmp_path, f'import json\nprint("applied")\n{say}\n'))
    assert (done.exit, done.out) == (0, "applied\n")


def test_one_that_ends_without_telling_is_no_success(tmp_path: Path) -> None:
    done = run("job", *shipped(tmp_path, "import os\nos._exit(0)\n"))
    assert (done.exit, done.out) == (70, "the program ended without saying how it ended\n")
