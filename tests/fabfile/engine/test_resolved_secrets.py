from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.engine import secrets
from fabfile.engine.secrets import resolve
from fabfile.errors import UsageError
from roles.command import SecretRef


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    resolve.cache_clear()
    yield
    resolve.cache_clear()


def test_from_the_environment_a_file_and_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "a\nb\n")
    (tmp_path / "key").write_text("from file\n\n")
    assert resolve(SecretRef("env", "TOKEN")) == "a\nb\n"
    assert resolve(SecretRef("file", str(tmp_path / "key"))) == "from file"
    assert resolve(SecretRef("command", "echo \"from $((1+1))\"")) == "from 2"


def test_looked_up_once(tmp_path: Path) -> None:
    asked = SecretRef("command", f"echo x >>{tmp_path}/count; echo value")
    assert [resolve(asked), resolve(asked)] == ["value", "value"]
    assert (tmp_path / "count").read_text() == "x\n"


@pytest.mark.parametrize(("reference", "message"), [
    (SecretRef("env", "NO_SUCH_TOKEN"),
     "secret env:NO_SUCH_TOKEN: this environment variable is not set here; export it first"),
    (SecretRef("file", "/no/such"), "secret file:/no/such: No such file or directory"),
    (SecretRef("command", "echo hunter2; echo sorry >&2; exit 3"),
     "secret command:echo hunter2; echo sorry >&2; exit 3: exit status 3: sorry"),
    (SecretRef("file", "~nosuchuser/hook"),
     "secret file:~nosuchuser/hook: Could not determine home directory."),
    (SecretRef("command", r"printf '\377'"), r"secret command:printf '\377': is no text in UTF-8"),
])
def test_what_cannot_be_had(reference: SecretRef, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(reference)
    assert str(caught.value) == message


def test_who_gives_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deploy would wait for ever, and hold the lock."""
    monkeypatch.setattr(secrets, "PATIENCE", 0.2)
    with pytest.raises(UsageError, match=r"sleep 60: gave no answer within 0\.2 s"):
        resolve(SecretRef("command", "sleep 60"))
