"""Ctrl-C: once finishes what runs and stops, twice ends at once; SIGTERM is like the first."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.lab.fleet import Fleet, wait_for

SECONDS_TO_ABORT = 5.0


def press(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> None:
    """As a terminal does it: the whole process group gets the signal."""
    os.killpg(process.pid, number)


def until_told(process: subprocess.Popen[str]) -> None:
    """Two signals at one moment would be one."""
    assert process.stdout
    assert any("interrupted: finishing what runs" in line for line in process.stdout)


def end(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def finished(fleet: Fleet) -> list[tuple[str, str]]:
    """(step, host) of everything that ended in the newest run."""
    return [(each["step"], each["host"]) for each in fleet.journal()
            if each["event"] == "finished"]


def check_again(fleet: Fleet, release: str) -> None:
    """The same command once more brings every host to the release."""
    again = fleet.fab("deploy", "--ref=v2", check=0)
    assert set(fleet.currents().values()) == {release}, again.stdout
    assert set(fleet.serving().values()) == {release}
    assert fleet.migrations()[-2:] == ["0004_product_stock", "0005_note_stock"]
    assert fleet.sql("select count(*) from catalog_auditentry") == [["1"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_in_the_roll_ends_the_turn_and_stops(on_v1: Fleet, number: signal.Signals) -> None:
    old, new = on_v1.current("web1"), on_v1.release_id("--ref=v2")
    process = on_v1.begin("deploy", "--ref=v2", at="started/release.switch/web1")
    press(process, number)
    code, out, err = end(process)
    assert code == 130, out + err
    assert "interrupted: finishing what runs; press Ctrl-C again to abort" in out
    assert ("wsgi.health", "web1") in finished(on_v1)
    assert ("release.switch", "web2") not in finished(on_v1)
    assert on_v1.currents() == {"web1": new, "web2": old, "web3": old}
    assert on_v1.serving() == {"web1": new, "web2": old, "web3": old}
    for line in (f"  web1  {new} (new)", f"  web2  {old} (old)", f"  web3  {old} (old)",
                 f"next: fab deploy --env={on_v1.env} --ref=v2"):
        assert line in err
    check_lock_free(on_v1)
    check_again(on_v1, new)


def check_lock_free(fleet: Fleet) -> None:
    assert '"lock": null' in fleet.fab("lock", "--json", check=0).stdout


def test_once_while_staging_stops_after_the_running_steps(on_v1: Fleet) -> None:
    on_v1.hold(*on_v1.web)
    old, new = on_v1.current("web1"), on_v1.release_id("--ref=v2")
    try:
        process = on_v1.begin("deploy", "--ref=v2", at="started/static.collect/web3")
        for host in on_v1.web:
            wait_for(f"{host} collects", partial(on_v1.pids, host, "^sleep 0.05"))
        press(process)
        until_told(process)
    finally:
        on_v1.let_go(*on_v1.web)
    code, out, err = end(process)
    assert code == 130, out + err
    assert sorted(finished(on_v1))[-3:] == [("static.collect", host) for host in on_v1.web]
    assert set(on_v1.currents().values()) == {old}
    assert "  web1  " in err
    assert f"next: fab deploy --env={on_v1.env} --ref=v2" in err
    check_lock_free(on_v1)
    check_again(on_v1, new)


def test_once_while_uploading_lets_the_upload_end(on_v1: Fleet) -> None:
    """rsync runs here, in the terminal that sends the signal, and must not die of it."""
    process = on_v1.begin("deploy", "--ref=v2", at="started/release.upload/web1")
    press(process)
    code, out, err = end(process)
    assert code == 130, out + err
    assert "release.upload" not in err
    outcomes = [each["outcome"] for each in on_v1.journal() if each["event"] == "finished"]
    assert set(outcomes) == {"ok"}
    check_again(on_v1, on_v1.release_id("--ref=v2"))


@pytest.mark.parametrize("where", ["web2", "controller"])
def test_twice_aborts_at_once(on_v1: Fleet, where: str) -> None:
    """Whether what runs is a command on a host or a hook here."""
    hook = {"run": "sleep 300; true", "on": where}
    on_v1.write_inventory(hooks={"before": {"roll": [hook]}})
    new = on_v1.release_id("--ref=v2")
    process = on_v1.begin("deploy", "--ref=v2", at=f"started/hook before roll/{where}")
    press(process)
    until_told(process)
    press(process)
    started = time.monotonic()
    code, out, err = end(process)
    seconds = time.monotonic() - started
    left = on_v1.pids("web2", "^sleep 300")
    for pid in left:
        on_v1.on("web2", f"kill {pid}")
    assert seconds < SECONDS_TO_ABORT
    assert code == 130, out + err
    assert f"next: fab deploy --env={on_v1.env} --ref=v2" in err
    assert ("web2: hook before roll may still be running there" in err) == (where == "web2")
    assert len(left) == (where == "web2")
    on_v1.write_inventory()
    check_again(on_v1, new)


def test_an_interrupt_in_the_midst_of_a_line_of_output_is_not_lost(on_v1: Fleet) -> None:
    """The pipe has room for the plan alone, so the run waits for its reader in its first line."""
    plan = on_v1.fab("plan", "--ref=v2", check=0).stdout.partition("\n\n")[0] + "\n"
    known = len(on_v1.journals())
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writer, b" " * (size - len(plan)))
    with subprocess.Popen(
        [sys.executable, "-m", "fabfile.program", "deploy", "--ref=v2"], env=on_v1.environment,
        stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, start_new_session=True,
    ) as process:
        os.close(writer)
        wait_for("it waits for its reader", lambda: len(on_v1.journals()) > known
                 and "pipe" in where_it_waits(process.pid), 60)
        os.kill(process.pid, signal.SIGINT)
        with os.fdopen(reader) as text:
            out = text.read()
    assert process.returncode == 130, out
    assert "interrupted: finishing what runs" in out


def where_it_waits(pid: int) -> str:
    """The kernel's function in which the main thread of a process waits."""
    return Path(f"/proc/{pid}/wchan").read_text()
