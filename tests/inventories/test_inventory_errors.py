"""The wall: what is wrong, where, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventories.errors import InventoryError, UsageError
from inventories.load import environments, load
from tests.inventories.cases import Load, Write

HOSTS = "inventories/prod/hosts.yml: "

BROKEN_HOSTS = {
    "web: {hosts: [web1]}": "web.hosts: expected a mapping of names, got a list",
    "web: {hosts: {web1: 5}}": "web.hosts.web1: expected a mapping of variables, got 5",
    "web: {hosts: {web1: [a]}}": "web.hosts.web1: expected a mapping of variables, got a list",
    "web: {hosts: {1: }}": "web.hosts: expected a host's name, got 1",
    "web: {hosts: {'': }}": "web.hosts: expected a host's name, got ''",
    "web: {hosts: {web1: {2: a}}}": "web.hosts.web1: expected a variable's name, got 2",
    "web: {vars: debug}": "web.vars: expected a mapping of variables, got 'debug'",
    "web: {vars: {null: a}}": "web.vars: expected a variable's name, got nothing",
    "web: {children: [a]}": "web.children: expected a mapping of names, got a list",
    "web: {children: {1: }}": "web.children: expected a group's name, got 1",
    "web: [web1]": "web: expected a mapping of hosts, vars or children, got a list",
    "2024-01-01: ": "expected a group's name, got '2024-01-01'",
    "[web]": "expected a mapping of groups, got a list",
    "web: {host: {web1: }}": (
        "web.host: unknown key; a group has hosts, vars, children. Did you mean hosts?"
    ),
    "all: {children: {web: {hostvars: }}}": (
        "all.children.web.hostvars: unknown key; a group has hosts, vars, children."
        " Did you mean hosts?"
    ),
    "all: {web: {hosts: {web1: }}}": ("all.web: unknown key; a group has hosts, vars, children."),
    "web: {vars: {ansible_group_priority: high}}": (
        "web.vars.ansible_group_priority: expected a number, got 'high'"
    ),
    "a: {children: {a: }}": "a.children.a: a group cannot contain itself: a -> a",
    "a: {children: {b: {children: {c: {children: {a: }}}}}}": (
        "a.children.b.children.c.children.a: a group cannot contain itself: c -> a -> b -> c"
    ),
    "a: {children: {b: }}\nb: {children: {c: }}\nc: {children: {a: }}": (
        "c.children.a: a group cannot contain itself: c -> a -> b -> c"
    ),
    "a: {children: {all: }}": "a.children.all: all contains every group and is in none",
    "a: {children: {ungrouped: }}": (
        "a.children.ungrouped: ungrouped holds the hosts of no group and is in none"
    ),
    "ungrouped: {children: {a: }}": "ungrouped.children.a: ungrouped holds hosts and no groups",
    "w: {hosts: {'w[1:': }}": "w.hosts.w[1:: a range has no closing bracket",
    "w: {hosts: {'w[1]': }}": ("w.hosts.w[1]: range [1] is not [begin:end] or [begin:end:step]"),
    "w: {hosts: {'w[1-3]': }}": (
        "w.hosts.w[1-3]: range [1-3] is not [begin:end] or [begin:end:step]"
    ),
    "w: {hosts: {'w[1:3:0]': }}": (
        "w.hosts.w[1:3:0]: range [1:3:0] is not [begin:end] or [begin:end:step]"
    ),
    "w: {hosts: {'w[3:1]': }}": "w.hosts.w[3:1]: range [3:1] ends before it begins",
    "w: {hosts: {'w[c:a]': }}": "w.hosts.w[c:a]: range [c:a] ends before it begins",
    "w: {hosts: {'w[01:100]': }}": (
        "w.hosts.w[01:100]: range [01:100] pads its begin and its end differently"
    ),
    "web:\n  hosts:\n\tweb1:": ("line 3, column 1: found character that cannot start any token"),
    "web: {hosts: {web1: }\n": "line 2, column 1: did not find expected ',' or '}'",
    "web:\n  hosts:\n    web1:\n  hosts:\n    web2:": (
        "line 4, column 3: key 'hosts' stands already on line 2"
    ),
    "web: {hosts: {web1: {a: 1, b: [{c: 1, c: 2}]}}}": (
        "line 1, column 39: key 'c' stands already on line 1"
    ),
    '{"web": {},\n "web": {}}': "line 2, column 2: key 'web' stands already on line 1",
    "web: {vars: {a: !secret b}}": (
        "line 1, column 17: could not determine a constructor for the tag '!secret'"
    ),
    "web: {vars: {a: !vault [b]}}": (
        "line 1, column 17: !vault stands before something that is not text"
    ),
    "web: {vars: {a: *b}}": "line 1, column 17: found undefined alias",
    "web: {}\n---\ndb: {}": "line 2, column 1: but found another document",
}


@pytest.mark.parametrize(("hosts", "message"), BROKEN_HOSTS.items(), ids=list(BROKEN_HOSTS))
def test_a_broken_inventory_file(prod: Load, hosts: str, message: str) -> None:
    with pytest.raises(InventoryError) as error:
        prod(hosts)
    assert str(error.value) == HOSTS + message


BROKEN_VARIABLES = {
    "group_vars/web.yml": ("- a", "expected a mapping of variables, got a list"),
    "group_vars/all": ("word", "expected a mapping of variables, got 'word'"),
    "group_vars/web/x.yaml": ("1: a", "expected a variable's name, got 1"),
    "host_vars/web1.json": ('{"a": [\n', "line 2, column 1: did not find expected node content"),
    "host_vars/web1.yml": (
        "a: b: c",
        "line 1, column 5: mapping values are not allowed in this context",
    ),
}


@pytest.mark.parametrize("file", BROKEN_VARIABLES)
def test_a_broken_variables_file(prod: Load, file: str) -> None:
    text, message = BROKEN_VARIABLES[file]
    with pytest.raises(InventoryError) as error:
        prod("web: {hosts: {web1: }}", **{file: text})
    assert str(error.value) == f"inventories/prod/{file}: {message}"


def test_text_that_is_not_utf8(prod: Load, write: Write) -> None:
    (write({"hosts.yml": ""}) / "more.yml").write_bytes(b"a: \xff")
    with pytest.raises(InventoryError) as error:
        load("prod", Path("inventories"))
    assert str(error.value) == "inventories/prod/more.yml: is not UTF-8 text: invalid start byte"


@pytest.fixture
def inventories(write: Write) -> Path:
    for environment in ("prod", "example", "lab", "local"):
        write({"hosts.yml": ""}, environment)
    return Path("inventories")


ENVIRONMENTS = {
    "prdo": (
        "--env=prdo: no such environment in inventories/; there are: example, lab, local, prod."
        " Did you mean prod?"
    ),
    "zzz": "--env=zzz: no such environment in inventories/; there are: example, lab, local, prod.",
    "../prod": (
        "--env=../prod: no such environment in inventories/; there are: example, lab, local, prod."
        " Did you mean prod?"
    ),
    "": "--env: names no environment of inventories/; there are: example, lab, local, prod.",
}


@pytest.mark.parametrize(("name", "message"), ENVIRONMENTS.items())
def test_an_unknown_environment(inventories: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load(name, inventories)
    assert str(error.value) == message


def test_no_environments(project: Path) -> None:
    with pytest.raises(UsageError) as error:
        load("prod", Path("inventories"))
    assert str(error.value) == "--env=prod: inventories/ holds no environments yet"


def test_environments_are_what_holds_an_inventory(inventories: Path, write: Write) -> None:
    write({"x.pyc": "", "y.py": ""}, "__pycache__")
    write({"README.md": "", "group_vars/all.yml": "a: 1"}, "draft")
    write({"all.yml": "a: 1"}, "group_vars")
    write({"sub/hosts.yml": ""}, "nested")
    for name in ("__init__.py", "notes.md", "single.yml", "plain", ".hidden.yml"):
        (inventories / name).write_text("")
    assert environments(inventories) == (
        "example", "lab", "local", "nested", "plain", "prod", "single",
    )  # fmt: skip


def test_a_file_is_an_environment_with_group_vars_beside_it(project: Path) -> None:
    (project / "group_vars").mkdir()
    (project / "group_vars" / "web.yml").write_text("a: 1")
    (project / "single.yml").write_text("web: {hosts: {web1: }}")
    inventory = load("single", project)
    assert inventory.hosts["web1"].variables == {"a": 1}
    assert inventory.hosts["web1"].where("a") == "group_vars/web.yml: a"
    assert inventory.hosts["web1"].where("b") == "single.yml: b"


def test_paths_outside_the_current_folder_are_absolute(
    inventories: Path,
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    hosts = project / "inventories/prod/hosts.yml"
    hosts.write_text("web: 5")
    with pytest.raises(InventoryError) as error:
        load("prod", project / "inventories")
    assert str(error.value).startswith(f"{hosts}: web: ")


def test_an_unknown_group(prod: Load) -> None:
    inventory = prod("web: {hosts: {web1: }}")
    with pytest.raises(InventoryError) as error:
        inventory.group("wbe")
    assert str(error.value) == (
        "inventories/prod: no group wbe; there are: all, ungrouped, web. Did you mean web?"
    )
