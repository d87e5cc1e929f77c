"""Commands as values: what they say, and that a shell understands it as it was meant."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabfile.plan import to_json
from roles.command import (
    Command,
    LocalFile,
    OnController,
    OnHost,
    Raw,
    Run,
    SecretRef,
    Upload,
    as_root,
    as_user,
    command,
    either,
    pipe,
    then,
)

# What a shell can be handed at all: no NUL, and text that is text.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))

YES, NO = command("true"), command("false")


def sh(line: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", line], capture_output=True, check=False)


def said(*parts: Command) -> str:
    return sh(then(*parts).line).stdout.decode()


def echo(word: str) -> Command:
    return command("echo", "-n", word)


# --- words --------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "line"), [
    (("mkdir", "-p", "/srv/shop"), "mkdir -p /srv/shop"),
    (("echo", ""), "echo ''"),
    (("echo", "two words"), "echo 'two words'"),
    (("echo", "it's"), "echo 'it'\"'\"'s'"),
    (("echo", "$HOME `id` $(id)"), "echo '$HOME `id` $(id)'"),
    (("echo", "a\nb"), "echo 'a\nb'"),
    (("echo", "*", "~", "a;b", "a&b", "a|b", "#x"), "echo '*' '~' 'a;b' 'a&b' 'a|b' '#x'"),
    (("echo", "größer"), "echo 'größer'"),
    (("echo", Raw("$HOME"), "$HOME"), "echo $HOME '$HOME'"),
    (("cat", "a b", Raw(">>/tmp/out")), "cat 'a b' >>/tmp/out"),
])
def test_every_word_quotes_itself_and_raw_is_the_exception(
    words: tuple[str | Raw, ...], line: str
) -> None:
    assert command(*words).line == line


@given(st.lists(WORDS, min_size=1))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_words_survive_a_shell(words: list[str]) -> None:
    done = sh(command("printf", r"%s\0", *words).line)
    assert done.stdout.decode().split("\0")[:-1] == words


@given(st.lists(WORDS, min_size=1))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_words_survive_a_shell_within_a_shell(words: list[str]) -> None:
    inner = then(command("printf", r"%s\0", *words), YES)
    assert sh(command("sh", "-c", inner.line).line).stdout.decode().split("\0")[:-1] == words


def test_raw_reaches_the_shell_as_it_stands() -> None:
    assert said(command("x=5"), command("echo", "-n", Raw("$((x+1))"), "$x")) == "6 $x"


# --- joints -------------------------------------------------------------------------------


@pytest.mark.parametrize(("joined", "line"), [
    (then(YES, NO), "true && false"),
    (either(YES, NO), "true || false"),
    (pipe(YES, NO), "true | false"),
    (then(YES), "true"),
    (then(then(YES, NO), YES), "true && false && true"),
    (then(either(YES, NO), YES), "{ true || false; } && true"),
    (either(YES, then(NO, YES)), "true || { false && true; }"),
    (pipe(then(YES, NO), either(NO, YES)), "{ true && false; } | { false || true; }"),
    (then(YES, either(NO, pipe(YES, NO))), "true && { false || { true | false; }; }"),
])
def test_joined_commands(joined: Command, line: str) -> None:
    assert joined.line == line


@pytest.mark.parametrize(("joined", "output", "status"), [
    (then(echo("a"), echo("b")), "ab", 0),
    (then(echo("a"), NO, echo("b")), "a", 1),
    (either(echo("a"), echo("b")), "a", 0),
    (either(NO, echo("b")), "b", 0),
    # Left to right the shell would run c; what was meant is: b only after a failed, c never.
    (either(YES, then(echo("b"), echo("c"))), "", 0),
    (then(NO, either(echo("b"), echo("c"))), "", 1),
    (either(then(NO, echo("a")), echo("b")), "b", 0),
    (pipe(then(echo("b\n"), echo("a\n")), command("sort")), "a\nb\n", 0),
    (pipe(echo("a"), then(command("cat"), echo("b"))), "ab", 0),
    (then(pipe(echo("a"), NO), echo("b")), "", 1),
])
def test_a_shell_reads_the_joints_as_they_are_nested(
    joined: Command, output: str, status: int
) -> None:
    done = sh(joined.line)
    assert (done.stdout.decode(), done.returncode) == (output, status)


TREES = st.recursive(
    st.sampled_from([YES, NO]),
    lambda inner: st.builds(
        lambda join, parts: join(*parts),
        st.sampled_from([then, either]), st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


def truth(tree: Command) -> bool:
    if not tree.parts:
        return tree == YES
    return (all if tree.joint == "&&" else any)(truth(part) for part in tree.parts)


@given(TREES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_nesting_means_to_a_shell_what_it_means_to_us(tree: Command) -> None:
    assert (sh(tree.line).returncode == 0) is truth(tree)


# --- users --------------------------------------------------------------------------------


def test_as_user() -> None:
    assert as_user("shop", command("ls", "a b")).line == "sudo -n -u shop -- ls 'a b'"


def test_as_nobody_else_changes_nothing() -> None:
    assert as_user(None, YES) is YES


def test_as_user_wraps_joined_commands_whole() -> None:
    line = as_user("shop", then(command("cd", "a b"), command("ls"))).line
    assert line == """sudo -n -u shop -- sh -c 'cd '"'"'a b'"'"' && ls'"""


def test_as_root() -> None:
    inner = command("/usr/bin/systemctl", "restart", "shop wsgi.service")
    assert as_root(inner).line == "sudo -n /usr/bin/systemctl restart 'shop wsgi.service'"


def test_as_root_wraps_joined_commands_whole() -> None:
    assert as_root(then(YES, NO)).line == "sudo -n sh -c 'true && false'"


# --- actions ------------------------------------------------------------------------------


def test_an_upload_says_from_where_to_where() -> None:
    assert Upload("/a", "/b").shown == "rsync /a/ -> /b/"
    assert Upload("/a", "/b", "/c").shown == (
        "rsync /a/ -> /b/ (unchanged files linked to /c)"
    )


def test_a_program_is_shown_with_its_arguments_and_the_digest_of_its_files() -> None:
    files = {"manifest": LocalFile("/m", "0123456789abcdef")}
    action = OnHost("publish", {"b": 1, "a": "x"}, files)
    assert action.shown == (
        'python3 -I publish.py {"a": "x", "b": 1, "manifest": "<0123456789ab>"}'
    )


def test_a_hook_on_the_controller_is_its_line() -> None:
    assert OnController("make it", {"A": "1"}).shown == "make it"


@pytest.mark.parametrize("source", ["env", "file", "command"])
def test_a_secret_is_a_reference_wherever_it_is_looked_at(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    action = OnHost("secrets", {"root": "/srv/shop"}, secrets={"KEY": SecretRef(source, "TOKEN")})
    assert action.shown == (
        f'python3 -I secrets.py {{"KEY": "<secret {source}:TOKEN>", "root": "/srv/shop"}}'
    )
    assert to_json(action)["secrets"] == {"KEY": {"source": source, "name": "TOKEN"}}
    for text in (action.shown, repr(action), str(action), str(to_json(action))):
        assert "hunter2" not in text


def test_values_are_equal_by_what_they_say() -> None:
    assert Run(command("ls")) == Run(command("ls")) != Run(command("ls", ""))
    assert {command("a"), command("a"), command("b")} == {command("a"), command("b")}
