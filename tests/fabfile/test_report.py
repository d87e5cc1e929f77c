"""How a run ended, in the words that an operator reads."""

from __future__ import annotations

from typing import Any

import pytest

from fabfile.display.lines import headline
from fabfile.engine.events import Failure
from fabfile.engine.outcome import Kind, Outcome
from fabfile.engine.run import Result
from fabfile.plan import Plan
from fabfile.report import failure_text, states, unrepeated
from roles.role import Step
from tests.fabfile.fleets import NEW, OLD, UNIT, fresh, live, ready

PLAN = Plan("release", "prod", NEW, "rolling")
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nKeyError: 1\n'


def failure(host: str, err: str = "", kind: Kind = Kind.FAILED, **values: Any) -> Failure:
    outcome = Outcome(host, kind, 1, stderr=err)
    return Failure("roll", Step("wsgi.restart", host, ()), outcome, **values)


def told(*failures: Failure, **result: Any) -> list[str]:
    return failure_text(PLAN, Result(list(failures), **result), {}, {}, "").splitlines()


def test_one_host() -> None:
    assert told(failure("web1", "it broke\n")) == ["web1: wsgi.restart: it broke"]
    assert told(failure("web1", "no route", Kind.UNREACHABLE)) == [
        "web1: wsgi.restart: unreachable: no route"
    ]
    assert told(failure("web1")) == ["web1: wsgi.restart: exit status 1"]


def test_hosts_that_failed_alike_are_told_of_together() -> None:
    assert told(
        failure("web1", "/srv/web1 is full"), failure("web3", "something else"),
        failure("web2", "/srv/web2 is full"), failure("web4", "/srv/web4 is full", Kind.TIMED_OUT),
    ) == [
        "web[1-2]: wsgi.restart: /srv/web1 is full",
        "web3: wsgi.restart: something else",
        "web4: wsgi.restart: timed out: /srv/web4 is full",
    ]


def test_the_headline_of_a_traceback_is_its_last_line() -> None:
    assert told(failure("web1", TRACEBACK)) == [
        "web1: wsgi.restart: KeyError: 1",
        "    Traceback (most recent call last):",
        '      File "a.py", line 1, in <module>',
        "    KeyError: 1",
    ]


@pytest.mark.parametrize(("reason", "line"), [
    ("first\nsecond", "first"),
    ("\n  first \nsecond\n", "first"),
    (TRACEBACK, "KeyError: 1"),
    (f"manage.py check:\n{TRACEBACK}\n", "KeyError: 1"),
    ("", "no reason was given"),
    ("\n \n", "no reason was given"),
])
def test_headlines(reason: str, line: str) -> None:
    assert headline(reason) == line


def test_long_reasons_are_cut_at_the_front() -> None:
    lines = told(failure("web1", "\n".join(map(str, range(100)))))
    assert lines == ["web1: wsgi.restart: 0", *(f"    {number}" for number in range(70, 100))]


def test_a_log_is_shown_with_each_host_and_repeated_lines_once() -> None:
    logs = {"web1": "up\nboom\nboom\nboom\n", "web2": "down"}
    failures = [failure(host, "sick", diagnosis=log) for host, log in logs.items()]
    assert told(*failures) == [
        "web[1-2]: wsgi.restart: sick",
        "  web1: the last lines of its log:", "    up", "    boom (3 times)",
        "  web2: the last lines of its log:", "    down",
    ]


def test_repeated_lines() -> None:
    assert unrepeated([]) == []
    assert unrepeated(["a", "a", "b", "a", "c", "c"]) == ["a (2 times)", "b", "a", "c (2 times)"]


def test_what_was_put_back_and_what_was_not() -> None:
    assert told(failure("web1", "x", recovered=True), failure("web2", "x", recovered=False)) == [
        "web[1-2]: wsgi.restart: x",
        "web1: put back on the release it had",
        "web2: COULD NOT BE PUT BACK; it needs a look",
    ]


def test_rules_of_sudo_that_are_missing() -> None:
    assert told(failure("web1", "sudo: ein Passwort ist notwendig"),
                failure("web2", "sudo: ein Passwort ist notwendig"))[-1] == (
        "web[1-2]: sudo lacks the rules that a deploy needs; write them anew: "
        "fab hosts.setup --env=prod --hosts=web[1-2]"
    )


def test_an_interrupt() -> None:
    assert told(interrupted=True, reached="roll") == ["interrupted after the stage roll"]
    assert told(interrupted=True) == ["interrupted after the stage none"]
    assert told(failure("web1", "x"), interrupted=True, reached="roll") == [
        "web1: wsgi.restart: x"
    ]


def test_what_may_still_run() -> None:
    assert told(interrupted=True, reached="roll", running={"web1": "wsgi.restart"}) == [
        "interrupted after the stage roll", "web1: wsgi.restart may still be running there"
    ]


def test_where_every_host_is_and_what_to_type_next() -> None:
    facts = {"web1": live("web1"), "web10": ready("web10")}
    silent = {"web2": Outcome("web2", Kind.UNREACHABLE, message="no route")}
    text = failure_text(PLAN, Result([failure("web10", "x")]), facts, silent,
                        "fab deploy --env=prod")
    assert text.splitlines() == [
        "web10: wsgi.restart: x",
        "where every host is now:",
        f"  web1   {NEW} (new); {UNIT} active",
        f"  web10  {OLD} (old); {UNIT} active",
        "  web2  did not answer: no route",
        "next: fab deploy --env=prod",
    ]


def test_what_a_host_really_runs() -> None:
    assert states({
        "a": fresh("a"), "b": live("b", running=(OLD, NEW)), "c": live("c", running=()),
        "d": ready("d", services={}),
        "e": live("e", running=(OLD, NEW), draining=(OLD,), services={
            UNIT: "active", "shop-workers.service": "inactive",
            f"shop-worker-main@{OLD}.service": "deactivating"}),
    }, NEW) == [
        "a  nothing deployed yet",
        f"b  {NEW} (new); running: {OLD}, {NEW}; {UNIT} active",
        f"c  {NEW} (new); running: nothing; {UNIT} active",
        f"d  {OLD} (old)",
        f"e  {NEW} (new); also there: {OLD}; {UNIT} active, shop-worker-main@{OLD}.service "
        "deactivating",
    ]
