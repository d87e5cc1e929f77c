from __future__ import annotations

import pytest

from fabfile.engine.outcome import Kind, Outcome, of_exit

LOST = "the connection ended before the command told its exit status"


@pytest.mark.parametrize(("status", "seconds", "kind", "code", "reason"), [
    (0, 1.0, Kind.OK, 0, "out"),
    (0, 99.0, Kind.OK, 0, "out"),
    (1, 1.0, Kind.FAILED, 1, "err"),
    (255, 1.0, Kind.FAILED, 255, "err"),
    (143, 1.0, Kind.FAILED, 143, "err"),
    # 124 and 137 are timeout's only where the time was really up.
    (124, 1.0, Kind.FAILED, 124, "err"),
    (137, 1.0, Kind.FAILED, 137, "err"),
    (124, 10.0, Kind.TIMED_OUT, 124, "did not end within 10 s and was stopped"),
    (137, 15.0, Kind.TIMED_OUT, 137, "did not end within 10 s and was stopped"),
    (1, 15.0, Kind.FAILED, 1, "err"),
    (None, 1.0, Kind.LOST, None, LOST),
    (-1, 1.0, Kind.LOST, None, LOST),
])
def test_what_an_exit_status_means(
    status: int | None, seconds: float, kind: Kind, code: int | None, reason: str
) -> None:
    err = "" if kind is Kind.OK else "err"
    outcome = of_exit("web1", status, "out", err, seconds, 10)
    assert (outcome.host, outcome.kind, outcome.exit) == ("web1", kind, code)
    assert (outcome.stdout, outcome.stderr, outcome.seconds) == ("out", err, seconds)
    assert outcome.reason == reason


@pytest.mark.parametrize("kind", Kind)
def test_only_ok_is_a_success(kind: Kind) -> None:
    assert bool(Outcome("web1", kind)) is (kind is Kind.OK)


def test_the_reason_is_the_most_telling_text_there_is() -> None:
    def reason(stdout: str = "", stderr: str = "", message: str = "") -> str:
        return Outcome("web1", Kind.FAILED, 3, stdout, stderr, message).reason

    assert reason(message="m", stderr="e", stdout="o") == "m"
    assert reason(stderr=" e\n", stdout="o") == "e"
    assert reason(stderr=" \n", stdout="o\n") == "o"
    assert reason() == "exit status 3"
