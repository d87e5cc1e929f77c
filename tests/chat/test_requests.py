"""Deliveries through slack_bolt's own app: who gets what, and how often."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from fabfile.plan import Plan, Stage, Turn, to_json
from roles.command import Run, command
from roles.role import Step
from tests.chat.conftest import (
    CHANNEL,
    DEPLOYER,
    ELSEWHERE,
    HASH,
    LOOKER,
    OTHER,
    SECRET,
    STAGING_ONLY,
    STRANGER,
    World,
    eventually,
)
from tests.chat.payloads import click, mention, over_http, over_socket, slash

# --- what only looks


def test_status_is_answered_where_it_was_asked(world: World) -> None:
    world.tell("status", lines=["shop on prod", "lock: <free> & `fine`"])
    assert world.ask(LOOKER, "status prod").status == 200
    told = world.slack.text("shop on prod")
    assert told["text"] == ("<@U0LOOK> asks: `status prod`\n"
                            "```\nshop on prod\nlock: &lt;free&gt; &amp; 'fine'\n```")
    assert told["channel"] == CHANNEL
    words, who, variables = world.calls()[0]
    assert words == ["status", "--env=prod", f"--inventory={world.folder}/inventories"]
    assert who == "U0LOOK (chat)"
    assert world.verdicts() == ["allowed"]
    line = world.lines()[0]
    assert {line[key] for key in ("user", "channel", "environment", "words")} == {
        "U0LOOK", CHANNEL, "prod", "status prod"}
    assert "CHAT_BOT_TOKEN" not in variables


def test_no_token_reaches_a_process_or_the_chat(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_BOT_TOKEN", "xoxb-test")
    world.tell("status", lines=["the token is xoxb-test."])
    world.ask(LOOKER, "status prod")
    world.slack.text("the token is ***.")
    assert "CHAT_BOT_TOKEN" not in world.calls()[0][2]


def test_how_it_stands_is_said_where_something_is_wrong(world: World) -> None:
    world.tell("status", exit=4, last="web2: finish it")
    world.ask(LOOKER, "status prod")
    assert world.slack.text("web2: finish it")["text"].endswith("done, but something is pending")


def test_migrations_with_a_ref(world: World) -> None:
    world.tell("migrations", lines=["2 pending"])
    world.ask(LOOKER, "migrations prod v1")
    world.slack.text("2 pending")
    assert world.calls()[0][0][-1] == "--ref=v1"


def test_a_mention_is_answered_in_its_thread(world: World) -> None:
    world.tell("status", lines=["shop on staging"])
    world.mention(LOOKER, "status staging")
    world.slack.text("shop on staging")
    assert [said["thread_ts"] for said in world.slack.said("chat.postMessage")] == ["77.1"]


# --- who may not


@pytest.mark.parametrize(("user", "text", "channel", "told", "why"), [
    (STRANGER, "status prod", CHANNEL, "you may not ask me here",
     "nobody who may ask in this channel"),
    (STRANGER, "nonsense", CHANNEL, "you may not ask me here",
     "nobody who may ask in this channel"),
    (DEPLOYER, "status prod", ELSEWHERE, "you may not ask me here",
     "nobody who may ask in this channel"),
    (DEPLOYER, "deploy prod", STAGING_ONLY, "you may not ask for deploy of prod here",
     "not in this channel"),
    (LOOKER, "deploy prod", CHANNEL, "you may not ask for deploy of prod here",
     "may look, and not change anything"),
    (LOOKER, "maintenance prod v1", CHANNEL, "you may not ask for maintenance of prod here",
     "may look, and not change anything"),
    (DEPLOYER, "deploy local", CHANNEL, "you may not ask for deploy of local here",
     "no such environment"),
    (DEPLOYER, "deploy prod --yes", CHANNEL, "deploy: that is no branch, tag or commit",
     "not understood: deploy: that is no branch, tag or commit"),
])
def test_refused(
    world: World, user: str, text: str, channel: str, told: str, why: str
) -> None:
    world.ask(user, text, channel)
    assert world.private(told)["response_type"] == "ephemeral"
    line = world.wait_for("refused")
    assert (line["user"], line["channel"], line["words"], line["why"]) == (user, channel, text, why)
    world.mention(user, text, channel)
    world.wait_for("refused", 2)
    assert world.calls() == []
    assert world.slack.said("chat.postMessage") == []


def test_another_workspace_is_refused(world: World) -> None:
    body = slash(DEPLOYER, CHANNEL, "status prod", world.slack.url, team="T0FOREIGN")
    world.app.dispatch(over_socket(body))
    assert world.lines()[0]["why"] == "from another workspace"
    assert world.calls() == []


def test_a_click_from_another_workspace_is_refused(world: World) -> None:
    button = world.offered()["confirm"]
    body = click(DEPLOYER, CHANNEL, button["message"], "fab_confirm", button["value"],
                 world.slack.url)
    body["user"]["team_id"] = "T0FOREIGN"
    world.app.dispatch(over_socket(body))
    assert world.lines()[-1]["why"] == "from another workspace"
    assert world.started() == []


def test_who_was_taken_out_of_the_inventory_may_do_nothing_from_then_on(world: World) -> None:
    button = world.offered()["confirm"]
    world.inventory("prod", channels=[CHANNEL], deploy=[OTHER])
    world.press(button)
    world.private("you may not confirm this")
    world.ask(DEPLOYER, "status prod")
    world.private("you may not ask for status of prod here")
    assert world.started() == []


def test_a_broken_inventory_stops_its_environment_alone(world: World) -> None:
    (world.folder / "inventories" / "prod" / "hosts.yml").write_text("web: [")
    world.tell("status", lines=["shop on staging"])
    world.ask(LOOKER, "status staging")
    world.slack.text("shop on staging")
    world.ask(LOOKER, "status prod")
    world.private("you may not ask for status of prod here")
    assert any("prod/hosts.yml" in note for note in world.notes)


def test_help(world: World) -> None:
    world.ask(LOOKER, "")
    assert "deploy ENVIRONMENT [REF]" in world.private("status ENVIRONMENT")["text"]


def test_a_channel_without_the_bot(world: World) -> None:
    world.slack.failing["chat.postMessage"] = "not_in_channel"
    world.ask(LOOKER, "status prod")
    world.private("I cannot write in this channel (chat.postMessage: not_in_channel)")
    assert world.calls() == []


# --- a deploy


def test_a_deploy_shows_its_plan_asks_and_runs_what_was_shown(world: World) -> None:
    offered = world.offered()
    assert "plan release (rolling) for release R1" in offered["text"]
    assert f"commit `{world.commit[:12]}`" in offered["text"]
    assert world.started() == []
    world.git("tag", "-f", "v1", world.new_commit())
    world.tell("run", lines=["roll: once: web1", "shop R1 serves on 1 host"])
    world.press(offered["confirm"])
    last = world.slack.text("is done")
    options = ["--env=prod", f"--inventory={world.folder}/inventories", f"--ref={world.commit}"]
    assert [words for words, _, _ in world.calls()] == [
        ["migrations", *options, "--json"],
        ["deploy", *options, f"--approved-plan={HASH}", "--dry-run", "--json"],
        ["deploy", *options, f"--approved-plan={HASH}", "--yes"],
    ]
    assert world.calls()[-1][1] == "U0DEPLOY (chat)"
    assert last["thread_ts"] == offered["confirm"]["message"]
    assert "shop R1 serves on 1 host" in last["text"]
    assert world.verdicts() == ["allowed", "offered", "confirmed", "ended"]
    ended = world.lines()[-1]
    assert (ended["exit"], ended["words"], ended["user"]) == (0, "deploy prod v1", DEPLOYER)
    assert len({line["request"] for line in world.lines()}) == 1
    closed = world.slack.text("confirmed by <@U0DEPLOY>")
    assert closed["blocks"] == []
    eventually_empty(world)


def eventually_empty(world: World) -> None:
    world.slack.wait(lambda: not world.runs.working)
    assert [path.suffix for path in world.runs.folder.iterdir()] == [".log"]


def test_maintenance_closes_the_site(world: World) -> None:
    world.press(world.offered(text="maintenance prod v1")["confirm"])
    world.wait_for("ended")
    assert "--maintenance" in world.started()[0]


def long_plan(stages: int) -> str:
    """Of twenty hosts whose names do not fold."""
    hosts = [f"web-{sign}.shop.example" for sign in "abcdefghijklmnopqrst"]
    turns = tuple(Turn(host, (Step("release.switch", host, (Run(command("true")),)),))
                  for host in hosts)
    made = tuple(Stage(f"stage{number}", "rolling", turns) for number in range(stages))
    return json.dumps({"plans": [to_json(Plan("release", "prod", "R1", "rolling", made))]})


def test_a_plan_that_no_message_holds_stands_in_the_thread(world: World) -> None:
    """Nobody confirms what was not shown."""
    world.tell("dry", lines=[long_plan(12)])
    offer = world.offered()
    assert "the plan is in the thread, in " in offer["text"]
    shown = "\n".join(said["text"] for said in world.slack.said("chat.postMessage"))
    assert [f"stage{number}: " in shown for number in range(12)] == [True] * 12


@pytest.mark.parametrize("error", ["", "not_in_channel"])
def test_a_plan_that_cannot_be_shown_is_not_offered(world: World, error: str) -> None:
    world.tell("dry", lines=[long_plan(12 if error else 200)])
    gate = world.hold("dry")
    world.ask(DEPLOYER, "deploy prod v1")
    eventually(lambda: any("--dry-run" in words for words, *_ in world.calls()), world.calls)
    if error:
        world.slack.failing["chat.postMessage"] = error
    gate.unlink()
    world.slack.text("nothing was changed")
    assert world.offers() == []
    assert "offered" not in world.verdicts()


def test_whoever_is_not_answered_in_the_channel_is_told_alone(world: World) -> None:
    world.slack.failing["chat.update"] = "message_not_found"
    world.ask(LOOKER, "status prod")
    assert "please ask again" in world.private("Slack did not take my answer")["text"]


def test_an_answer_for_one_person_is_tried_again_and_noted_where_it_is_lost(world: World) -> None:
    world.slack.refusing = [500, 429, 200, 404]
    world.ask(STRANGER, "status prod")
    eventually(lambda: len(world.slack.said("respond")) == 3, lambda: world.notes)
    assert world.notes == []
    world.ask(STRANGER, "status prod")
    eventually(lambda: world.notes, lambda: world.slack.calls)
    assert world.notes == ["response_url: HTTP status 404"]


def test_a_plan_that_cannot_be_made_offers_nothing(world: World) -> None:
    world.tell("dry", exit=3, last="web1: disk is full\nnothing was changed")
    world.ask(DEPLOYER, "deploy prod v1")
    told = world.slack.text("web1: disk is full")
    assert "refused; nothing changed" in told["text"]
    assert "fab_confirm" not in str(told.get("blocks"))
    assert world.wait_for("failed")["why"].startswith("web1: disk is full")


def test_a_ref_that_is_not_there(world: World) -> None:
    world.ask(DEPLOYER, "deploy prod v9")
    world.slack.text("--ref=v9: no such branch, tag or commit")
    assert world.calls() == []


def test_how_a_run_failed_and_what_comes_next(world: World) -> None:
    world.tell("run", exit=75, lines=["x"],
               last="prod is locked on web1: run R by root\nnext: fab deploy --env=prod --ref=v1")
    world.press(world.offered()["confirm"])
    told = world.slack.text("ended with exit status 75")["text"]
    assert "somebody else holds the lock, or the fleet is frozen" in told
    assert "prod is locked on web1" in told
    assert told.endswith("next: `fab deploy --env=prod --ref=v1`")
    assert world.wait_for("ended")["exit"] == 75


def test_progress_is_one_message_that_changes(world: World) -> None:
    gate = world.hold("run")
    world.tell("run", lines=["stage: on all hosts at once"])
    world.press(world.offered()["confirm"])
    first = world.slack.text("runs (")
    world.slack.text("stage: on all hosts at once")
    gate.unlink()
    world.wait_for("ended")
    world.slack.text("is done")
    posts = [said["text"].split("`")[2] for said in world.slack.said("chat.postMessage")]
    assert len(posts) == 3  # the plan, the progress, the end
    assert first["thread_ts"]


# --- confirmed once


def test_two_clicks_at_once_start_one_run(world: World) -> None:
    button = world.offered()["confirm"]
    together = threading.Barrier(6)

    def press(user: str) -> None:
        together.wait()
        world.press(button, user)

    threads = [threading.Thread(target=press, args=(user,)) for user in [DEPLOYER, OTHER] * 3]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    world.wait_for("replayed", 5)
    world.wait_for("ended")
    world.private("already confirmed by <@U0")
    assert len(world.started()) == 1
    assert world.verdicts().count("confirmed") == 1


def test_a_second_click_is_told_that_it_is_confirmed(world: World) -> None:
    gate = world.hold("run")
    button = world.offered()["confirm"]
    world.press(button)
    world.wait_for("confirmed")
    world.press(button, OTHER)
    assert world.private("already confirmed")["text"] == "already confirmed by <@U0DEPLOY>"
    assert world.wait_for("replayed")["why"] == "already confirmed by U0DEPLOY"
    gate.unlink()


def test_cancelled_is_cancelled(world: World) -> None:
    offered = world.offered()
    world.press(offered["cancel"], OTHER)
    assert world.slack.text("cancelled by <@U0OTHER>")["blocks"] == []
    world.press(offered["confirm"])
    world.private("already cancelled by <@U0OTHER>")
    assert world.verdicts()[-2:] == ["cancelled", "replayed"]
    assert world.started() == []


def test_too_late_is_expired(world: World) -> None:
    button = world.offered()["confirm"]
    world.now += 300
    world.press(button)
    world.private("this plan has expired")
    world.wait_for("expired")
    assert world.slack.text("expired; nothing was changed")["blocks"] == []
    assert world.started() == []


@pytest.mark.parametrize("user", [LOOKER, STRANGER])
def test_who_may_not_deploy_may_not_confirm_and_uses_nothing_up(world: World, user: str) -> None:
    offered = world.offered()
    world.press(offered["confirm"], user)
    world.private("you may not confirm this")
    world.press(offered["cancel"], user)
    world.private("you may not cancel this")
    assert world.started() == []
    world.press(offered["confirm"])
    world.wait_for("ended")


def test_another_has_to_confirm(world: World) -> None:
    world.inventory("prod", channels=[CHANNEL], deploy=[DEPLOYER, OTHER], confirm_by_another=True)
    offered = world.offered()
    assert "Somebody else has to confirm it" in offered["text"]
    world.press(offered["confirm"])
    world.private("somebody else has to confirm it")
    assert world.started() == []
    world.press(offered["confirm"], OTHER)
    world.wait_for("ended")
    assert world.calls()[-1][1] == "U0DEPLOY, confirmed by U0OTHER (chat)"


# --- forged


def changed(value: str) -> list[str]:
    head, _, code = value.partition(".")
    other = "0" if code[-1] != "0" else "1"
    return [f"{head}.{code[:-1]}{other}", f"{head}.", head, "", f"{head}.{code.upper()}",
            f"{head}.{code}0", f"0{head[1:]}x.{code}", "\ud800.ä"]


def test_a_changed_button_is_forged(world: World) -> None:
    offered = world.offered()
    wrong = changed(offered["confirm"]["value"])
    for value in wrong:
        world.press(offered["confirm"], value=value)
    world.press(offered["confirm"], value=offered["cancel"]["value"])
    world.wait_for("forged", len(wrong) + 1)
    world.private("this button is not mine")
    assert world.started() == []


def test_a_button_counts_in_its_own_message_and_channel(world: World) -> None:
    button = world.offered()["confirm"]
    world.press(button, message="1.9")
    world.press(button, channel=STAGING_ONLY)
    world.wait_for("forged", 2)
    assert {line.get("why") for line in world.lines()[2:]} == {"the button of another message"}
    assert world.started() == []


def test_a_button_of_an_earlier_bot_is_forged(world: World) -> None:
    button = world.offered()["confirm"]
    world.app = world.make()
    world.press(button)
    world.wait_for("forged")
    assert world.started() == []


def delivery(world: World, kind: str) -> dict[str, Any]:
    url = world.slack.url
    if kind == "click":
        button = world.offered()["confirm"]
        return click(DEPLOYER, CHANNEL, button["message"], "fab_confirm", button["value"], url)
    return (slash(LOOKER, CHANNEL, "status prod", url) if kind == "slash"
            else mention(LOOKER, CHANNEL, "status prod"))


KINDS = ("slash", "mention", "click")


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_is_checked(world: World, kind: str) -> None:
    world.app = world.make(SECRET)
    body = delivery(world, kind)
    before = len(world.calls())
    old = time.time() - 301
    unsigned = over_http(body, SECRET)
    unsigned.headers.pop("x-slack-signature")
    for request in (over_http(body, "another"), over_http(body, SECRET, old), unsigned):
        assert world.app.dispatch(request).status == 401
    assert world.verdicts()[-3:] == ["forged"] * 3
    assert len(world.calls()) == before
    assert world.app.dispatch(over_http(body, SECRET)).status == 200
    world.slack.wait(lambda: len(world.calls()) > before)


def test_a_changed_body_is_forged(world: World) -> None:
    world.app = world.make(SECRET)
    request = over_http(delivery(world, "slash"), SECRET)
    request.raw_body = request.raw_body.replace("prod", "staging")
    assert world.app.dispatch(request).status == 401


@pytest.mark.parametrize("key", ["", SECRET])
def test_without_a_secret_nothing_comes_over_http(world: World, key: str) -> None:
    request = over_http(delivery(world, "slash"), key or "x")
    if not key:  # what an empty key would sign
        import hashlib
        import hmac

        stamp = request.headers["x-slack-request-timestamp"][0]
        made = hmac.new(b"", f"v0:{stamp}:{request.raw_body}".encode(), hashlib.sha256).hexdigest()
        request.headers["x-slack-signature"] = [f"v0={made}"]
    assert world.app.dispatch(request).status == 401
    assert world.verdicts() == ["forged"]
    assert world.calls() == []


# --- replayed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("over", ["socket", "http"])
def test_the_same_delivery_counts_once(world: World, kind: str, over: str) -> None:
    world.app = world.make(SECRET)
    body = delivery(world, kind)
    before = len(world.calls())
    for _ in range(3):
        request = over_socket(body) if over == "socket" else over_http(body, SECRET)
        assert world.app.dispatch(request).status == 200
    world.slack.wait(lambda: len(world.calls()) > before)
    assert world.verdicts().count("replayed") == 2
    assert {line.get("why") for line in world.lines() if line["verdict"] == "replayed"} == {
        "delivered before"}
    if kind == "click":
        world.wait_for("ended")
    assert len(world.calls()) == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_slacks_own_repetition_is_refused(world: World, kind: str) -> None:
    body = delivery(world, kind)
    before = len(world.calls())
    request = over_socket(body, **{"x-slack-retry-num": "1", "x-slack-retry-reason": "timeout"})
    assert world.app.dispatch(request).status == 200
    assert world.lines()[-1]["verdict"] == "replayed"
    assert world.lines()[-1]["why"] == "Slack's try 1 once more"
    assert len(world.calls()) == before


def test_an_old_event_is_refused(world: World) -> None:
    body = mention(LOOKER, CHANNEL, "status prod")
    body["event_time"] -= 301
    world.app.dispatch(over_socket(body))
    assert world.lines()[-1]["why"] == "an old event"
    assert world.calls() == []


@pytest.mark.parametrize("lacking", ["trigger_id", "user_id", "channel_id"])
def test_a_delivery_without_what_it_must_have_is_refused(world: World, lacking: str) -> None:
    body = slash(LOOKER, CHANNEL, "status prod", world.slack.url)
    del body[lacking]
    world.app.dispatch(over_socket(body))
    assert world.verdicts() == ["refused"]
    assert world.calls() == []
