"""What is understood, and what is not; what a person may; what is posted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.chat import texts
from fabfile.chat.offers import Forged, Offer, Offers
from fabfile.chat.seen import REMEMBERED, Seen
from fabfile.chat.words import HELP, VERBS, Unclear, Words, parse
from fabfile.engine.children import GONE


@pytest.mark.parametrize(("text", "words"), [
    ("", Words("help")),
    ("help", Words("help")),
    ("status prod", Words("status", "prod")),
    ("  status \t prod  ", Words("status", "prod")),
    ("migrations prod", Words("migrations", "prod")),
    ("migrations prod v1.2", Words("migrations", "prod", "v1.2")),
    ("deploy prod", Words("deploy", "prod")),
    ("deploy prod-eu.1 feature/x_y+z", Words("deploy", "prod-eu.1", "feature/x_y+z")),
    ("maintenance prod 0123abc", Words("maintenance", "prod", "0123abc")),
])
def test_understood(text: str, words: Words) -> None:
    assert parse(text) == words


@pytest.mark.parametrize("text", [
    "restart prod", "Deploy prod", "status", "deploy", "help me", "status prod v1",
    "deploy prod v1 v2", "deploy prod --yes", "deploy prod -x", "deploy --env=prod",
    "deploy ../prod",
    "deploy prod ;reboot", "deploy prod $(id)", "deploy prod `id`", "deploy prod v1;id",
    "deploy prod a..b", "deploy prod a//b", "deploy prod a/", "deploy prod a.", "deploy prod .a",
    "deploy prod a/.b", "deploy prod a.lock", "deploy prod a.lock/b", "deploy prod HEAD~1",
    "deploy prod v1^", "deploy prod a@{1}", "deploy prod a:b", "deploy prod a\\b", "deploy prod ä",
    "deploy prod <http://v1.io|v1.io>", "deploy <@U1>", "deploy prod 'v1'", "deploy prod |id",
    f"deploy prod {'a' * 201}", f"deploy {'a' * 65}", f"status {'a ' * 300}",
])
def test_not_understood(text: str) -> None:
    with pytest.raises(Unclear):
        parse(text)


@given(st.text(max_size=60) | st.builds(
    " ".join, st.tuples(st.sampled_from(sorted(VERBS)), st.text(max_size=8), st.text(max_size=8))))
def test_whatever_is_written_no_argument_is_an_option_or_has_other_signs(text: str) -> None:
    try:
        words = parse(text)
    except Unclear:
        return
    for each in (words.environment, words.ref):
        assert not each.startswith("-")
        assert each.isascii()
        assert not set(each) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                   "_./+-")


def test_help_names_every_verb() -> None:
    assert [line.split()[0].rstrip(":") for line in HELP.splitlines()] == [*VERBS, "help"]


# --- buttons


OFFER = Offer("0123456789abcdef", "U1", "C1", "1.1", "1.1", "prod", "deploy prod v1",
              ("deploy", "--env=prod", "--yes"), "d" * 64, 1000.0)


@given(st.data())
def test_any_changed_byte_of_a_button_is_refused(data: st.DataObject) -> None:
    offers = Offers(b"k" * 32)
    offers.add(OFFER, 0)
    value = offers.button("confirm", OFFER)
    place = data.draw(st.integers(0, len(value) - 1))
    sign = data.draw(st.characters(exclude_characters=value[place]))
    assert offers.of("confirm", value) == OFFER
    for changed in (value[:place] + sign + value[place + 1:], value[:place] + value[place + 1:],
                    value[:place] + sign + value[place:]):
        if changed != value:
            with pytest.raises(Forged):
                offers.of("confirm", changed)


@pytest.mark.parametrize("field", [name for name in OFFER.__dataclass_fields__ if name != "id"])
def test_a_button_is_about_everything_that_was_shown(field: str) -> None:
    offers, before = Offers(), getattr(OFFER, field)
    other: object = (*before, "--maintenance") if isinstance(before, tuple) else f"{before}x"
    if isinstance(before, float):
        other = before + 1
    offers.add(Offer(**{**OFFER.__dict__, field: other}), 0)
    with pytest.raises(Forged):
        offers.of("confirm", offers.button("confirm", OFFER))


def test_a_button_to_cancel_confirms_nothing() -> None:
    offers = Offers()
    offers.add(OFFER, 0)
    with pytest.raises(Forged):
        offers.of("confirm", offers.button("cancel", OFFER))


def test_an_offer_ends_once() -> None:
    offers = Offers()
    offers.add(OFFER, 0)
    assert offers.end(OFFER, "confirmed", "U1", 999.9) is None
    assert offers.end(OFFER, "cancelled", "U2", 999.9) == ("confirmed", "U1")
    assert offers.end(OFFER, "confirmed", "U2", 2000) == ("confirmed", "U1")


def test_an_expired_offer_stays_so_whatever_the_clock_does() -> None:
    offers = Offers()
    offers.add(OFFER, 0)
    assert offers.end(OFFER, "confirmed", "U1", 1000) == ("expired", "")
    assert offers.end(OFFER, "confirmed", "U1", 0) == ("expired", "")


def test_a_delivery_is_remembered_for_longer_than_it_can_come_again() -> None:
    seen = Seen()
    assert seen.is_new("a", 0)
    assert not seen.is_new("a", REMEMBERED)
    assert seen.is_new("b", REMEMBERED + 1)
    assert seen.is_new("a", REMEMBERED + 1)
    assert not seen.is_new("b", REMEMBERED + 1)


# --- texts


@given(st.text(max_size=9000))
def test_what_a_program_printed_stays_in_its_block_and_in_slacks_limit(output: str) -> None:
    shown = texts.tail(output, lines=40)
    inside = shown.removeprefix("```\n").removesuffix("\n```")
    assert len(shown) < 2500
    assert "`" not in inside
    assert "<" not in inside
    assert ">" not in inside


def test_the_last_lines_are_shown_without_secrets_and_colours() -> None:
    output = "\n".join(f"line {number}" for number in range(99)) + "\n\x1b[1mtoken s3cret\x1b[0m\n"
    shown = texts.tail(output, ["s3cret", ""], 2)
    assert shown == "```\n(98 lines more above)\nline 98\n[1mtoken ***[0m\n```"
    assert texts.tail("\n\n") == ""


@given(st.lists(st.text(max_size=3000), max_size=60))
def test_what_is_to_be_confirmed_is_shown_whole(lines: list[str]) -> None:
    output = "\n".join(lines)
    found = texts.blocks(output)
    assert all(len(each) < 2500 for each in found)
    shown = "".join(each.removeprefix("```\n").removesuffix("\n```") for each in found)
    wanted = "".join(sign for sign in output if sign.isprintable())
    assert "".join(shown.split()) == "".join(texts._shown(wanted).split())


@pytest.mark.parametrize(("status", "said"), [
    (0, "done"), (3, "refused; nothing changed"), (75, "somebody else holds the lock"),
    (GONE, "it was cut off"), (99, "an end that nobody foresaw"),
])
def test_what_an_exit_status_means(status: int, said: str) -> None:
    assert texts.meaning(status).startswith(said)


def test_the_command_that_goes_on() -> None:
    output = "next: fab one\nmore\nnext, when you no longer need it: fab deploy.finish --env=p\n"
    assert texts.following(output, 4, "p") == "fab deploy.finish --env=p"
    assert texts.following("nothing", 1, "p") == "fab status --env=p"
    assert texts.following(output, 0, "p") == ""
