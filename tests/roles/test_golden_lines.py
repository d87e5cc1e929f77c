"""The whole lines that hosts see, role by role."""

from __future__ import annotations

from pathlib import Path

import pytest

from roles import migrations
from roles.app import App
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
        "app", "deploy", "hooks", "release", "python", "migrations", "static", "wsgi",
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
    f'"release": "{NEW}", "status": 200, "timeout": 5}}'
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
        f'"stop_seconds": 35, "supervisorctl": "supervisorctl", "supervisord": "supervisord"}}'
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
    }


def test_the_check_runs_as_the_service_does(plain: Target, owned: Target, odd: Target) -> None:
    asked = (
        '{"application": "config.wsgi:application", '
        '"arguments": ["--deploy", "--fail-level", "ERROR"]}'
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


def test_gunicorn_s_command_line(tmp_path: Path) -> None:
    wsgi = {"bind": "/run/shop/wsgi.sock", "workers": 3, "threads": 8, "timeout": 0,
            "graceful_timeout": 5, "options": ["--access-logformat", "it's $5 %(h)s"]}
    assert one_target(open_fleet(tmp_path, wsgi=wsgi)).runtime["commands"]["wsgi"] == [
        "gunicorn", "--bind", "unix:/run/shop/wsgi.sock", "--workers", "3", "--threads", "8",
        "--timeout", "0", "--graceful-timeout", "5", "--access-logformat", "it's $5 %(h)s",
        "config.wsgi:application",
    ]


# --- migrations ---------------------------------------------------------------------------


def test_migrations_apply(plain: Target, owned: Target) -> None:
    launch = ["python3", "-I", "/srv/shop/.fabfleet/launch.py", "--release", NEW, "--",
              "python", "manage.py", "migrate", "--noinput"]
    step = migrations.apply(plain)
    assert arguments(step.actions[0]) == {
        "root": "/srv/shop", "name": "migrate", "key": NEW, "argv": launch,
    }
    assert (step.resumable, step.timeout) == (True, 4 * 3600)
    assert arguments(migrations.apply(owned).actions[0])["argv"] == [
        "sudo", "-n", "-u", "shop", "--", *launch
    ]


def test_migrations_keep_their_words_apart(odd: Target) -> None:
    assert arguments(migrations.apply(odd).actions[0])["argv"][-1] == "a b"


def test_pending_is_asked_as_the_service(owned: Target) -> None:
    assert migrations.pending(owned).shown == (
        f"sudo -n -u shop -- python3 -I /srv/shop/.fabfleet/launch.py --release {NEW} -- "
        "python pending.py {}"
    )


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


def test_the_unit(tmp_path: Path) -> None:
    from roles.wsgi.manager import Systemd, manager_of

    environment = open_fleet(
        tmp_path, app={"user": "www"}, wsgi={"bind": "/run/shop/wsgi.sock", "graceful_timeout": 7}
    )
    found = manager_of(one_target(environment))
    assert isinstance(found, Systemd)
    assert found.unit() == """\
# Written by `fab hosts.setup`. It starts whatever release is current; a deploy never changes it.
[Unit]
Description=shop WSGI server
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User=www
ExecStart=/usr/bin/python3 -I /srv/shop/.fabfleet/launch.py wsgi
RuntimeDirectory=shop
KillMode=mixed
TimeoutStartSec=90
TimeoutStopSec=12
Restart=always
RestartSec=1
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""


def test_the_sudoers_rules() -> None:
    from roles.app import AppSettings
    from roles.templates import render

    app = AppSettings(name="shop", user="www")
    assert render("app/templates/sudoers.j2", app=app, deploy="deploy", verbs=("start", "stop"),
                  units=["shop-wsgi.service"]) == """\
# Written by `fab hosts.setup`: what deploy may do for shop, and nothing more.
Defaults:deploy !requiretty
deploy ALL=(root) NOPASSWD: /usr/bin/systemctl start shop-wsgi.service
deploy ALL=(root) NOPASSWD: /usr/bin/systemctl stop shop-wsgi.service
# deploy writes the code that www runs, so this gives it nothing new.
deploy ALL=(www) NOPASSWD: ALL
"""
