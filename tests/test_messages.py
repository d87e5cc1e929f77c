"""The wall: what bad input gets, word for word, with its exit code. No host is needed here; those
that need hosts are in ``tests/lab/test_bad_input.py``."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import paramiko
import pydantic
import pytest
import yaml

import fabfile
from fabfile import course, errors, program
from inventories.errors import FabfleetError, InventoryError, UsageError
from inventories.model import Host
from roles.app import AppSettings, SecretSettings
from roles.hooks import Hook
from roles.registry import roles
from roles.settings import Settings, read

CHECKOUT = Path(__file__).resolve().parents[1]
ALL = "inventories/prod/group_vars/all.yml: "
HOSTS = {"web": {"hosts": {"web1": None, "web2": None}}, "db": {"hosts": {"db1": None}}}


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class Project:
    """A folder with one environment of local hosts, and the real command line to try on it."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self.patch, self.capture = folder, patch, capture
        self.root = folder / "srv"
        self.site = folder / "site"
        self.site.mkdir()
        (self.site / "index.html").write_text("hello\n")

    def write(self, hosts: object = HOSTS, **settings: Any) -> None:
        """The inventory; ``settings`` replace keys of a role's mapping or take them away (None)."""
        variables: dict[str, Any] = {
            "ansible_connection": "local",
            "app": {"name": "shop", "root": f"{self.root}/{{{{ inventory_hostname }}}}"},
            "release": {"folder": "site"},
            "migrations": {"host": "web1", "command": []},
            "static": {"command": []},
        }
        for role, changes in settings.items():
            if isinstance(changes, dict):
                merged = {**variables.get(role, {}), **changes}
                variables[role] = {key: each for key, each in merged.items() if each is not None}
            else:
                variables[role] = changes
        self.file("hosts.yml", hosts)
        self.file("group_vars/all.yml", variables)

    def file(self, name: str, content: object) -> Path:
        path = self.folder / "inventories" / "prod" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    def git(self, *words: str) -> str:
        settings = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "gc.auto=0")
        done = subprocess.run(["git", "-C", str(self.site), *settings, *words],
                              capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> str:
        """The site as a repository with one commit on main; its id."""
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "one")
        self.write(release={"folder": None, "repository": "site"})
        return self.git("rev-parse", "HEAD")

    def fab(self, *words: str) -> Ended:
        """``fab WORDS`` in this process."""
        self.patch.setattr(sys, "argv", ["fab", *words])
        with pytest.raises(SystemExit) as end:
            sys.exit(program.main())  # type: ignore[func-returns-value]
        told = self.capture.readouterr()
        code = end.value.code
        return Ended(code if isinstance(code, int) else 0, told.out, told.err)


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Project:
    for name in list(os.environ):
        if name.startswith(("FABFLEET_", "GIT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FABFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FABFLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path, monkeypatch, capsys)
    made.write()
    return made


def refused(project: Project, code: int, message: str, *words: str) -> None:
    """The exact text on standard error, the code, and nothing begun: no deploy root, no journal."""
    ended = project.fab(*words)
    assert (ended.err, ended.code) == (message + "\n", code)
    assert not project.root.exists()
    assert not (project.folder / "state").exists()


# --- what is typed --------------------------------------------------------------------------------

THERE_ARE = "there are: db1,web[1-2]; groups: all, db, ungrouped, web."
TYPED = {
    "deploy --env=prdo": "--env=prdo: no such environment in inventories/; there are: prod."
                         " Did you mean prod?",
    "deploy": "--env: names no environment of inventories/; there are: prod.",
    "deploy --env=prod --inventory=nowhere":
        "--inventory=nowhere: no such folder; it holds the environments",
    "deploy --env=prod --strategy=roling":
        "--strategy=roling: expected one of rolling, together, blue-green",
    "deploy --env=prod --hosts=wbe1":
        f"--hosts 'wbe1': no host or group wbe1 in prod; {THERE_ARE} Did you mean web1?",
    "status --env=prod --hosts=@wbe":
        f"--hosts '@wbe': no group wbe in prod; {THERE_ARE} Did you mean web?",
    "deploy --env=prod --hosts=x*": f"--hosts 'x*': matches no host of prod; {THERE_ARE}",
    "deploy --env=prod --hosts=web1!web1":
        f"--hosts 'web1!web1': matches no host of prod; {THERE_ARE}",
    # An empty variable of a script must never mean the whole fleet.
    "deploy --env=prod --hosts=": f"--hosts: names no host of prod; {THERE_ARE}",
    "restart --env=prod --hosts=": f"--hosts: names no host of prod; {THERE_ARE}",
    "rollback --env=prod --hosts=": f"--hosts: names no host of prod; {THERE_ARE}",
    "deploy --env=prod --hosts=db1":
        "--hosts=db1: none of these gets the code; those that do: web1, web2",
    "deploy --env=prod --hosts=web[1-":
        "--hosts 'web[1-': is no host pattern: missing bracket: \"web[1-\";"
        " write web1,db1 or web[1-3] or web* or @web!web1.",
    "deploy --env=prod --ref=v1":
        f"--ref, --worktree: {ALL}release.folder is a plain folder without refs",
    "-H web1 deploy --env=prod":
        "-H: options stand after the task's name, as in fab deploy --env=prod;"
        " hosts are chosen with --hosts. See fab --list",
    "deploy -H web1": "-H: fab deploy has no such option. See fab --help deploy",
    "--env=prod deploy":
        "--env: options stand after the task's name, as in fab deploy --env=prod. See fab --list",
    "deploy --host=web1":
        "--host: fab deploy has no such option. Did you mean --hosts? See fab --help deploy",
    "deploy --hosts": "--hosts: needs a value",
    "deplyo": "deplyo: no such task. Did you mean deploy? See fab --list",
    "manage --env=prod": "fab manage: expected a command after --, as in "
                         "fab manage --env=prod -- showmigrations catalog",
    "manage --env=prod --": "fab manage: expected a command after --, as in "
                            "fab manage --env=prod -- showmigrations catalog",
    "lab.cut": "fab: 'lab.cut' did not receive required positional arguments: 'host'",
}


@pytest.mark.parametrize(("words", "message"), TYPED.items())
def test_what_is_typed_wrong(project: Project, words: str, message: str) -> None:
    refused(project, 2, message, *words.split())


def test_the_real_process_ends_with_the_code_and_no_traceback(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fabfile.program", "deploy", "--env=prdo"], text=True,
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", TYPED["deploy --env=prdo"] + "\n", 2)


# --- what stands in the inventory -----------------------------------------------------------------

NO_HOST = "no migration host; name the one host on which migrations run, one of: web1, web2"
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"wsgi": {"worker": 3}}, ALL + (
        "wsgi.worker: unknown key. Did you mean workers? Known keys: application, bind, check, "
        "graceful_timeout, groups, health, keep, manager, method, options, server, "
        "socket_activation, supervisorctl, supervisord, threads, timeout, unit, workers")),
    "unknown key, further in": ({"wsgi": {"health": {"pth": "/"}}}, ALL + (
        "wsgi.health.pth: unknown key. Did you mean path? Known keys: body, deadline, host, "
        "in_a_row, path, release, status, timeout")),
    "unknown key in a list in a mapping": (
        {"hooks": {"before": {"roll": [{"run": "x", "tiemout": 1}]}}},
        ALL + "hooks.before.roll.0.tiemout: unknown key. Did you mean timeout? Known keys: on, "
              "run, timeout"),
    "wrong type": ({"wsgi": {"workers": "many"}},
                   ALL + "wsgi.workers: expected a whole number, got 'many'"),
    "half a worker": ({"wsgi": {"workers": 1.5}},
                      ALL + "wsgi.workers: expected a whole number, got 1.5"),
    "out of range": ({"wsgi": {"workers": 0}}, ALL + "wsgi.workers: expected 1 or more, got 0"),
    "several types": ({"app": {"env": {"A": [1]}}}, ALL + (
        "app.env.A: expected text or a whole number or a number or true or false, got a list")),
    "no name for a variable": ({"app": {"env": {"1A": "hunter2"}}},
                               ALL + "app.env: '1A' is not a name for an environment variable"),
    "missing": ({"app": {"name": None}},
                ALL + "app.name: missing; it has no default, so please set it"),
    "a name that cannot be": ({"app": {"name": "My Shop"}}, ALL + (
        "app.name: expected text that matches ^[a-z][a-z0-9-]{0,30}$, got 'My Shop'")),
    "not a mapping": ({"wsgi": [1]}, ALL + "wsgi: expected a mapping of settings, got a list"),
    "one of several": ({"deploy": {"strategy": "roling"}},
                       ALL + "deploy.strategy: expected 'rolling', 'together' or 'blue-green', got "
                             "'roling'"),
    "no such moment": ({"hooks": {"before": {"rol": []}}}, ALL + (
        "hooks.before.rol: expected 'stage', 'stop', 'migrate', 'switch', 'start', 'roll', 'turn' "
        "or 'finish', got 'rol'")),
    "a hook on no host": ({"hooks": {"before": {"roll": [{"run": "x", "on": "web9"}]}}}, ALL + (
        "hooks.before.roll.0.on: expected controller, each or one of web1, web2, got 'web9'")),
    "no source": ({"release": {"folder": None}},
                  ALL + "release: expected either repository or folder"),
    "two sources": ({"release": {"repository": "site"}},
                    ALL + "release: expected either repository or folder"),
    "a relative root": ({"app": {"root": "srv"}},
                        ALL + "app.root: expected an absolute path, got 'srv'"),
    "no application": ({"wsgi": {"application": "config"}}, ALL + (
        "wsgi.application: expected module:name, as in config.wsgi:application, got 'config'")),
    "no address": ({"wsgi": {"bind": "8000"}}, ALL + (
        "wsgi.bind: expected host:port or the absolute path of a socket, got '8000'")),
    "a secret without a source": ({"app": {"secrets": {"TOKEN": {}}}}, ALL + (
        "app.secrets.TOKEN: expected exactly one of env, file and command")),
    "a secret whose source is empty": ({"app": {"secrets": {"TOKEN": {"env": None}}}}, ALL + (
        "app.secrets.TOKEN: expected exactly one of env, file and command")),
    "a secret with two sources": ({"app": {"secrets": {"TOKEN": {"env": "A", "file": "b"}}}},
                                  ALL + (
        "app.secrets.TOKEN: expected exactly one of env, file and command")),
    "a secret itself is not repeated": (
        {"app": {"secrets": {"TOKEN": "hunter2"}}},
        ALL + "app.secrets.TOKEN: expected a mapping, got something else"),
    "no migration host": (
        {"migrations": {"host": None}},
        f"inventories/prod/group_vars/all.yml: migrations.host: {NO_HOST}"),
    "a migration host without code": ({"migrations": {"host": "db1"}}, ALL + (
        "migrations.host: db1 is none of the hosts that get the code: web1, web2")),
    "a group as the migration host": ({"migrations": {"host": "web"}}, ALL + (
        "migrations.host: two migration hosts: the group web has web1, web2; there must be exactly "
        "one")),
    "no such folder": ({"release": {"folder": "nowhere"}},
                       ALL + "release.folder: nowhere: no such folder"),
    "not a repository": (
        {"release": {"folder": None, "repository": "site"}},
        ALL + "release.repository: site is no git repository; for a plain folder set "
              "release.folder instead"),
    "neither folder nor URL": (
        {"release": {"folder": None, "repository": "nowhere"}},
        ALL + "release.repository: nowhere: no such folder, and no URL of a repository either"),
    "a template's mistake": ({"app": {"env": {"A": "{{ nope }}"}}}, "\n".join(
        f"{ALL}app.env.A: 'nope' is undefined (host {host})" for host in ("web1", "web2"))),
    "connection": ({"ansible_connection": "winrm"},
                   ALL + "ansible_connection: expected ssh or local, got 'winrm'"),
}


@pytest.mark.parametrize(("settings", "message"), BROKEN.values(), ids=list(BROKEN))
def test_what_stands_wrong_in_the_inventory(
    project: Project, settings: dict[str, Any], message: str
) -> None:
    project.write(**settings)
    refused(project, 2, message, "deploy", "--env=prod")


def test_all_problems_are_said_at_once(project: Project) -> None:
    project.write(wsgi={"workers": 0, "threads": 0}, release={"keep": 0})
    lines = [f"{ALL}release.keep", f"{ALL}wsgi.workers", f"{ALL}wsgi.threads"]
    message = "\n".join(f"{line}: expected 1 or more, got 0" for line in lines)
    refused(project, 2, message, "plan", "--env=prod")


def test_two_migration_hosts(project: Project) -> None:
    project.file("host_vars/web2.yml", {"migrations": {"host": "web2", "command": []}})
    refused(
        project, 2, f"{ALL}migrations.host: two migration hosts: web1 ({ALL}migrations.host) and "
        "web2 (inventories/prod/host_vars/web2.yml: migrations.host); there must be exactly one",
        "deploy", "--env=prod",
    )


def test_hosts_that_disagree(project: Project) -> None:
    project.file("host_vars/web2.yml", {"release": {"folder": "other"}})
    refused(
        project, 2, "inventories/prod/host_vars/web2.yml: release: differs from the one of web1 "
        f"({ALL}release); it has to be the same on all hosts", "deploy", "--env=prod",
    )
    project.file("host_vars/web2.yml", {"app": {"name": "shap"}})
    refused(
        project, 2, "inventories/prod/host_vars/web2.yml: app.name: shap, but web1 has shop; one "
        "environment deploys one application", "deploy", "--env=prod",
    )


def test_broken_yaml(project: Project) -> None:
    project.file("hosts.yml", "web:\n  hosts: {web1: }}\n")
    refused(project, 2, "inventories/prod/hosts.yml: line 2, column 18: did not find expected key",
            "deploy", "--env=prod")
    project.file("hosts.yml", HOSTS)
    project.file("group_vars/all.yml", "app: {name: shop\n")
    refused(project, 2, f"{ALL}line 2, column 1: did not find expected ',' or '}}'",
            "status", "--env=prod")


def test_no_hosts(project: Project) -> None:
    project.write(hosts="")
    refused(project, 2, "inventories/prod: no hosts; add some to the group web",
            "deploy", "--env=prod")
    project.write(hosts={"db": {"hosts": {"db1": None}}})
    refused(project, 2, "inventories/prod: no host gets the code; put hosts in one of the groups "
            "web, worker, scheduler", "deploy", "--env=prod")


def test_the_teams_known_hosts_is_no_inventory_source(project: Project) -> None:
    project.file("known_hosts", "10.0.0.1 ssh-ed25519 AAAA\n")
    assert project.fab("inventory", "--env=prod").code == 0
    # Nor is it one where Ansible reads the folder for us.
    project.file("more.ini", "[web]\nweb3 ansible_connection=local\n")
    ended = project.fab("inventory", "--env=prod")
    assert "  web: web1, web2, web3\n" in ended.out, ended.err


# --- what is to be deployed -----------------------------------------------------------------------


def test_a_ref_that_is_not_there(project: Project) -> None:
    project.commit()
    project.git("tag", "v1")
    refused(project, 2, "--ref=v9: no such branch, tag or commit in site; the newest are: main, v1",
            "deploy", "--env=prod", "--ref=v9")
    project.write(release={"folder": None, "repository": "site", "ref": "v8"})
    refused(project, 2, f"{ALL}release.ref=v8: no such branch, tag or commit in site; "
            "the newest are: main, v1", "deploy", "--env=prod")


def test_a_repository_without_a_commit(project: Project) -> None:
    project.git("init", "-q", "-b", "main")
    project.write(release={"folder": None, "repository": "site"})
    refused(project, 2, f"{ALL}release.ref=HEAD: no such branch, tag or commit in site; it has no "
            "commit yet", "deploy", "--env=prod")


def test_a_dirty_work_tree(project: Project) -> None:
    commit = project.commit()
    (project.site / "index.html").write_text("changed\n")
    (project.site / "new.html").write_text("new\n")
    refused(
        project, 3, f"site: the work tree has changes that commit {commit[:7]} does not hold:\n"
        "   M index.html\n  ?? new.html\n"
        "Commit or stash them, or ship them as they are with --worktree", "deploy", "--env=prod",
    )


def test_an_empty_release(project: Project) -> None:
    project.write(release={"exclude": ["*"]})
    refused(project, 3, "site: the release would be empty; check release.exclude and the ref",
            "deploy", "--env=prod")


def test_a_lock_that_is_not_in_the_release(project: Project) -> None:
    project.write(python={"lock": "requirements.txt"})
    refused(project, 2, f"{ALL}python.lock: requirements.txt is not in the release",
            "deploy", "--env=prod")


# --- secrets --------------------------------------------------------------------------------------

SECRETS = {
    "env": ({"env": "SHOP_TOKEN"}, "secret env:SHOP_TOKEN: this environment variable is not set "
                                   "here; export it first"),
    "file": ({"file": "/nowhere/token"}, "secret file:/nowhere/token: No such file or directory"),
    "command": ({"command": "echo hunter2; exit 7"},
                "secret command:echo hunter2; exit 7: exit status 7: "),
}


@pytest.mark.parametrize("source", SECRETS)
def test_a_secret_that_cannot_be_had(project: Project, source: str) -> None:
    reference, message = SECRETS[source]
    project.write(app={"secrets": {"TOKEN": reference}})
    refused(project, 2, f"{ALL}app.secrets.TOKEN: {message}", "deploy", "--env=prod")


# --- asked of hosts that are this machine ---------------------------------------------------------


def test_confirm_where_nobody_can_be_asked(project: Project) -> None:
    project.write(deploy={"confirm": True})
    project.patch.setattr(sys, "stdin", io.StringIO())
    refused(project, 3, "deploy.confirm is set and nobody can be asked here; add --yes",
            "deploy", "--env=prod")


def test_nothing_to_go_back_to(project: Project) -> None:
    refused(project, 3, "prod: there is nothing to go back to: web1 has no earlier good release. "
            "See fab releases --env=prod", "rollback", "--env=prod")
    refused(project, 3, "--to=v1: no host has this release; on all hosts there are: none",
            "rollback", "--env=prod", "--to=v1")


def test_restart_before_the_first_deploy(project: Project) -> None:
    refused(project, 3, "web1, web2: nothing was deployed yet; fab deploy --env=prod comes first",
            "restart", "--env=prod")


# --- every setting of every role ------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One field of a role's settings, however deep. ``wrapped`` puts a mapping where its model
    stands; ``others`` are what that model needs beside the field."""

    role: str
    path: tuple[str, ...]
    model: type[pydantic.BaseModel]
    name: str
    wrapped: Callable[[dict[str, Any]], dict[str, Any]]

    @property
    def where(self) -> str:
        return ".".join(("x.yml: " + self.role, *self.path, self.name))

    def read(self, value: object, name: str | None = None) -> str:
        """What ``read`` says when the field, or ``name`` in its stead, is ``value``."""
        inner = {**NEEDED.get(self.model, {}), name or self.name: value}
        variables = {self.role: self.wrapped(inner)}
        host = Host("web1", (), variables, {self.role: "x.yml"}, "x.yml", {})
        model = next(each.settings for each in roles() if each.name == self.role)
        with pytest.raises(InventoryError) as error:
            read(model, host, self.role)
        return str(error.value)


NEEDED: Mapping[type, dict[str, Any]] = {AppSettings: {"name": "shop"}, Hook: {"run": "true"}}


def places() -> Iterator[Place]:
    for role in roles():
        yield from below(role.name, (), role.settings, lambda inner: inner)


def below(
    role: str, path: tuple[str, ...], model: type[pydantic.BaseModel],
    wrapped: Callable[[dict[str, Any]], dict[str, Any]],
) -> Iterator[Place]:
    for name, field in model.model_fields.items():
        yield Place(role, path, model, name, wrapped)
        for keys, inner in models_in(without_none(field.annotation)):
            def deeper(
                value: Any, name: str = name, keys: tuple[str | int, ...] = keys
            ) -> dict[str, Any]:
                for key in reversed(keys):
                    value = [value] if isinstance(key, int) else {key: value}
                return wrapped({**NEEDED.get(model, {}), name: value})

            yield from below(role, (*path, name, *map(str, keys)), inner, deeper)


def without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        left = [each for each in get_args(kind) if each is not NoneType]
        return left[0] if len(left) == 1 else kind
    return kind


def models_in(kind: Any) -> Iterator[tuple[tuple[str | int, ...], type[pydantic.BaseModel]]]:
    """The models inside of a type, each with the keys that lead to it."""
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        yield (), kind
    elif get_origin(kind) is list:
        for keys, model in models_in(get_args(kind)[0]):
            yield (0, *keys), model
    elif get_origin(kind) is dict:
        key = get_args(kind)[0]
        first = get_args(key)[0] if get_origin(key) is Literal else "NAME"
        for keys, model in models_in(get_args(kind)[1]):
            yield (first, *keys), model


PLACES = list(places())
WRONG: Mapping[Any, tuple[object, str]] = {
    str: (5, "text, got 5"),
    int: ("word", "a whole number, got 'word'"),
    float: ("word", "a number, got 'word'"),
    bool: ("word", "true or false, got 'word'"),
    list: ("word", "a list, got 'word'"),
    dict: ("word", "a mapping, got 'word'"),
}


def wrong(kind: Any) -> tuple[object, str]:
    """A value that is not of this type, and what is said of it."""
    kind = without_none(kind)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        *most, last = (repr(each) for each in get_args(kind))
        return "nonsense", f"{', '.join(most)} or {last}, got 'nonsense'"
    if isinstance(kind, type) and issubclass(kind, Settings):
        return WRONG[dict]
    if get_origin(kind) in (Union, UnionType):
        kinds = [get_origin(each) or each for each in get_args(kind) if each is not NoneType]
        value, got = ({}, "a mapping") if int in kinds else (5, "5")
        expected = " or ".join(WRONG[each][1].partition(", got")[0] for each in kinds)
        return value, f"{expected}, got {got}"
    return WRONG[get_origin(kind) or kind]


def ids(place: Place) -> str:
    return ".".join((place.role, *place.path, place.name))


def test_the_walk_through_the_models_finds_what_is_deep() -> None:
    found = {ids(place) for place in PLACES}
    assert {"wsgi.health.deadline", "app.secrets.NAME.env", "hooks.before.stage.0.run",
            "release.keep", "migrations.host"} <= found


@pytest.mark.parametrize("place", PLACES, ids=ids)
def test_every_setting_refuses_another_type(place: Place) -> None:
    kind = place.model.model_fields[place.name].annotation
    value, message = wrong(kind)
    if "secrets" in (*place.path, place.name) or without_none(kind) is SecretSettings:
        message = re.sub(r"got .*", "got something else", message)
    assert place.read(value) == f"{place.where}: expected {message}"


@pytest.mark.parametrize("place", PLACES, ids=ids)
def test_every_setting_is_named_when_it_is_misspelled(place: Place) -> None:
    wrong_name = place.name + place.name[-1]
    known = ", ".join(sorted(place.model.model_fields))
    assert place.read("x", wrong_name) == (
        f"{place.where}{place.name[-1]}: unknown key. Did you mean {place.name}? "
        f"Known keys: {known}"
    )


LIMITS = [
    (place, bound) for place in PLACES
    for bound in place.model.model_fields[place.name].metadata
    if hasattr(bound, "ge") or hasattr(bound, "gt")
]


@pytest.mark.parametrize(("place", "bound"), LIMITS, ids=lambda each: getattr(each, "name", ""))
def test_every_limit_is_said(place: Place, bound: Any) -> None:
    if hasattr(bound, "ge"):
        value, expected = bound.ge - 1, f"{bound.ge} or more"
    else:
        value, expected = bound.gt, f"more than {bound.gt}"
    assert place.read(value) == f"{place.where}: expected {expected}, got {value}"


def test_no_setting_has_a_limit_that_is_not_tested_here() -> None:
    others = {
        ids(place): [each for each in place.model.model_fields[place.name].metadata
                     if not hasattr(each, "ge") and not hasattr(each, "gt")]
        for place in PLACES
    }
    assert [name for name, each in others.items() if each] == ["app.name"]  # its pattern, above


# --- errors and exit codes ------------------------------------------------------------------------


def documented_codes() -> set[int]:
    assert errors.__doc__
    return {int(code) for code in re.findall(r"^\| (\d+) \|", errors.__doc__, re.MULTILINE)}


def test_each_error_has_an_exit_code_of_its_own() -> None:
    codes = {name: getattr(errors, name).exit_code for name in errors.__all__}
    assert codes == {
        "FabfleetError": 1, "Failed": 1, "InventoryError": 2, "UsageError": 2, "Refused": 3,
        "Pending": 4, "Unavailable": 69, "LockHeld": 75, "Interrupted": 130,
    }
    assert documented_codes() == {0, *codes.values()}


def test_no_error_anywhere_has_a_code_that_is_not_documented() -> None:
    waiting: list[type[FabfleetError]] = [FabfleetError]
    while waiting:
        each = waiting.pop()
        assert each.exit_code in documented_codes(), each
        waiting += each.__subclasses__()


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_is_its_text_and_its_code(project: Project, name: str) -> None:
    error = getattr(errors, name)

    def fail(*_: object) -> None:
        raise error("web1: this is why")

    project.patch.setattr(course, "carry_out", fail)
    refused(project, error.exit_code, "web1: this is why", "deploy", "--env=prod")


def validation_error() -> pydantic.ValidationError:
    with pytest.raises(pydantic.ValidationError) as error:
        AppSettings.model_validate({})
    return error.value


FOREIGN: list[Exception] = [
    paramiko.SSHException("banner"), paramiko.AuthenticationException("no"),
    OSError(28, "No space left on device"), EOFError(), TimeoutError("late"), validation_error(),
    yaml.YAMLError("a tab"), subprocess.CalledProcessError(1, ["git"]),
    subprocess.TimeoutExpired(["git"], 1), KeyError("tree"), RuntimeError("thread"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), RecursionError(),
]


@pytest.mark.parametrize("error", FOREIGN, ids=lambda each: type(each).__name__)
def test_no_foreign_exception_leaves_as_a_traceback(project: Project, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    project.patch.setattr(course, "carry_out", fail)
    refused(
        project, 1, "this is a defect of Fabfleet, please report it: "
        f"{type(error).__name__}: {error}\n(FABFLEET_DEBUG=1 shows where)", "deploy", "--env=prod",
    )


def test_debug_shows_where(project: Project) -> None:
    def fail(*_: object) -> None:
        raise KeyError("tree")

    project.patch.setattr(course, "carry_out", fail)
    project.patch.setenv("FABFLEET_DEBUG", "1")
    with pytest.raises(KeyError):
        project.fab("deploy", "--env=prod")


def test_every_task_is_guarded() -> None:
    for name in fabfile.ns.task_names:
        if name == "test":  # pytest and the linters, for whoever develops Fabfleet
            continue
        body = fabfile.ns[name].body
        assert hasattr(body, "__wrapped__"), name
        assert "guarded" in body.__code__.co_name, name


def test_ctrl_c_while_loading(project: Project) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    project.patch.setattr(course, "carry_out", interrupt)
    refused(project, 130, "interrupted", "deploy", "--env=prod")


def test_trouble_of_this_machine_is_no_defect(project: Project) -> None:
    cache = project.folder / "cache"
    cache.write_text("a file where a folder is needed")
    project.write(release={"folder": None, "repository": "file:///nowhere"})
    refused(project, 1, f"{cache}/git: Not a directory", "deploy", "--env=prod")


def test_done_is_zero(project: Project) -> None:
    assert project.fab("plan", "--env=prod").code == 0
    assert UsageError.exit_code == 2
