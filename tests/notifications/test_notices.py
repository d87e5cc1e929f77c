"""What each service is sent, byte for byte."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest

from fabfile.display.notices import Mail, Notice, Post, messages
from inventories.errors import UsageError
from roles.command import SecretRef
from roles.notifications import NotificationsSettings

RELEASE = "20260106-090000-a63f937-fa5551"
STARTED = Notice("started", "deploy", "shop", "prod", RELEASE, "v2", "a" * 40, "eve@desk",
                 "rolling", 3, started=1_770_000_000.0, url="https://shop.test/")
FINISHED = replace(STARTED, kind="finished", ended=1_770_000_016.4)
FAILED = replace(STARTED, kind="failed", ended=1_770_000_002.0, detail="web1: <b> & co",
                 next="fab deploy --env=prod --ref=v2")
PENDING = replace(FINISHED, kind="pending", closed_for=6.24, detail="waiting for web3")
EVERYTHING = {
    "slack": {"url": {"env": "SLACK"}},
    "webhook": {"url": {"env": "HOOK"}, "key": {"env": "KEY"}},
    "email": {"server": "mail.test", "sender": "fab@shop.test", "to": ["a@x.test", "b@x.test"]},
    "sentry": {"organization": "tea & co", "projects": ["shop"], "token": {"env": "TOKEN"}},
}
SECRETS = {"SLACK": "https://hooks.test/T/B/X", "HOOK": "https://own.test/in", "KEY": "k3y",
           "TOKEN": "t0ken"}


def find(reference: SecretRef) -> str:
    return SECRETS[reference.name]


def sent(notice: Notice, **services: Any) -> list[Post | Mail]:
    settings = NotificationsSettings.model_validate(services or EVERYTHING)
    parts = messages(settings, notice, find, now=1_770_000_020.9)
    return [message for part in parts for message in part]


def one(notice: Notice, service: str) -> Post:
    (found,) = [each for each in sent(notice) if each.service == service]
    assert isinstance(found, Post)
    return found


@pytest.mark.parametrize(("notice", "text"), [
    (STARTED, f"shop on prod: eve@desk started the deploy of {RELEASE} (v2) on 3 hosts, rolling\n"
              f"https://shop.test/"),
    (FINISHED, f"shop on prod: deploy of {RELEASE} (v2) finished on 3 hosts after 16.4 s\n"
               f"https://shop.test/"),
    (FAILED, f"shop on prod: deploy of {RELEASE} (v2) FAILED after 2.0 s\nweb1: <b> & co\n"
             f"next: fab deploy --env=prod --ref=v2\nhttps://shop.test/"),
    (PENDING, f"shop on prod: deploy of {RELEASE} (v2) finished after 16.4 s, closed for 6.2 s, "
              f"but something is left to do\nwaiting for web3\nhttps://shop.test/"),
])
def test_the_text(notice: Notice, text: str) -> None:
    assert notice.text == text


def test_slack_gets_escaped_text() -> None:
    post = one(FAILED, "slack")
    assert post.address == SECRETS["SLACK"]
    assert post.headers == {"Content-Type": "application/json"}
    told = json.loads(post.body)
    assert set(told) == {"text"}
    assert "web1: &lt;b&gt; &amp; co" in told["text"]


def test_a_webhook_gets_everything_and_a_signature() -> None:
    post = one(FINISHED, "webhook")
    assert post.headers["X-Fabfleet-Timestamp"] == "1770000020"
    signed = hmac.new(b"k3y", b"1770000020." + post.body, hashlib.sha256).hexdigest()
    assert post.headers["X-Fabfleet-Signature"] == f"sha256={signed}"
    told = json.loads(post.body)
    assert (told["kind"], told["release"], told["hosts"]) == ("finished", RELEASE, 3)
    assert told["text"] == FINISHED.text


def test_without_a_key_nothing_is_signed() -> None:
    (post,) = sent(FINISHED, webhook={"url": {"env": "HOOK"}})
    assert isinstance(post, Post)
    assert "X-Fabfleet-Signature" not in post.headers


def test_a_mail() -> None:
    (mail,) = [each for each in sent(FAILED) if isinstance(each, Mail)]
    assert mail.message["From"] == "fab@shop.test"
    assert mail.message["To"] == "a@x.test, b@x.test"
    assert mail.message["Subject"] == FAILED.headline
    assert mail.message.get_content() == FAILED.text + "\n"
    assert [each.service for each in sent(STARTED)] == ["slack", "webhook", "sentry"]


def test_sentry_knows_the_release_first_and_the_deploy_at_the_end() -> None:
    base = "https://sentry.io/api/0/organizations/tea%20%26%20co/releases/"
    first, last = one(STARTED, "sentry"), one(PENDING, "sentry")
    assert first.address == base
    assert first.headers["Authorization"] == "Bearer t0ken"
    assert json.loads(first.body) == {"version": RELEASE, "projects": ["shop"], "ref": "a" * 40}
    assert last.address == f"{base}{RELEASE}/deploys/"
    assert json.loads(last.body) == {
        "environment": "prod", "dateStarted": "2026-02-02T02:40:00Z",
        "dateFinished": "2026-02-02T02:40:16Z"}
    assert [each.service for each in sent(FAILED)] == ["slack", "webhook", "email"]


def test_only_the_wanted_moments() -> None:
    slack = {"url": {"env": "SLACK"}, "when": ["failed"]}
    assert [bool(sent(each, slack=slack)) for each in (STARTED, FINISHED, FAILED)] == [
        False, False, True]


def test_no_secret_shows_in_what_may_be_logged() -> None:
    shown = repr([sent(each) for each in (STARTED, FINISHED, FAILED, PENDING)])
    for secret in (*SECRETS.values(), "hooks.test"):
        assert secret not in shown


def test_a_secret_that_is_missing_names_its_place() -> None:
    def missing(reference: SecretRef) -> str:
        raise UsageError(f"secret {reference.source}:{reference.name}: not set")

    settings = NotificationsSettings.model_validate(EVERYTHING)
    with pytest.raises(UsageError, match="secret env:SLACK: not set"):
        list(messages(settings, STARTED, missing, 0)[0])


@pytest.mark.parametrize(("services", "said"), [
    ({"email": {"server": "mail.test"}}, "expected sender and to, which a mail needs"),
    ({"sentry": {"organization": "x"}}, "expected projects and token, which Sentry needs"),
    ({"slack": {"url": {}}}, "expected exactly one of env, file and command"),
])
def test_settings_that_are_not_whole(services: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="validation error") as refused:
        NotificationsSettings.model_validate(services)
    assert said in str(refused.value)
