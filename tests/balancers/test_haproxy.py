"""The program against a real HAProxy (fab test --soak: the package haproxy)."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest

from tests.balancers.servers import Backend, Balancer, Clients, Later
from tests.roles.onhost.programs import Done, run

pytestmark = pytest.mark.soak
Web = dict[str, Backend]


def tell(balancer: Balancer, action: str, server: str = "web1", **changes: Any) -> Done:
    arguments = {
        "action": action, "socket": str(balancer.socket), "backends": ["web"], "server": server,
        "min_up": 1, "deadline": 5, "up_deadline": 5, "then": "fail",
    }
    return run("balancing.haproxy", {**arguments, **changes})


def states(done: Done) -> dict[str, str]:
    assert done.exit == 0, done.err
    return {each["server"]: each["status"] for each in done.answer["servers"]}


def falls_ill(balancer: Balancer, web: Web, server: str) -> None:
    """Its health page says so, and HAProxy has seen that often enough to believe it."""
    web[server].healthy = False
    deadline = time.monotonic() + 10
    while True:
        seen = tell(balancer, "look").answer["servers"]
        running = {each["server"]: each["running"] for each in seen}
        if not running[server]:
            return
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)


def busy(balancer: Balancer, web: Web, seconds: float, server: str = "web1") -> Later:
    """A long request that runs on this server, and on no other."""
    while True:
        for each in web.values():
            each.began.clear()
        later = Later(balancer, seconds)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if web[server].began.is_set():
                return later
            if any(each.began.is_set() for each in web.values()):
                break
            time.sleep(0.01)


def test_out_and_in_again_under_load_without_a_lost_request(haproxy: Balancer, web: Web) -> None:
    with Clients(haproxy) as clients:
        assert states(tell(haproxy, "drain"))["web1"] == "DRAIN"
        web["web1"].asked.clear()
        assert haproxy.served_by() == {"web2", "web3"}
        assert web["web1"].asked == []
        assert states(tell(haproxy, "drain"))["web1"] == "DRAIN"  # again: nothing more
        assert states(tell(haproxy, "undrain"))["web1"] == "UP"
        assert haproxy.served_by() == {"web1", "web2", "web3"}
        assert states(tell(haproxy, "undrain"))["web1"] == "UP"
    assert clients.lost == []
    assert clients.answers > 20


def test_a_long_request_is_waited_for(haproxy: Balancer, web: Web) -> None:
    later = busy(haproxy, web, 2)
    began = time.monotonic()
    assert states(tell(haproxy, "drain"))["web1"] == "DRAIN"
    assert time.monotonic() - began > 1.5
    later.join(3)
    assert later.answer == "web1"


def test_what_lasts_longer_than_the_deadline(haproxy: Balancer, web: Web) -> None:
    later = busy(haproxy, web, 4)
    done = tell(haproxy, "drain", deadline=0.5)
    assert (done.exit, done.err) == (
        1, "not drained after 0.5 s, so it is back in rotation: web/web1 has 1 sessions and 0 "
           "requests in its queue\n")
    assert states(tell(haproxy, "look"))["web1"] == "UP"
    gone_on = tell(haproxy, "drain", deadline=0.5, then="go-on")
    assert states(gone_on)["web1"] == "DRAIN"
    assert gone_on.err.startswith("going on after 0.5 s: web/web1 has 1 sessions")
    assert states(tell(haproxy, "drain", deadline=0.5, then="shut"))["web1"] == "DRAIN"
    later.join(3)
    assert later.answer.startswith("lost: ")


def test_it_comes_back_only_when_its_check_is_well(haproxy: Balancer, web: Web) -> None:
    states(tell(haproxy, "drain"))
    falls_ill(haproxy, web, "web1")
    ill = tell(haproxy, "undrain", up_deadline=0.5)
    assert ill.exit == 1
    assert ill.err.startswith("web1 stays out after 0.5 s: the check of web/web1 says ")
    assert haproxy.served_by() == {"web2", "web3"}
    threading.Timer(0.7, setattr, (web["web1"], "healthy", True)).start()
    assert states(tell(haproxy, "undrain"))["web1"] == "UP"


def test_the_floor(haproxy: Balancer, web: Web) -> None:
    states(tell(haproxy, "drain", "web2"))
    done = tell(haproxy, "drain", min_up=2, up_deadline=0.3)
    assert (done.exit, done.err) == (
        1, "web1 stays in rotation: backend web: 1 other server is up, and balancer.min_up=2 wants "
           "2: web2 DRAIN, web3 up\n")
    assert tell(haproxy, "drain", min_up="50%", up_deadline=0.3).exit == 1
    assert haproxy.served_by() == {"web1", "web3"}
    # One that comes back while we wait is waited for.
    threading.Timer(0.7, haproxy.say, ("set server web/web2 state ready",)).start()
    assert states(tell(haproxy, "drain", min_up="50%"))["web1"] == "DRAIN"
    # Out already: it takes nothing with it.
    states(tell(haproxy, "drain", min_up=3, up_deadline=0.3))
    assert tell(haproxy, "drain", "web2", min_up=0).exit == 0


def test_a_server_that_checks_see_as_down_may_go(haproxy: Balancer, web: Web) -> None:
    falls_ill(haproxy, web, "web1")
    assert states(tell(haproxy, "drain", min_up=3, up_deadline=0.3))["web1"] in ("DOWN", "DRAIN")


def watching(
    balancer: Balancer, seconds: float = 1, percent: float = 1, server: str = "web1"
) -> Done:
    return tell(balancer, "watch", server, seconds=seconds, percent=percent)


def test_a_server_is_watched(haproxy: Balancer, web: Web) -> None:
    with Clients(haproxy):
        assert watching(haproxy).exit == 0
        web["web1"].broken = True
        done = watching(haproxy)
        assert done.exit == 1
        assert re.match(r"[1-9]\d* of [1-9]\d* requests failed in 1 s, as HAProxy counts \(5xx, "
                        r"connections, broken answers\), and deploy.canary.errors allows 1 %\n",
                        done.err)
        assert watching(haproxy, percent=100).exit == 0
        assert watching(haproxy, server="web2").exit == 0


def test_a_server_that_goes_down_while_it_is_watched(haproxy: Balancer, web: Web) -> None:
    falls_ill(haproxy, web, "web1")
    done = watching(haproxy, seconds=5)
    assert done.exit == 1
    assert done.err.startswith("while it was watched: web/web1 is DOWN ")


def test_two_at_once_keep_the_floor(haproxy: Balancer, web: Web) -> None:
    ended: list[Done] = []
    both = [threading.Thread(target=lambda name=name: ended.append(
        tell(haproxy, "drain", name, min_up=2, up_deadline=0.5))) for name in ("web1", "web2")]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted(each.exit for each in ended) == [0, 1]


def test_names_that_are_not_there(haproxy: Balancer, web: Web) -> None:
    path = haproxy.socket
    assert tell(haproxy, "drain", "web9").err == (
        f"{path}: no server web9 in the backend web; there are: web1, web2, web3\n")
    wrong = tell(haproxy, "drain", backends=["wbe"])
    assert wrong.exit == 1
    assert wrong.err == (f"{path}: asked 'show servers state wbe', answered "
                         "\"Can't find backend.\"\n")
    none = tell(haproxy, "drain", socket=f"{path}.none")
    assert none.exit == 1
    assert none.err == (f"{path}.none: no such socket: HAProxy does not run here, or "
                        "balancer.haproxy.socket is another\n")


def test_maintenance_is_a_person_s(haproxy: Balancer, web: Web) -> None:
    haproxy.say("set server web/web1 state maint")
    for action in ("drain", "undrain"):
        done = tell(haproxy, action)
        assert done.exit == 1
        assert done.err.startswith("web/web1 is in maintenance (MAINT), which we never do")
    assert states(tell(haproxy, "look"))["web1"] == "MAINT"


def test_a_flip_from_one_group_to_the_other_under_load(haproxy: Balancer, web: Web) -> None:
    states(tell(haproxy, "drain", "web3"))
    blue, green = ["web1", "web2"], ["web3"]
    with Clients(haproxy) as clients:
        there = states(tell(haproxy, "flip", enter=green, leave=blue))
        assert there == {"web1": "DRAIN", "web2": "DRAIN", "web3": "UP"}
        assert haproxy.served_by() == {"web3"}
        back = states(tell(haproxy, "flip", enter=blue, leave=green))
        assert back == {"web1": "UP", "web2": "UP", "web3": "DRAIN"}
        assert haproxy.served_by() == {"web1", "web2"}
    assert clients.lost == []
    assert clients.answers > 20


def test_nothing_is_flipped_to_a_server_that_is_ill(haproxy: Balancer, web: Web) -> None:
    states(tell(haproxy, "drain", "web3"))
    falls_ill(haproxy, web, "web3")
    done = tell(haproxy, "flip", enter=["web3"], leave=["web1", "web2"], up_deadline=0.5)
    assert done.exit == 1
    assert done.err.startswith("nothing was flipped: after 0.5 s the check of web/web3 says ")
    assert haproxy.served_by() == {"web1", "web2"}


def test_quiet_waits_for_what_runs_and_leaves_the_server_in_rotation(
    haproxy: Balancer, web: Web
) -> None:
    later = busy(haproxy, web, 2)
    late = tell(haproxy, "quiet", deadline=0.5)
    assert late.exit == 1
    assert late.err.startswith("not idle after 0.5 s: web/web1 has 1 sessions")
    assert tell(haproxy, "quiet", deadline=0.1, then="go-on").exit == 0
    assert states(tell(haproxy, "quiet"))["web1"] == "UP"
    later.join(3)
    assert later.answer == "web1"
