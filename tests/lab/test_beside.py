"""``wsgi.method: beside`` on one single host: the new release starts beside the old one, and a link
is turned to it. What stands in front connects to that link, as the host's nginx would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.fleet import Fleet, wait_for
from tests.lab.load import crowd, visited

LINK = "/run/shop/wsgi.sock"
BESIDE = {"method": "beside", "bind": LINK, "keep": 60}
UNITS = "/etc/systemd/system"
# systemd's own proxy asks for the path anew at each connection.
FRONT = f"""cat > {UNITS}/front.socket <<'E'
[Socket]
ListenStream=8000
E
cat > {UNITS}/front.service <<'E'
[Service]
ExecStart=/lib/systemd/systemd-socket-proxyd {LINK}
E
systemctl daemon-reload; systemctl start front.socket"""
FORGET = (f"systemctl stop front.socket front.service 'shop-wsgi@*.service' "
          f"'fabfleet-retire-*.timer'; systemctl disable -q shop-servers.service; "
          f"rm -f {UNITS}/front.* {UNITS}/shop-wsgi@.service {UNITS}/shop-servers.service "
          f"{LINK} {LINK}.next; systemctl daemon-reload; systemctl reset-failed")


@pytest.fixture
def alone(on_v1: Fleet) -> Iterator[str]:
    """web1 on v1, by itself; the option that chooses it."""
    option = f"--env={on_v1.alone('web1', wsgi=BESIDE)}"
    on_v1.fab("hosts.setup", option, check=0)
    on_v1.on("web1", FRONT)
    on_v1.fab("deploy", "--ref=v1", option, check=0)
    yield option
    on_v1.on("web1", FORGET, check=False)
    on_v1.fab("hosts.setup", f"--env={on_v1.alone('web1')}", check=0)


def servers(fleet: Fleet) -> dict[str, str]:
    """{release: state}, but for those that have ended."""
    rows = fleet.on("web1", "systemctl list-units --all --plain --no-legend --full 'shop-wsgi@*'")
    states = {row.split()[0]: row.split()[2] for row in rows.splitlines()}
    return {unit.partition("@")[2].removesuffix(".service"): state
            for unit, state in states.items() if state not in ("inactive", "failed")}


def live(fleet: Fleet) -> str:
    path = fleet.on("web1", f"readlink {LINK}").strip()
    return path.partition("wsgi-")[2].removesuffix(".sock")


def took(fleet: Fleet, option: str, since: str, until: str) -> float:
    """Seconds between two lines of the newest journal of that environment."""
    name = option.removeprefix("--env=")
    events = fleet.journal(name)
    first = next(each["at"] for each in events if each["event"] == "stage"
                 and each["stage"] == since)
    last = next(each["at"] for each in reversed(events) if each["event"] == "finished"
                and each["step"] == until)
    return float(last - first)


@pytest.mark.timeout(600)
def test_there_and_back_loses_nothing(on_v1: Fleet, alone: str) -> None:
    old = on_v1.current("web1")
    quick = [each for each in crowd() if each.path == "/version"]
    with visited(f"{on_v1.address['web1']}:8000", quick) as load:
        wait_for("somebody got an answer", lambda: load.asked > 20)
        on_v1.fab("deploy", "--ref=v2", alone, check=0)
        new = on_v1.current("web1")
        assert (live(on_v1), servers(on_v1)) == (new, {old: "active", new: "active"})
        assert f"; also there: {old}" in on_v1.fab("status", alone, check=0).stdout
        pids = on_v1.pids("web1", "gunicorn --bind")
        assert "already served" in on_v1.fab("deploy", "--ref=v2", alone, check=0).stdout
        on_v1.fab("rollback", alone, check=0)
        assert (live(on_v1), servers(on_v1)) == (old, {old: "active", new: "active"})
        assert on_v1.pids("web1", "gunicorn --bind") == pids
    back = took(on_v1, alone, "roll", "wsgi.flip")
    print(f"{load}; back in {back:.2f} s")
    assert load.lost == []
    assert len(load.answers) == 2
    assert load.asked > 500


def test_a_sick_release_never_gets_the_link(on_v1: Fleet, alone: str) -> None:
    old = on_v1.current("web1")
    on_v1.fab("deploy", "--ref=v2", alone, check=0)
    on_v1.fab("rollback", alone, check=0)
    with visited(f"{on_v1.address['web1']}:8000", crowd(quick=4, slow=0)) as load:
        wait_for("somebody got an answer", lambda: load.asked > 20)
        failed = on_v1.fab("deploy", "--ref=v4", alone, check=1)
    assert "web1: wsgi.health: not healthy" in failed.stderr
    assert "web1: put back on the release it had" in failed.stderr
    assert load.lost == []
    assert set(load.answers) == {old}
    assert live(on_v1) == old
    wait_for("the sick one is gone", lambda: list(servers(on_v1)) == [old])


def test_the_old_one_ends_in_time_and_after_a_reboot_the_current_serves(
    on_v1: Fleet, alone: str
) -> None:
    on_v1.alone("web1", wsgi={**BESIDE, "keep": 2})
    on_v1.fab("deploy", "--ref=v2", alone, check=0)
    new = on_v1.current("web1")
    wait_for("the old one is gone", lambda: list(servers(on_v1)) == [new])
    on_v1.fab("restart", alone, check=0)
    assert live(on_v1) == f"{new}:2"
    on_v1.lab.kill("web1")
    on_v1.lab.boot("web1")
    wait_for("it serves", lambda: servers(on_v1) == {new: "active"} and live(on_v1) == new)
    on_v1.on("web1", "systemctl start front.socket")
    wait_for("it answers", lambda: on_v1.answer("web1").get("release") == new)
    on_v1.fab("stop", alone, check=0)
    assert servers(on_v1) == {}
    on_v1.fab("start", alone, check=0)
    assert live(on_v1) == new


def test_a_contract_does_not_wait_for_what_is_only_kept(on_v1: Fleet, alone: str) -> None:
    on_v1.fab("deploy", "--ref=v2", alone, check=0)
    on_v1.fab("deploy", "--ref=v8", alone, check=0)
    assert list(servers(on_v1)) == [on_v1.current("web1")]
