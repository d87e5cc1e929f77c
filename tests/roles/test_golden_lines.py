"""The whole lines that hosts see, role by role."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fabfile.engine.probe import question
from inventories.errors import InventoryError
from inventories.model import Host
from roles import backup, balancer, migrations
from roles.app import App
from roles.balancer import Balancer, BalancerSettings
from roles.command import OnController, OnHost, Run
from roles.deploy import Deploy
from roles.hooks import Hook
from roles.hooks import steps as hook_steps
from roles.onhost import ship
from roles.python import PythonRole
from roles.registry import roles
from roles.release import ReleaseRole, prepare, switch_step
from roles.role import Role, Step, Target
from roles.static import Static
from roles.wsgi import Wsgi
from tests.fabfile.fleets import (
    NEW,
    OLD,
    arguments,
    fresh,
    live,
    one_target,
    open_fleet,
    ready,
    told,
)

ODD = "/srv/o'dd $HOME\nx"
ODD_QUOTED = "/srv/o'\"'\"'dd $HOME\nx"


@pytest.fixture
def plain(tmp_path: Path) -> Target:
    """systemd; the service runs as the user who deploys."""
    return one_target(open_fleet(tmp_path))


@pytest.fixture
def owned(tmp_path: Path) -> Target:
    """systemd; the service has a user of its own."""
    return one_target(open_fleet(tmp_path, app={"user": "shop"}))


@pytest.fixture
def supervised(tmp_path: Path) -> Target:
    return one_target(open_fleet(tmp_path, wsgi={"manager": "supervisor"}))


@pytest.fixture
def odd(tmp_path: Path) -> Target:
    """Quotes, spaces, dollars and a newline wherever they may stand; nothing deployed yet."""
    environment = open_fleet(
        tmp_path, ["web1"],
        app={"root": ODD, "user": "shop", "env": {"GREETING": "it's $5\n"}},
        wsgi={"manager": "supervisor", "bind": f"{ODD}/shared/wsgi.sock"},
        static={"command": ["python", "manage.py", "collect $x", "it's"]},
        migrations={"host": "web1", "command": ["python", "manage.py", "migrate", "a b"]},
    )
    return one_target(environment, fresh("web1", tools={"rsync": "/usr/bin/rsync", "uv": ""}))


def only(role: Role, moment: str, target: Target) -> Step:
    (step,) = getattr(role, moment)(target)
    assert isinstance(step, Step)
    return step


def test_roles_come_in_the_order_of_after() -> None:
    names = [role.name for role in roles()]
    for role in roles():
        assert all(names.index(each) < names.index(role.name) for each in role.after)
    assert set(names) == {
        "app", "backup", "balancer", "chat", "deploy", "hooks", "release", "python", "migrations",
        "maintenance", "notifications", "scheduler", "static", "timers", "workers", "wsgi",
    }


def test_settings_alone_do_nothing(plain: Target) -> None:
    for moment in ("stage", "stop", "start", "restart", "confirm", "finish", "discard"):
        assert tuple(getattr(Deploy(), moment)(plain)) == ()


# --- app ----------------------------------------------------------------------------------


def test_app_secrets(tmp_path: Path) -> None:
    secrets = {"TOKEN": {"env": "SHOP_TOKEN"}, "KEY": {"file": "~/key"},
               "PW": {"command": "pass x"}}
    target = one_target(open_fleet(tmp_path, app={"user": "shop", "secrets": secrets}))
    assert told(App().stage(target)) == [
        'app.secrets: python3 -I secrets.py {"KEY": "<secret file:~/key>", '
        '"PW": "<secret command:pass x>", "TOKEN": "<secret env:SHOP_TOKEN>", '
        '"root": "/srv/shop", "user": "shop"}'
    ]


def test_app_without_secrets_brings_none(plain: Target) -> None:
    assert told(App().stage(plain)) == []


def test_the_environment_of_the_release(tmp_path: Path) -> None:
    env = {"DEBUG": False, "ON": True, "WORKERS": 4, "RATE": 0.5, "NAME": "it's $5"}
    target = one_target(open_fleet(tmp_path, app={"env": env}))
    assert target.runtime == {
        "release": NEW,
        "directory": f"/srv/shop/releases/{NEW}",
        "venv": "/srv/shop/venvs/cafe",
        "environment": {
            "DEBUG": "0", "ON": "1", "WORKERS": "4", "RATE": "0.5", "NAME": "it's $5",
            "RELEASE_ID": NEW, "FABFLEET_HOST": "web1",
            "STATIC_ROOT": f"/srv/shop/static/{NEW}",
        },
        "commands": {"wsgi": [
            "gunicorn", "--bind", "127.0.0.1:8000", "--workers", "2", "--threads", "1",
            "--timeout", "30", "--graceful-timeout", "30", "config.wsgi:application",
        ]},
    }


# --- release ------------------------------------------------------------------------------


def test_release_prepare(plain: Target, odd: Target) -> None:
    assert told([prepare(plain)]) == [
        "release.prepare: mkdir -p /srv/shop/releases /srv/shop/venvs /srv/shop/static "
        "/srv/shop/shared /srv/shop/.fabfleet/releases"
    ]
    assert told([prepare(odd)]) == [
        f"release.prepare: mkdir -p '{ODD_QUOTED}/releases' '{ODD_QUOTED}/venvs' "
        f"'{ODD_QUOTED}/static' '{ODD_QUOTED}/shared' '{ODD_QUOTED}/.fabfleet/releases'"
    ]


def test_release_stage(plain: Target) -> None:
    upload, publish = ReleaseRole().stage(plain)
    staging = f"/srv/shop/releases/.staging-{NEW}"
    assert told([upload]) == [
        f"release.upload: rsync /cache/trees/b/tree/ -> {staging}/ "
        f"(unchanged files linked to /srv/shop/releases/{OLD})"
    ]
    assert arguments(publish.actions[0]) == {
        "root": "/srv/shop", "release": NEW, "staging": staging,
        "previous": f"/srv/shop/releases/{OLD}", "runtime": plain.runtime,
    }
    (action,) = publish.actions
    assert isinstance(action, OnHost)
    assert action.files["manifest"].digest == "d" * 64
    assert Path(action.files["launcher"].path) == ship.FOLDER / "launch.py"


def test_the_first_release_has_nothing_to_link_to(odd: Target) -> None:
    upload, publish = ReleaseRole().stage(odd)
    assert told([upload]) == [
        f"release.upload: rsync /cache/trees/b/tree/ -> {ODD}/releases/.staging-{NEW}/"
    ]
    assert arguments(publish.actions[0])["previous"] is None


def test_a_current_that_is_gone_is_not_linked_to(tmp_path: Path) -> None:
    target = one_target(open_fleet(tmp_path), ready("web1", releases=()))
    assert told(ReleaseRole().stage(target))[0] == (
        f"release.upload: rsync /cache/trees/b/tree/ -> /srv/shop/releases/.staging-{NEW}/"
    )


def test_a_release_that_is_there_is_not_brought_again(tmp_path: Path) -> None:
    target = one_target(open_fleet(tmp_path), ready("web1", releases=(OLD, NEW)))
    assert told(ReleaseRole().stage(target)) == []


def test_release_switch(plain: Target, odd: Target) -> None:
    assert told([switch_step(plain, NEW)]) == [
        f"release.switch: test -d /srv/shop/releases/{NEW} && "
        f"ln -sfn releases/{NEW} /srv/shop/.current-new && "
        f"mv -T /srv/shop/.current-new /srv/shop/current"
    ]
    assert told([switch_step(odd, NEW)]) == [
        f"release.switch: test -d '{ODD_QUOTED}/releases/{NEW}' && "
        f"ln -sfn releases/{NEW} '{ODD_QUOTED}/.current-new' && "
        f"mv -T '{ODD_QUOTED}/.current-new' '{ODD_QUOTED}/current'"
    ]
    assert told([switch_step(plain, None)]) == ["release.switch: rm -f /srv/shop/current"]


def test_release_finish_records_once(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path, release={"keep": 3})
    (step,) = ReleaseRole().finish(one_target(environment))
    assert arguments(step.actions[0]) == {
        "root": "/srv/shop", "keep": 3,
        "record": {"release": NEW, "commit": "b" * 40, "ref": "main", "origin": "/src/shop",
                   "back": False},
    }
    recorded = live("web1", history=({"release": OLD}, {"release": NEW}))
    (step,) = ReleaseRole().finish(one_target(environment, recorded))
    assert arguments(step.actions[0]) == {"root": "/srv/shop", "keep": 3, "record": None}
    # Back and forth: the release is good again now, so it is recorded again.
    went_back = ready("web1", history=({"release": NEW}, {"release": OLD}))
    (step,) = ReleaseRole().finish(one_target(environment, went_back))
    assert arguments(step.actions[0])["record"]["release"] == NEW


def test_release_discard(plain: Target, tmp_path: Path) -> None:
    assert told(ReleaseRole().discard(plain)) == [
        f'release.discard: python3 -I discard.py {{"release": "{NEW}", "root": "/srv/shop"}}'
    ]


def test_what_was_there_before_this_run_is_not_discarded(tmp_path: Path) -> None:
    target = one_target(open_fleet(tmp_path), ready("web1", releases=(OLD, NEW)))
    assert told(ReleaseRole().discard(target)) == []


# --- python -------------------------------------------------------------------------------


def test_python_stage(plain: Target) -> None:
    assert told(PythonRole().stage(plain)) == [
        "python.wheelhouse: mkdir -p /srv/shop/.fabfleet/wheelhouse",
        "python.wheelhouse: rsync /cache/wheels/cafe/ -> /srv/shop/.fabfleet/wheelhouse/cafe/",
        "python.venv: rm -rf /srv/shop/venvs/.new-cafe && "
        "/usr/bin/uv -q venv --relocatable --no-config --no-cache --no-python-downloads "
        "--python python3 /srv/shop/venvs/.new-cafe && "
        "/usr/bin/uv -q pip install --no-config --no-cache --offline --no-index --link-mode copy "
        "--compile-bytecode --find-links /srv/shop/.fabfleet/wheelhouse/cafe "
        "--python /srv/shop/venvs/.new-cafe/bin/python "
        "-r /srv/shop/.fabfleet/wheelhouse/cafe/requirements.txt && "
        "sync -f /srv/shop/venvs/.new-cafe && "
        "mv -T /srv/shop/venvs/.new-cafe /srv/shop/venvs/cafe",
    ]


def test_uv_travels_where_the_host_has_none(odd: Target) -> None:
    lines = told(PythonRole().stage(odd))
    assert lines[2] == f"python.uv: rsync /cache/uv/1/ -> {ODD}/.fabfleet/tools/"
    assert lines[3].split(" && ")[1] == (
        f"'{ODD_QUOTED}/.fabfleet/tools/uv' -q venv --relocatable --no-config "
        f"--no-cache --no-python-downloads --python python3 '{ODD_QUOTED}/venvs/.new-cafe'"
    )


def test_the_interpreter_of_the_venvs_is_a_setting(tmp_path: Path) -> None:
    target = one_target(open_fleet(tmp_path, python={"interpreter": "/opt/my python"}))
    assert "--python '/opt/my python' /srv" in told(PythonRole().stage(target))[2]


def test_a_venv_that_is_there_is_not_built_again(tmp_path: Path) -> None:
    target = one_target(open_fleet(tmp_path), ready("web1", venvs=("cafe",)))
    assert told(PythonRole().stage(target)) == []


# --- static -------------------------------------------------------------------------------


def test_static_collect(plain: Target) -> None:
    new = f"/srv/shop/static/.staging-{NEW}"
    assert told(Static().stage(plain)) == [
        f"static.collect: rm -rf {new} && "
        f"python3 -I /srv/shop/.fabfleet/launch.py --release {NEW} --env STATIC_ROOT={new} -- "
        f"python manage.py collectstatic --noinput --verbosity 0 && "
        f"mkdir -p {new} && mv -T {new} /srv/shop/static/{NEW}"
    ]


def test_static_collect_with_odd_words(odd: Target) -> None:
    new = f"{ODD_QUOTED}/static/.staging-{NEW}"
    assert told(Static().stage(odd)) == [
        f"static.collect: rm -rf '{new}' && "
        f"python3 -I '{ODD_QUOTED}/.fabfleet/launch.py' --release {NEW} "
        f"--env 'STATIC_ROOT={new}' -- "
        f"""python manage.py 'collect $x' 'it'"'"'s' && """
        f"mkdir -p '{new}' && mv -T '{new}' '{ODD_QUOTED}/static/{NEW}'"
    ]


def test_a_bad_release_shows_when_static_files_are_collected(plain: Target) -> None:
    assert only(Static(), "stage", plain).judges


@pytest.mark.parametrize("static", [{"command": []}, {"groups": ["proxy"]}])
def test_static_files_can_be_turned_off(tmp_path: Path, static: dict[str, list[str]]) -> None:
    assert told(Static().stage(one_target(open_fleet(tmp_path, static=static)))) == []


# --- wsgi ---------------------------------------------------------------------------------

HEALTH = (
    'wsgi.health: python3 -I health.py {"address": "127.0.0.1:8000", "body": null, '
    '"deadline": 30, "host": "localhost", "in_a_row": 2, "path": "/healthz", '
    f'"release": "{NEW}", "status": 200, "timeout": 5, "watch": 0}}'
)


def test_wsgi_under_systemd(plain: Target) -> None:
    role = Wsgi()
    sudo = "sudo -n /usr/bin/systemctl"
    assert told(role.stop(plain)) == [f"wsgi.stop: {sudo} stop shop-wsgi.service"]
    assert told(role.start(plain)) == [f"wsgi.start: {sudo} start shop-wsgi.service", HEALTH]
    assert told(role.restart(plain)) == [f"wsgi.restart: {sudo} restart shop-wsgi.service", HEALTH]
    assert told(role.confirm(plain)) == [HEALTH]


def test_what_explains_a_sick_service(plain: Target, supervised: Target) -> None:
    def shown(target: Target) -> list[str]:
        return [action.shown for action in only(Wsgi(), "confirm", target).diagnose]

    assert shown(plain) == ["journalctl -q -u shop-wsgi.service -n 30 --no-pager -o cat"]
    assert shown(supervised) == ["tail -n 30 /srv/shop/.fabfleet/supervisor/wsgi.log"]


@pytest.mark.parametrize("verb", ["stop", "start", "restart"])
def test_wsgi_under_supervisor(supervised: Target, verb: str) -> None:
    first, *_ = told(getattr(Wsgi(), verb)(supervised))
    assert first == (
        f'wsgi.{verb}: python3 -I supervise.py {{"action": "{verb}", '
        f'"folder": "/srv/shop/.fabfleet/supervisor", '
        f'"launcher": "/srv/shop/.fabfleet/launch.py", "program": "wsgi", "python": "python3", '
        f'"stop_seconds": 35, "stop_signal": "TERM", "supervisorctl": "supervisorctl", '
        f'"supervisord": "supervisord"}}'
    )


@pytest.mark.parametrize(("bind", "address"), [
    ("0.0.0.0:8001", "127.0.0.1:8001"),
    ("[::]:8001", "127.0.0.1:8001"),
    ("10.0.0.1:80", "10.0.0.1:80"),
    ("/run/shop/wsgi.sock", "/run/shop/wsgi.sock"),
])
def test_health_is_asked_where_the_service_answers(
    tmp_path: Path, bind: str, address: str
) -> None:
    target = one_target(open_fleet(tmp_path, wsgi={"bind": bind}))
    assert arguments(only(Wsgi(), "confirm", target).actions[0])["address"] == address


def test_health_need_not_name_the_release(tmp_path: Path) -> None:
    health = {"release": False, "path": "/", "status": 204, "body": "it's $5", "host": "shop.test"}
    target = one_target(open_fleet(tmp_path, wsgi={"health": health}))
    assert arguments(only(Wsgi(), "confirm", target).actions[0]) == {
        "address": "127.0.0.1:8000", "path": "/", "host": "shop.test", "status": 204,
        "body": "it's $5", "release": None, "in_a_row": 2, "deadline": 30, "timeout": 5,
        "watch": 0,
    }


def test_the_check_runs_as_the_service_does(plain: Target, owned: Target, odd: Target) -> None:
    asked = (
        '{"application": "config.wsgi:application", '
        '"arguments": ["--deploy", "--fail-level", "ERROR"], "server": "gunicorn"}'
    )
    launch = f"python3 -I /srv/shop/.fabfleet/launch.py --release {NEW} -- python"
    assert told(Wsgi().stage(plain)) == [f"wsgi.check: {launch} check.py {asked}"]
    assert told(Wsgi().stage(owned)) == [
        f"wsgi.check: sudo -n -u shop -- {launch} check.py {asked}"
    ]
    assert told(Wsgi().stage(odd)) == [
        f"wsgi.check: sudo -n -u shop -- python3 -I '{ODD_QUOTED}/.fabfleet/launch.py' "
        f"--release {NEW} -- python check.py {asked}"
    ]
    assert only(Wsgi(), "stage", plain).judges


def test_the_service_s_user_is_the_deploy_user_where_they_are_the_same(tmp_path: Path) -> None:
    target = one_target(open_fleet(tmp_path, app={"user": "deploy"}))
    assert told(Wsgi().stage(target))[0].startswith("wsgi.check: python3 -I ")


def test_the_host_s_own_python_is_the_inventory_s(tmp_path: Path) -> None:
    own = {"web1": {"ansible_python_interpreter": "/opt/py thon"}}
    target = one_target(open_fleet(tmp_path, own=own))
    assert told(Wsgi().stage(target))[0].startswith(
        "wsgi.check: '/opt/py thon' -I /srv/shop/.fabfleet/launch.py "
    )


@pytest.mark.parametrize("wsgi", [{"application": ""}, {"groups": ["worker"]}])
def test_hosts_that_serve_nothing(tmp_path: Path, wsgi: dict[str, object]) -> None:
    target = one_target(open_fleet(tmp_path, wsgi=wsgi))
    for moment in ("stage", "stop", "start", "restart", "confirm"):
        assert told(getattr(Wsgi(), moment)(target)) == []
    assert target.runtime["commands"] == {}


# --- migrations ---------------------------------------------------------------------------

PORTION = migrations.Portion("expand", {"default": ("shop.0002_stock",)},
                             {"default": (("shop.0002_stock", "0" * 64),)})


def test_migrations_apply(plain: Target, owned: Target) -> None:
    launch = ["python3", "-I", "/srv/shop/.fabfleet/launch.py", "--release", NEW, "--", "python"]
    step = migrations.apply(plain, PORTION)
    assert arguments(step.actions[0]) == {
        "root": "/srv/shop", "name": "migrate", "key": f"{NEW} expand", "argv": launch,
        "ships": {"program": "migrating.apply", "arguments": {
            "env": {}, "command": ["migrate", "--noinput"], "external": False,
            "holder": f"fabfleet-{NEW}", "back": {}, "accepted": [],
            "expected": {"default": [["shop.0002_stock", "0" * 64]]},
            "only": {"default": ["shop.0002_stock"]}, "wait": 30, "lock_timeout": 2, "retries": 5,
            "retry_python": False,
        }},
    }
    assert (step.resumable, step.timeout) == (True, 4 * 3600)
    assert arguments(migrations.apply(owned, PORTION).actions[0])["argv"] == [
        "sudo", "-n", "-u", "shop", "--", *launch
    ]


def test_migrations_keep_their_words_apart(odd: Target) -> None:
    program = arguments(migrations.apply(odd, PORTION).actions[0])["ships"]
    assert program["arguments"]["command"] == ["migrate", "a b"]


def test_the_plan_is_asked_as_the_service(owned: Target) -> None:
    assert migrations.ask(owned).shown == (
        f"sudo -n -u shop -- python3 -I /srv/shop/.fabfleet/launch.py --release {NEW} -- "
        'python migrating.ask.py {"databases": ["default"], "env": {}, "heavy_bytes": 50000000, '
        '"overrides": {}}'
    )


# --- backup -------------------------------------------------------------------------------


def test_a_backup_is_taken_as_the_service(owned: Target) -> None:
    launch = f"sudo -n -u shop -- python3 -I /srv/shop/.fabfleet/launch.py --release {NEW} --"
    step = backup.dump(owned, "key")
    assert told([step]) == [
        f'backup.dump: {launch} python migrating.backup.py {{"check": false, "command": null, '
        '"databases": ["default"], "env": {}, "folder": "/srv/shop/shared/backups", "keep": 5, '
        f'"key": "key", "release": "{NEW}", "seconds": 14400}}'
    ]
    assert (step.timeout, step.resumable) == (14430, False)
    assert backup.check(owned).shown == step.actions[0].shown.replace(
        '"check": false', '"check": true').replace('"key": "key"', '"key": ""')
    assert backup.drill(owned, None).shown == (
        f'{launch} python migrating.drill.py {{"env": {{}}, "file": null, '
        '"folder": "/srv/shop/shared/backups", "seconds": 14400, "tables": []}'
    )


def test_backups_are_listed_without_any_release(plain: Target, owned: Target) -> None:
    question = 'python3 -I migrating.listing.py {"folder": "/srv/shop/shared/backups"}'
    assert backup.listing(plain).shown == question
    assert backup.listing(owned).shown == f"sudo -n -u shop -- {question}"


def test_backups_as_the_inventory_wants_them(tmp_path: Path) -> None:
    settings = {"folder": "/var/back ups", "keep": 2, "command": "snap | tail -1", "timeout": 60,
                "databases": ["default"], "env": {"A": "$B"}, "drill_tables": ["t"]}
    target = one_target(open_fleet(tmp_path, backup=settings))
    assert arguments(backup.dump(target, "k").actions[0]) == {
        "folder": "/var/back ups", "keep": 2, "databases": ["default"], "env": {"A": "$B"},
        "command": "snap | tail -1", "seconds": 60, "release": NEW, "key": "k", "check": False,
    }
    assert backup.drill(target, "x").arguments == {
        "folder": "/var/back ups", "file": "x", "tables": ["t"], "env": {"A": "$B"}, "seconds": 60,
    }


@pytest.mark.parametrize(("required", "phases", "wanted"), [
    ("auto", [], False),
    ("auto", ["any", "before"], False),
    ("auto", ["before", "after"], True),
    ("auto", ["offline"], True),
    ("auto", ["unknown"], True),
    ("always", [], False),
    ("always", ["any"], True),
    ("never", ["offline"], False),
])
def test_when_a_backup_is_wanted(
    tmp_path: Path, required: str, phases: list[str], wanted: bool
) -> None:
    target = one_target(open_fleet(tmp_path, backup={"required": required}))
    assert backup.is_wanted(target, phases) is wanted


def test_what_a_backup_lacks_on_the_host(tmp_path: Path) -> None:
    def lacking(tools: dict[str, str], *vendors: str, **settings: object) -> list[str]:
        environment = open_fleet(tmp_path, backup=settings)
        return backup.missing_tools(one_target(environment, ready("web1", tools=tools)), vendors)

    postgresql = {"pg_dump": "/usr/bin/pg_dump", "pg_restore": "/usr/bin/pg_restore"}
    assert lacking(postgresql, "postgresql", "sqlite") == []
    assert lacking({**postgresql, "pg_dump": ""}, "postgresql") == [
        "web1: pg_dump is not on this host, so no backup can be made; install it there: "
        "apt install postgresql-client"
    ]
    assert lacking({"mysqldump": "", "mariadb-dump": "/usr/bin/x"}, "mysql") == []
    assert lacking({}, "mysql") == [
        "web1: mysqldump or mariadb-dump is not on this host, so no backup can be made; install "
        "it there: apt install mariadb-client or mysql-client"
    ]
    assert lacking({}, "postgresql", command="snap") == []


def test_the_probe_looks_for_what_backups_need(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path)
    asked = question(environment, environment.hosts[0])["tools"]
    assert {"rsync", "uv", "pg_dump", "pg_restore", "mysqldump", "mariadb-dump"} <= set(asked)


# --- balancer -----------------------------------------------------------------------------

LOADS = (Host("lb1", ("proxy",), {}, {}, "", {}),
         Host("lb2", ("proxy",), {"ansible_python_interpreter": "/opt/py"}, {}, "", {}))
ARN = "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/web/1"


def balanced(tmp_path: Path, **settings: Any) -> Target:
    own = {"web1": {"ansible_host": "10.0.0.1"}}
    return one_target(open_fleet(tmp_path, own=own, balancer={"hosts": ["web3"], **settings}))


def test_without_a_driver_no_host_is_taken_out(plain: Target, tmp_path: Path) -> None:
    others = balanced(tmp_path, driver="haproxy", backend="web", groups=["api"])
    for target in (plain, others):
        assert balancer.drain(target, LOADS) == balancer.undrain(target, LOADS) == ()
        assert balancer.look(target, LOADS) == ()


def test_haproxy_on_every_balancer(tmp_path: Path) -> None:
    target = balanced(tmp_path, driver="haproxy", backend=["web", "api"], min_up="50%",
                      deadline=90, then="shut", server="{host}-{address}")
    told_them = {
        "action": "drain", "socket": "/run/haproxy/admin.sock", "backends": ["web", "api"],
        "server": "web1-10.0.0.1", "min_up": "50%", "deadline": 90, "up_deadline": 60,
        "then": "shut",
    }
    first, second = balancer.drain(target, LOADS)
    assert first == Step(
        "balancer.drain", "lb1", (OnHost("balancing.haproxy", told_them),), timeout=270,
        rotation=True,
    )
    assert (second.host, second.actions[0].shown[:40]) == (
        "lb2", "/opt/py -I balancing.haproxy.py {\"action")
    back = balancer.undrain(target, LOADS)
    assert [(step.name, step.host, step.timeout) for step in back] == [
        ("balancer.undrain", "lb1", 180), ("balancer.undrain", "lb2", 180)]
    assert arguments(back[0].actions[0])["action"] == "undrain"
    (asking, _) = balancer.look(target, LOADS)
    assert (asking.name, asking.timeout, asking.diagnose) == ("balancer.look", 60, ())


def test_nginx(tmp_path: Path) -> None:
    path = "/etc/nginx/conf.d/shop-upstream.conf"
    target = balanced(tmp_path, driver="nginx", backend="shop", server="{address}", port=8000,
                      nginx={"config": path})
    (step,) = balancer.drain(target, LOADS[:1])
    assert step.actions == (OnHost("balancing.nginx", {
        "action": "drain", "config": path, "test": "sudo -n /usr/sbin/nginx -t",
        "reload": "sudo -n /usr/bin/systemctl reload nginx", "pid": "/run/nginx.pid", "port": 8000,
        "backends": ["shop"], "server": "10.0.0.1", "min_up": 1, "deadline": 60, "up_deadline": 60,
        "then": "fail",
    }),)


def test_a_health_file_on_the_host_itself(tmp_path: Path) -> None:
    target = balanced(tmp_path, driver="health-file", health_file={"seconds": 7, "page": "/up"})
    (step,) = balancer.drain(target, ())
    path = "/srv/shop/shared/out-of-rotation"
    assert (step.host, step.timeout) == ("web1", 247)
    assert arguments(step.actions[0]) == {
        "action": "drain", "file": path, "server": "web1", "seconds": 7, "page": "/up",
        "address": "127.0.0.1:8000", "host": "localhost", "up_deadline": 60,
    }
    assert target.runtime["environment"]["OUT_OF_ROTATION_FILE"] == path


def test_only_the_health_file_is_told_to_the_application(tmp_path: Path) -> None:
    assert Balancer().environment(balanced(tmp_path, driver="haproxy", backend="web")) == {}


def test_an_aws_target_group(tmp_path: Path) -> None:
    target = balanced(tmp_path, driver="aws-target-group", port=8000, deadline=300,
                      aws={"target_group": ARN})
    (step,) = balancer.undrain(target, ())
    assert (step.host, step.actions[0].shown) == (
        "controller",
        f"{shlex.quote(sys.executable)} -P -m fabfile.engine.aws undrain --target-group {ARN} "
        "--target 10.0.0.1 --port 8000 --min-up 1 --deadline 300 --up-deadline 60 --then fail "
        "--region eu-central-1",
    )
    elsewhere = balanced(tmp_path, driver="aws-target-group",
                         aws={"target_group": ARN, "region": "x", "target_id": "i-0abc"})
    (step,) = balancer.look(elsewhere, ())
    assert "look" in step.actions[0].shown
    assert "--target i-0abc --port 0 " in step.actions[0].shown
    assert step.actions[0].shown.endswith(" --region x")


@pytest.mark.parametrize(("on", "hosts"), [
    ("controller", ["controller"]), ("balancers", ["lb1", "lb2"]), ("host", ["web1"]),
])
def test_commands_of_one_s_own(tmp_path: Path, on: str, hosts: list[str]) -> None:
    own = {"drain": "out 'it' $FABFLEET_HOST", "undrain": "in", "on": on}
    target = balanced(tmp_path, driver="command", command=own, backend="b", port=1)
    steps = balancer.drain(target, LOADS)
    assert [step.host for step in steps] == hosts
    wanted = {
        "action": "drain", "server": "web1", "deadline": 60.0, "up_deadline": 60.0, "then": "fail",
        "environment": {
            "FABFLEET_HOST": "web1", "FABFLEET_ADDRESS": "10.0.0.1", "FABFLEET_SERVER": "web1",
            "FABFLEET_BACKEND": "b", "FABFLEET_PORT": "1",
        },
        "lines": {"drain": own["drain"], "undrain": "in", "state": ""},
    }
    if on == "controller":
        words = shlex.split(steps[0].actions[0].shown)
        assert words[:5] == [sys.executable, "-P", "-m", "fabfile.engine.here", "balancing.command"]
        assert json.loads(words[5]) == wanted
    else:
        assert arguments(steps[0].actions[0]) == wanted


INCOMPLETE: list[tuple[Mapping[str, Any], str]] = [
    ({"driver": "haproxy"}, "expected backend, which haproxy needs"),
    ({"driver": "nginx"}, "expected backend and nginx.config, which nginx needs"),
    ({"driver": "aws-target-group"}, "expected aws.target_group, which aws-target-group needs"),
    ({"driver": "command"}, "expected command.drain and command.undrain, which command needs"),
    ({"driver": "command", "command": {"drain": "a", "undrain": "b"}, "then": "shut"},
     "expected then: fail or go-on; only haproxy can shut sessions"),
]


@pytest.mark.parametrize(("settings", "message"), INCOMPLETE)
def test_what_a_driver_needs(tmp_path: Path, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InventoryError) as error:
        balanced(tmp_path, **settings)
    assert str(error.value).endswith(f"vars.balancer: {message}")


@pytest.mark.parametrize("value", [-1, "0.5", "half", "150%", "-5%", ""])
def test_a_floor_that_is_none(tmp_path: Path, value: object) -> None:
    with pytest.raises(InventoryError) as error:
        balanced(tmp_path, min_up=value)
    assert 'expected a number of servers, or a part of all as in "50%"' in str(error.value)


@pytest.mark.parametrize("value", ["{name}", "", "web{", "{host.name}"])
def test_a_name_that_cannot_be_filled(tmp_path: Path, value: str) -> None:
    with pytest.raises(InventoryError, match="expected a name, in which"):
        balanced(tmp_path, server=value)


def test_where_the_balancers_are(tmp_path: Path) -> None:
    environment = open_fleet(tmp_path)
    host, inventory = environment.hosts[0], environment.inventory

    def found(**settings: Any) -> list[str]:
        chosen = BalancerSettings(backend="b", **settings)
        return [each.name for each in balancer.hosts_of(chosen, host, inventory)]

    assert found(hosts=["nowhere"]) == []
    assert found(driver="haproxy", hosts=["web3", "web"]) == ["web3", "web1", "web2"]
    commands = {"drain": "a", "undrain": "b"}
    assert found(driver="command", command=commands) == []
    assert found(driver="command", command={**commands, "on": "balancers"}, hosts=["web2"]) == [
        "web2"]
    with pytest.raises(InventoryError) as error:
        found(driver="haproxy")
    assert str(error.value).endswith(
        "balancer.hosts: no host or group proxy; name those that it runs on")
    with pytest.raises(InventoryError, match="no hosts in it; there has to be one"):
        found(driver="haproxy", hosts=[])


def test_sudo_on_a_balancer_host() -> None:
    path = "/etc/nginx/sites-available/a:b"
    settings = BalancerSettings.model_validate(
        {"driver": "nginx", "backend": "b", "nginx": {"config": path}})
    assert balancer.sudo_rules(settings, "deploy") == """\
# For nginx's upstream. Whoever writes this file is as good as root here, because
# nginx reads it as root.
Defaults:deploy !requiretty
deploy ALL=(root) NOPASSWD: /usr/sbin/nginx -t
deploy ALL=(root) NOPASSWD: /usr/bin/systemctl reload nginx
deploy ALL=(root) NOPASSWD: /usr/bin/tee /etc/nginx/sites-available/.a\\:b.fabfleet
deploy ALL=(root) NOPASSWD: /usr/bin/mv -T /etc/nginx/sites-available/.a\\:b.fabfleet \
/etc/nginx/sites-available/a\\:b
"""
    assert balancer.sudo_rules(BalancerSettings(), "deploy") == ""


# --- hooks --------------------------------------------------------------------------------


def test_hooks_on_hosts_and_on_the_controller() -> None:
    facts = {"FABFLEET_ENVIRONMENT": "prod", "FABFLEET_RELEASE": NEW}
    hooks = [Hook(run="tell 'it' $X"), Hook(run="cd /a && echo \"$X\"\n", on="each", timeout=5)]
    ours, web1, web2 = hook_steps(hooks, "before roll", ["web1", "web2"], facts, 2)
    assert ours == Step(
        "hook before roll", "controller",
        (OnController("tell 'it' $X", {**facts, "FABFLEET_HOST": "controller",
                                       "FABFLEET_BATCH": "2"}),),
        timeout=300,
    )
    assert told([web1]) == [
        "hook before roll: env FABFLEET_BATCH=2 FABFLEET_ENVIRONMENT=prod FABFLEET_HOST=web1 "
        f"FABFLEET_RELEASE={NEW} sh -c 'cd /a && echo \"$X\"\n'"
    ]
    assert (web2.host, web2.timeout) == ("web2", 5)
    assert isinstance(web2.actions[0], Run)


# --- how a program is shipped ---------------------------------------------------------------


def test_a_program_s_line_holds_nothing_of_its_arguments(owned: Target) -> None:
    look = only(Wsgi(), "stage", owned).actions[0]
    assert isinstance(look, OnHost)
    assert ship.line(look.interpreter).line == (
        f"sudo -n -u shop -- python3 -I /srv/shop/.fabfleet/launch.py --release {NEW} -- python "
        "-c 'import sys,json;i=sys.stdin.buffer;h=json.loads(i.readline());p=i.read(h['\"'\"'size"
        "'\"'\"']);exec(compile(p,h['\"'\"'name'\"'\"'],'\"'\"'exec'\"'\"'),"
        "dict(__name__='\"'\"'__main__'\"'\"',ARGUMENTS=h['\"'\"'arguments'\"'\"'],"
        "FILES={n:i.read(k) for n,k in h['\"'\"'files'\"'\"']}))'"
    )
