"""``fab manage``: the words as typed, the output as it comes, the exit status as it is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fabfile import management
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.transport import Call
from fabfile.errors import Interrupted, Unavailable
from tests.fabfile.fleets import NEW, one_target, open_fleet


class Host:
    """Answers every command with ``outcome``, or raises it; keeps the calls."""

    def __init__(self, outcome: Outcome | BaseException) -> None:
        self.outcome = outcome
        self.calls: list[Call] = []

    def run(self, host: object, call: Call) -> Outcome:
        self.calls.append(call)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert call.tell is not None and call.tell_error is not None  # noqa: PT018
        call.tell("out")
        call.tell_error("err")
        return self.outcome


@pytest.fixture
def manage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``manage(outcome, *words)`` -> (the exit status, the call)."""
    target = one_target(open_fleet(tmp_path, app={"user": "shop"}))
    monkeypatch.setattr(management, "migration_target", lambda _: target)

    def run(outcome: Outcome | BaseException, *words: str) -> tuple[int, Call]:
        host = Host(outcome)

        @contextmanager
        def connected(*_: object, **__: object) -> Iterator[SimpleNamespace]:
            yield SimpleNamespace(transport=host)

        monkeypatch.setattr(management, "connected", connected)
        return management.run("prod", "", list(words)), host.calls[0]

    return run


@pytest.mark.parametrize(("kind", "status"), [(Kind.OK, 0), (Kind.FAILED, 7)])
def test_as_the_service_would(
    manage: Any, capsys: pytest.CaptureFixture[str], kind: Kind, status: int
) -> None:
    outcome = Outcome("web1", kind, status)
    exit_status, call = manage(outcome, "shell", "-c", "print('a  $b')")
    assert exit_status == status
    assert call.line == (
        f"sudo -n -u shop -- python3 -I /srv/shop/.fabfleet/launch.py --release {NEW} -- "
        """python manage.py shell -c 'print('"'"'a  $b'"'"')'"""
    )
    assert call.stdin == b""
    told = capsys.readouterr()
    assert (told.out, told.err) == ("out", "err")


def test_a_command_whose_end_nobody_knows(manage: Any) -> None:
    with pytest.raises(Unavailable) as raised:
        manage(Outcome("web1", Kind.LOST, message="gone"), "clearsessions")
    assert str(raised.value) == "web1: lost: gone"


def test_ctrl_c(manage: Any) -> None:
    with pytest.raises(Interrupted) as raised:
        manage(KeyboardInterrupt(), "clearsessions")
    assert str(raised.value) == "interrupted; clearsessions may still run on web1"


def test_nobody_reads_the_output_any_more() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    write = management._writer(Closed())
    write("a")
    write("b")
