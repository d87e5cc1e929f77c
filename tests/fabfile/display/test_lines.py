from __future__ import annotations

import io

import pytest

from fabfile.display.lines import Lines, fold, screen
from fabfile.engine.outcome import Kind, Outcome
from fabfile.plan import Stage, Turn
from roles.role import Step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


STEP = Step("release.upload", "web1", ())


def stage(mode: str, *hosts: str) -> Stage:
    return Stage("roll", mode, tuple(Turn(host, ()) for host in hosts))  # type: ignore[arg-type]


def shown(out: io.StringIO) -> list[str]:
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("hosts", "text"), [
    (["web1", "web2", "web3"], "web[1-3]"),
    (["web1"], "web1"),
    (["web1", "db1"], "db1,web1"),
    (["controller"], "controller"),
    ([], ""),
])
def test_folded_hosts(hosts: list[str], text: str) -> None:
    assert fold(hosts) == text


def test_a_stage_says_how_and_where() -> None:
    out = io.StringIO()
    lines = Lines(out)
    for mode in ("parallel", "rolling", "once"):
        lines.stage_started(stage(mode, "web1", "web2"))
    lines.stage_started(stage("rolling", "web1"))
    assert shown(out) == [
        "roll: on all hosts at once: web[1-2]", "roll: one host at a time: web[1-2]",
        "roll: once: web[1-2]", "roll: once: web1",
    ]


def test_a_step_s_end() -> None:
    out = io.StringIO()
    lines = Lines(out)
    lines.step_started(stage("once", "web1"), STEP)
    lines.step_finished(stage("once", "web1"), STEP, Outcome("web1", Kind.OK, 0, seconds=1.234))
    broken = Outcome("web1", Kind.FAILED, 1, stderr="Traceback (most\n  x\nKeyError: 1\n")
    lines.step_finished(stage("once", "web1"), STEP, broken)
    late = Outcome("web1", Kind.TIMED_OUT, message="too late", seconds=600)
    lines.step_finished(stage("once", "web1"), STEP, late)
    assert shown(out) == [
        "  web1  release.upload         1.23 s  ok",
        "  web1  release.upload         0.00 s  failed",
        "      KeyError: 1",
        "  web1  release.upload       600.00 s  timed out",
        "      too late",
    ]


def test_output_comes_in_whole_lines_host_by_host() -> None:
    out = io.StringIO()
    lines = Lines(out)
    other = Step("x", "web2", ())
    for step, text in ((STEP, "on"), (other, "two\nthr"), (STEP, "e\n\n"), (other, "ee\n")):
        lines.step_output(step, text)
    assert shown(out) == ["  web2  | two", "  web1  | one", "  web1  | ", "  web2  | three"]


def test_colours_only_for_a_terminal() -> None:
    plain, terminal = io.StringIO(), Terminal()
    for out in (plain, terminal):
        Lines(out).note("look")
    assert plain.getvalue() == "  look\n"
    assert terminal.getvalue() == "  \033[33mlook\033[0m\n"


def test_the_board_is_for_terminals_that_can_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert type(screen(io.StringIO())) is Lines
    assert type(screen(Terminal())).__name__ == "Board"
    monkeypatch.setenv("TERM", "dumb")
    assert type(screen(Terminal())) is Lines
