from __future__ import annotations

import datetime

import pytest

from inventories.errors import InventoryError
from inventories.model import Host
from tests.inventories.cases import Load

HOSTS = """
    all:
      vars:
        number: 3
        text: word
        items_: [1, 2]
        settings_: {bind: "{{ address }}:80", workers: "{{ number * 2 }}", "on": true}
        address: "{{ inventory_hostname }}.internal"
        braces: !unsafe "{{ number }}"
        digits: "42"
        moment: 2024-02-29
        own: {name: x, root: "/srv/{{ own.name }}"}
        own_loop: {name: "{{ own_loop.name }}"}
        self_: "{{ self_ }}"
        ping: "{{ pong }}"
        pong: {a: ["{{ ping }}"]}
        lost: {a: {b: ["ok", "{{ nowhere }}"]}}
        via: "{{ lost }}"
      children:
        web: {hosts: {web1.example.com: , "10.0.0.1": }}
        db: {hosts: {db1: }}
"""


@pytest.fixture
def web1(prod: Load) -> Host:
    return prod(HOSTS, **{"group_vars/web.yml": "bad: '{{ nope }}'"}).hosts["web1.example.com"]


RENDERED = {
    "plain": "plain",
    "{{ number }}": 3,
    "{{ number }}x": "3x",
    "{{ number }}{{ number }}": "33",
    "{{ text }}": "word",
    "{{ digits }}": "42",
    "{{ 5 }}": 5,
    "{{ items_ }}": [1, 2],
    "{{ items_ | map('string') }}": ["1", "2"],
    "{{ number > 2 }}": True,
    "{{ none }}": None,
    "{{ moment }}": datetime.date(2024, 2, 29),
    "{{ number }}\n": 3,
    "{{ number }}\n\n": "3\n\n",
    "a {{ number }}\n": "a 3\n",
    "a{{ none }}b": "ab",
    "{{ settings_ }}": {"bind": "web1.example.com.internal:80", "workers": 6, "on": True},
    "{{ settings_ }}!": "{'bind': 'web1.example.com.internal:80', 'workers': 6, 'on': True}!",
    "{{ [own] }}": [{"name": "x", "root": "/srv/x"}],
    "{{ own.root }}": "/srv/x",
    "{{ own | tojson }}!": '{"name": "x", "root": "/srv/x"}!',
    "{{ own.values() | join(' ') }}": "x /srv/x",
    "{% if number == 3 %}three{% endif %}": "three",
    "{# nothing #}": "",
    "{{ braces }}": "{{ number }}",
    "{{ address }}": "web1.example.com.internal",
    "{{ settings_.bind }}": "web1.example.com.internal:80",
    "{{ settings_.workers + 1 }}": 7,
    "{{ inventory_hostname_short }}": "web1",
    "{{ group_names }}": ["web"],
    "{{ groups.all }}": ["web1.example.com", "10.0.0.1", "db1"],
    "{{ groups['db'] | first }}": "db1",
    "{{ nowhere | default('d') }}": "d",
    "{{ text | mandatory }}": "word",
    "{{ '/a/b.c' | basename }} {{ '/a/b.c' | dirname }}": "b.c /a",
    "{{ lookup('env', 'FLEET') }}": "from env",
    "{{ lookup('ansible.builtin.env', 'FLEET_NOT', default='d') }}": "d",
    "{{ lookup('env', 'FLEET_NOT') }}": "",
}


@pytest.mark.parametrize(("template", "expected"), RENDERED.items(), ids=list(RENDERED))
def test_templates(
    web1: Host, monkeypatch: pytest.MonkeyPatch, template: str, expected: object
) -> None:
    monkeypatch.setenv("FLEET", "from env")
    rendered = web1.render(template)
    assert rendered == expected
    assert type(rendered) is type(expected)


def test_containers_are_rendered_all_the_way_down(web1: Host) -> None:
    assert web1.render({"a": ["{{ number }}", {"b": "{{ text }}"}], 1: None}) == {
        "a": [3, {"b": "word"}],
        1: None,
    }


def test_a_setting_is_rendered_and_a_variable_is_not(web1: Host) -> None:
    assert web1.setting("settings_") == {
        "bind": "web1.example.com.internal:80",
        "workers": 6,
        "on": True,
    }
    assert web1.variables["address"] == "{{ inventory_hostname }}.internal"
    assert web1.setting("absent") is None


def test_an_address_has_no_short_form(prod: Load) -> None:
    host = prod("web: {hosts: {10.0.0.1: {n: '{{ inventory_hostname_short }}'}}}").hosts["10.0.0.1"]
    assert host.setting("n") == "10.0.0.1"


def test_the_folder_of_the_inventory(prod: Load) -> None:
    host = prod("all: {hosts: {a: {d: '{{ inventory_dir | basename }}'}}}").hosts["a"]
    assert host.setting("d") == "prod"


ALL = "inventories/prod/hosts.yml: all.vars."
BROKEN = {
    "self_": f"{ALL}self_: needs itself: self_ -> self_",
    "own_loop": f"{ALL}own_loop.name: needs itself: own_loop.name -> own_loop.name",
    "ping": f"{ALL}ping: needs itself: ping -> pong.a.0 -> ping",
    "lost": f"{ALL}lost.a.b.1: 'nowhere' is undefined (host web1.example.com)",
    "via": f"{ALL}lost.a.b.1: 'nowhere' is undefined (host web1.example.com)",
    "bad": "inventories/prod/group_vars/web.yml: bad: 'nope' is undefined (host web1.example.com)",
}


@pytest.mark.parametrize(("name", "message"), BROKEN.items())
def test_a_broken_setting(web1: Host, name: str, message: str) -> None:
    with pytest.raises(InventoryError) as error:
        web1.setting(name)
    assert str(error.value) == message


REFUSED = {
    "{{ nowhere }}": "'nowhere' is undefined",
    "{{ settings_.nope }}": "settings_ has no key 'nope'",
    "a {{ nowhere }}": "'nowhere' is undefined",
    "{{ nowhere | mandatory }}": "'nowhere' is undefined",
    "{{ nowhere | mandatory('say where') }}": "say where",
    "{{ number": "unexpected end of template, expected 'end of print statement'.",
    "{{ number | shout }}": "No filter named 'shout'.",
    "{{ 1 / 0 }}": "division by zero",
    "{{ items_.append(3) }}": "access to attribute 'append' of 'list' object is unsafe.",
    "{{ ''.__class__ }}": "access to attribute '__class__' of 'str' object is unsafe.",
    "{{ lookup('file', 'x') }}": "there is no lookup('file') here, only lookup('env', NAME)",
}


@pytest.mark.parametrize(("template", "problem"), REFUSED.items())
def test_a_broken_template(web1: Host, template: str, problem: str) -> None:
    with pytest.raises(InventoryError) as error:
        web1.render(template)
    assert str(error.value) == f"inventories/prod/hosts.yml: {problem} (host web1.example.com)"


def test_where(web1: Host) -> None:
    assert web1.where("bad") == "inventories/prod/group_vars/web.yml: bad"
    assert web1.where("settings_", "bind") == f"{ALL}settings_.bind"
    assert web1.where("wsgi", "bind") == "inventories/prod/hosts.yml: wsgi.bind"


def test_a_host_is_frozen_and_hashable(web1: Host) -> None:
    with pytest.raises(TypeError):
        web1.variables["number"] = 4  # type: ignore[index]
    assert len({web1, web1}) == 1
