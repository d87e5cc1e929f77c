from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inventories.errors import UsageError
from inventories.model import Host, Inventory
from tests.inventories.cases import Load

FLEET = """
    all:
      children:
        worker: {hosts: {worker1: , web3: }}
        site: {children: {web: , db: }}
        web: {hosts: {"web[1:12]": }}
        db: {hosts: {"db[01:03].eu": }}
        empty: {}
      hosts: {solo: , "10.0.0.7": }
"""
THERE_ARE = (
    "there are: 10.0.0.7,db[01-03].eu,solo,web[1-12],worker1;"
    " groups: all, db, empty, site, ungrouped, web, worker."
)
WRITE = "write web1,db1 or web[1-3] or web* or @web!web1."


@pytest.fixture
def fleet(prod: Load) -> Inventory:
    return prod(FLEET)


def names(fleet: Inventory, pattern: str) -> str:
    return " ".join(host.name for host in fleet.select(pattern))


def selected(fleet: Inventory, pattern: str) -> tuple[Host, ...]:
    """Nothing where the pattern is refused; any other error is a bug."""
    try:
        return fleet.select(pattern)
    except UsageError:
        return ()


SELECTIONS = {
    "web3": "web3",
    " web3 , web1 ": "web3 web1",
    "web[1-3]": "web3 web1 web2",
    "web[1,3,5-6]": "web3 web1 web5 web6",
    "web[1:3]": "web3 web1 web2",
    "web[1:5:2]": "web3 web1 web5",
    "web[2-6/2]": "web2 web4 web6",
    "db[01-02].eu": "db01.eu db02.eu",
    "db[01:02].eu": "db01.eu db02.eu",
    "db0?.eu!db02.eu": "db01.eu db03.eu",
    "web1?": "web10 web11 web12",
    "w*1": "worker1 web1 web11",
    "worker": "worker1 web3",
    "@worker": "worker1 web3",
    "site!web[1-12]": "db01.eu db02.eu db03.eu",
    "web&worker": "web3",
    "@web ^ @worker": " ".join(f"web{n}" for n in range(1, 13) if n != 3),
    "all!site": "worker1 solo 10.0.0.7",
    "@all!@site": "worker1 solo 10.0.0.7",
    "@*!site": "worker1 solo 10.0.0.7",
    "10.0.0.7": "10.0.0.7",
    "ungrouped": "solo 10.0.0.7",
    "empty,solo": "solo",
}


@pytest.mark.parametrize(("pattern", "expected"), SELECTIONS.items(), ids=list(SELECTIONS))
def test_patterns(fleet: Inventory, pattern: str, expected: str) -> None:
    chosen = names(fleet, pattern)
    if pattern == "@web ^ @worker":
        expected = f"worker1 {expected}"
    assert chosen == expected


ERRORS = {
    "": f"--hosts: names no host of prod; {THERE_ARE}",
    "  ": f"--hosts: names no host of prod; {THERE_ARE}",
    "wbe1": f"--hosts 'wbe1': no host or group wbe1 in prod; {THERE_ARE} Did you mean web1?",
    "wroker": (
        f"--hosts 'wroker': no host or group wroker in prod; {THERE_ARE} Did you mean worker?"
    ),
    "zzz": f"--hosts 'zzz': no host or group zzz in prod; {THERE_ARE}",
    "web!zzz": f"--hosts 'web!zzz': no host or group zzz in prod; {THERE_ARE}",
    "web1 web2": (
        f"--hosts 'web1 web2': no host or group web1 web2 in prod; {THERE_ARE} Did you mean web12?"
    ),
    "web[11-13]": (
        f"--hosts 'web[11-13]': no host or group web13 in prod; {THERE_ARE} Did you mean web3?"
    ),
    "@wbe": f"--hosts '@wbe': no group wbe in prod; {THERE_ARE} Did you mean web?",
    "@solo": f"--hosts '@solo': no group solo in prod; {THERE_ARE}",
    "x*": f"--hosts 'x*': matches no host of prod; {THERE_ARE}",
    "empty": f"--hosts 'empty': matches no host of prod; {THERE_ARE}",
    "solo&web": f"--hosts 'solo&web': matches no host of prod; {THERE_ARE}",
    "web[1": f"--hosts 'web[1': is no host pattern: missing bracket: \"web[1\"; {WRITE}",
    "web1]": f"--hosts 'web1]': is no host pattern: illegal closing bracket: \"web1]\"; {WRITE}",
    "web[a-c]": (
        "--hosts 'web[a-c]': is no host pattern:"
        f' bad range: "cannot convert string to integer : "a-c""; {WRITE}'
    ),
    "web1,": (
        "--hosts 'web1,': is no host pattern:"
        f" missing nodeset operand with ',' operator: \"web1\"; {WRITE}"
    ),
    "!web1": (
        "--hosts '!web1': is no host pattern:"
        f" missing nodeset operand with '!' operator: \"web1\"; {WRITE}"
    ),
}


@pytest.mark.parametrize(("pattern", "message"), ERRORS.items(), ids=list(ERRORS))
def test_errors(fleet: Inventory, pattern: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        fleet.select(pattern)
    assert str(error.value) == message


WORDS = ["web1", "web[2-9]", "web*", "@db", "db", "worker", "all", "solo", "db0?.eu", "web[3:5]"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=5),
    operators=st.lists(st.sampled_from(",!&^"), min_size=5, max_size=5),
)
def test_a_selection_is_what_set_arithmetic_says_in_inventory_order(
    fleet: Inventory, words: list[str], operators: list[str]
) -> None:
    pattern = "".join(word for pair in zip(["", *operators], words, strict=False) for word in pair)
    expected: set[str] = set()
    for operator, word in zip([",", *operators], words, strict=False):
        members = {host.name for host in fleet.select(word)}
        expected = {
            ",": expected | members,
            "!": expected - members,
            "&": expected & members,
            "^": expected ^ members,
        }[operator]
    chosen = selected(fleet, pattern)
    assert [host.name for host in chosen] == [name for name in fleet.hosts if name in expected]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pattern=st.text(alphabet="web13-[]:*?@!&^,. %/", max_size=12))
def test_any_text_selects_hosts_in_inventory_order_or_is_refused(
    fleet: Inventory, pattern: str
) -> None:
    chosen = selected(fleet, pattern)
    assert chosen == tuple(host for host in fleet.hosts.values() if host in chosen)


def test_a_group_holds_the_hosts_below_it_in_inventory_order(fleet: Inventory) -> None:
    assert [host.name for host in fleet.group("worker")] == ["worker1", "web3"]
    assert len(fleet.group("site")) == 15
    assert fleet.group("empty") == ()
    assert fleet.group("all") == tuple(fleet.hosts.values())
