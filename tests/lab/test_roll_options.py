"""Batches, canaries, budgets and going back, on hosts of which some turn sick."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.lab.fleet import Fleet, wait_for
from tests.lab.watch import watched
from tests.sites.history import tree

OPERATIONS = "config/operations.py"


def add_sick(fleet: Fleet, tag: str, condition: str) -> None:
    """The tag: v2, whose health page says 500 where ``condition`` holds."""
    source = tree("v2")[OPERATIONS].data.decode()
    source = source.replace("def healthz(request):\n", (
        "STARTED = time.monotonic()\n\n\ndef healthz(request):\n"
        f"    if {condition}:\n        return HttpResponse('sick', status=500)\n"))
    fleet.commit(tag, {OPERATIONS: source})


def states(fleet: Fleet, old: str) -> dict[str, str]:
    return {host: "old" if release == old else "new" for host, release in fleet.serving().items()}


def test_a_batch_is_restarted_together(on_v1: Fleet) -> None:
    with watched(on_v1) as watch:
        done = on_v1.fab("deploy", "--ref=v2", "--batch=1,100%", check=0)
    assert len(set(on_v1.serving().values())) == 1
    assert {*watch.down_at_once()} == {("web2", "web3")}
    lines = done.stdout.splitlines()
    restarts = [n for n, line in enumerate(lines) if "wsgi.restart  " in line]
    healthy = [n for n, line in enumerate(lines) if "wsgi.health  " in line]
    assert healthy[0] < restarts[1]
    assert max(restarts[1:]) < min(healthy[1:])


def test_a_canary_that_turns_sick_while_it_is_watched(on_v1: Fleet) -> None:
    add_sick(on_v1, "sickly", "time.monotonic() - STARTED > 3")
    on_v1.write_inventory(deploy={"canary": {"seconds": 8}})
    old = on_v1.serving()
    done = on_v1.fab("deploy", "--ref=sickly", check=1)
    assert "web1: wsgi.watch: not healthy any more after " in done.stderr
    assert "status 500 instead of 200: sick" in done.stderr
    assert "web1: put back on the release it had" in done.stderr
    assert on_v1.serving() == old
    assert "web2  wsgi.restart" not in done.stdout


def test_a_command_decides_about_the_canary(on_v1: Fleet, tmp_path: Path) -> None:
    verdict = tmp_path / "verdict"
    script = f'echo "$FABFLEET_HOST $FABFLEET_RELEASE" >>{tmp_path}/asked; test -e {verdict}'
    on_v1.write_inventory(deploy={"canary": {"command": script}})
    old = on_v1.serving()
    assert "controller: canary" in on_v1.fab("deploy", "--ref=v2", check=1).stderr
    assert on_v1.serving() == old
    verdict.touch()
    on_v1.fab("deploy", "--ref=v2", check=0)
    release = on_v1.current("web1")
    assert (tmp_path / "asked").read_text().splitlines() == [f"web1 {release}"] * 2


def test_sick_in_the_second_batch(on_v1: Fleet) -> None:
    add_sick(on_v1, "sick2", "settings.HOST_NAME == 'web2'")
    old = on_v1.current("web1")
    on_v1.write_inventory(wsgi={"health": {"deadline": 3}})
    done = on_v1.fab("deploy", "--ref=sick2", check=1)
    assert states(on_v1, old) == {"web1": "new", "web2": "old", "web3": "old"}
    assert "web2: put back on the release it had" in done.stderr
    assert f"next: fab deploy --env={on_v1.env} --ref=sick2" in done.stderr
    on_v1.fab("deploy", "--ref=v2", check=0)
    assert set(states(on_v1, old).values()) == {"new"}


def test_all_go_back_where_that_is_wanted(on_v1: Fleet) -> None:
    add_sick(on_v1, "sick3", "settings.HOST_NAME == 'web3'")
    old = on_v1.current("web1")
    on_v1.write_inventory(wsgi={"health": {"deadline": 3}})
    with watched(on_v1) as watch:
        done = on_v1.fab("deploy", "--ref=sick3", "--on-failure=revert", check=1)
    assert set(states(on_v1, old).values()) == {"old"}
    assert set(on_v1.currents().values()) == {old}
    assert "web1: was done, and is back on the release it had" in done.stderr
    assert "web2: was done, and is back on the release it had" in done.stderr
    assert watch.down_at_once() == []


def test_one_host_may_fail(on_v1: Fleet) -> None:
    add_sick(on_v1, "sick2", "settings.HOST_NAME == 'web2'")
    old = on_v1.current("web1")
    on_v1.write_inventory(wsgi={"health": {"deadline": 3}}, deploy={"max_failures": 1})
    done = on_v1.fab("deploy", "--ref=sick2", check=1)
    assert states(on_v1, old) == {"web1": "new", "web2": "old", "web3": "new"}
    assert "web2: put back on the release it had" in done.stderr


@pytest.mark.parametrize("batch", ["0", "x", "0%", "101%", ""])
def test_a_batch_that_is_none(on_v1: Fleet, batch: str) -> None:
    if not batch:
        on_v1.write_inventory(deploy={"batch": []})
        assert "deploy.batch: expected a number of hosts" in on_v1.fab("plan", check=2).stderr
        return
    said = on_v1.fab("plan", f"--batch={batch}", check=2).stderr
    assert said.startswith(f"--batch={batch}: expected a number of hosts, a share such as 25%")


# --- a host that is down ------------------------------------------------------------------------


def test_a_host_that_is_down_catches_up_later(on_v1: Fleet) -> None:
    old = on_v1.current("web1")
    on_v1.lab.kill("web3")
    try:
        refused = on_v1.fab("deploy", "--ref=v2", check=69)
        assert "web3: unreachable: " in refused.stderr
        done = on_v1.fab("deploy", "--ref=v2", "--skip-unreachable", check=4)
        assert "web3 did not answer and has to catch up" in done.stderr
        assert "left out, as they do not answer: web3" in done.stdout
        owes = on_v1.fab("status", check=69)
        assert "web3" in owes.stderr
        assert list(json.loads(on_v1.fab("status", "--json").stdout)["owed"]) == ["web3"]
    finally:
        on_v1.lab.boot("web3")
    wait_for("web3 serves what it had", lambda: on_v1.answer("web3").get("release") == old, 60)
    told = on_v1.fab("status", check=4).stderr
    assert "web3: skipped " in told
    assert "has to catch up: fab deploy" in told
    part = on_v1.fab("deploy", "--ref=v2", "--hosts=web1", check=3)
    assert "web3: skipped by an earlier deploy and not on its release yet" in part.stderr
    on_v1.fab("deploy", "--ref=v2", check=0)
    assert set(states(on_v1, old).values()) == {"new"}
    on_v1.fab("status", check=0)


def test_a_host_that_is_down_keeps_the_contract_pending(on_v1: Fleet) -> None:
    on_v1.fab("deploy", "--ref=v2", check=0)
    on_v1.lab.kill("web3")
    try:
        done = on_v1.fab("deploy", "--ref=v8", "--skip-unreachable", check=4)
        assert "not in this run: web3" in done.stderr
        closed = on_v1.fab("deploy", "--ref=v9", "--skip-unreachable", "--maintenance", check=3)
        assert "web3 would come back with code that cannot live with" in closed.stderr
    finally:
        on_v1.lab.boot("web3")
    assert on_v1.migrations()[5:] == ["0006_product_origin"]
    wait_for("web3 serves", lambda: on_v1.status_of("web3", "/") == 200, 60)
    on_v1.fab("deploy", "--ref=v8", check=0)
    assert on_v1.migrations()[5:] == ["0006_product_origin", "0007_forget_stock"]
