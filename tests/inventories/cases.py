"""Inventories that we must read exactly as ``ansible-inventory`` does: name -> file -> text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inventories.model import Inventory

Files = dict[str, str]
Write = Callable[..., Path]
Load = Callable[..., Inventory]

LEVELS = (
    "all: {vars: {v: all}, children: {web: {vars: {v: web}, hosts: {web1: {v: web1}, web2: }}}}"
)

CASES: dict[str, Files] = {
    "one host": {"hosts.yml": "all: {hosts: {web1: }}"},
    "a host as a bare word": {"hosts.yml": "web: {hosts: web1}"},
    "a child as a bare word": {"hosts.yml": "top: {children: web}\nweb: {hosts: {web1: }}"},
    "nested groups": {
        "hosts.yml": """
            all:
              children:
                europe:
                  children:
                    berlin: {hosts: {b1: , b2: }, vars: {city: Berlin}}
                    paris: {hosts: {p1: }}
                  vars: {continent: Europe, city: unknown}
                america: {hosts: {a1: }}
        """
    },
    "groups beside all": {"hosts.yml": "web: {hosts: {w1: }}\ndb: {hosts: {d1: }, vars: {x: 1}}"},
    "all comes last": {"hosts.yml": "web: {hosts: {w1: }}\nall: {vars: {x: 1}}"},
    "a diamond": {
        "hosts.yml": """
            top: {vars: {v: top, t: 1}, children: {left: , right: }}
            left: {vars: {v: left}, children: {bottom: }}
            right: {vars: {v: right}, children: {bottom: }}
            bottom: {vars: {b: 1}, hosts: {h1: }}
        """
    },
    "a deep group beats a shallow one with a later name": {
        "hosts.yml": """
            zone: {vars: {v: zone}, hosts: {h1: }}
            outer: {children: {middle: {children: {inner: {vars: {v: inner}, hosts: {h1: }}}}}}
        """
    },
    "depth is the longest way down": {
        "hosts.yml": """
            a: {children: {b: {children: {c: {vars: {v: c}, hosts: {h1: }}}}}}
            x: {children: {c: , y: {vars: {v: y}, hosts: {h1: }}}}
        """
    },
    "siblings: the last name wins": {
        "hosts.yml": "b: {vars: {v: b}, hosts: {h1: }}\na: {vars: {v: a}, hosts: {h1: }}"
    },
    "siblings: priority beats the name": {
        "hosts.yml": """
            b: {vars: {v: b}, hosts: {h1: }}
            a: {vars: {v: a, ansible_group_priority: 10}, hosts: {h1: }}
        """
    },
    "priority as text": {
        "hosts.yml": """
            b: {vars: {v: b}, hosts: {h1: }}
            a: {vars: {v: a, ansible_group_priority: "10"}, hosts: {h1: }}
        """
    },
    "priority in group_vars is a mere variable": {
        "hosts.yml": "b: {vars: {v: b}, hosts: {h1: }}\na: {vars: {v: a}, hosts: {h1: }}",
        "group_vars/a.yml": "ansible_group_priority: 10",
    },
    "depth beats priority": {
        "hosts.yml": """
            a: {vars: {v: a, ansible_group_priority: 50}, children: {b: {vars: {v: b}}}}
            b: {hosts: {h1: }}
        """
    },
    "inventory: host over group over all": {"hosts.yml": LEVELS},
    "group_vars/all over a group in the file": {
        "hosts.yml": LEVELS,
        "group_vars/all.yml": "v: group_vars/all",
    },
    "group_vars of a group over group_vars/all": {
        "hosts.yml": LEVELS,
        "group_vars/all.yml": "v: group_vars/all",
        "group_vars/web.yml": "v: group_vars/web",
    },
    "host_vars over all": {
        "hosts.yml": LEVELS,
        "group_vars/web.yml": "v: group_vars/web",
        "host_vars/web1.yml": "v: host_vars/web1",
    },
    "group_vars by depth and name": {
        "hosts.yml": "z: {children: {m: {hosts: {h1: }}}}\na: {hosts: {h1: }}",
        "group_vars/z.yml": "v: z\nz: 1",
        "group_vars/m.yml": "v: m\nm: 1",
        "group_vars/a.yml": "v: a\na: 1",
    },
    "mappings and lists are replaced, not merged": {
        "hosts.yml": "all: {hosts: {h1: {m: {b: 2}, l: [3]}}, vars: {m: {a: 1}, l: [1, 2]}}"
    },
    "ranges: padded, letters, steps": {
        "hosts.yml": """
            web: {hosts: {"web[01:03]": {x: 1}}}
            db: {hosts: {"db[a:c]": , "db-[1:10:3].eu": }}
            two: {hosts: {"r[1:2]-n[a:b]": }}
            open: {hosts: {"o[:2]": }}
            upper: {hosts: {"u[y:B]": , "w[098:101]": }}
        """
    },
    "a range and then one of it": {
        "hosts.yml": "web: {hosts: {'web[1:3]': {x: 1, y: 1}, web2: {x: 2}}}"
    },
    "ports in host names": {
        "hosts.yml": """
            web:
              hosts:
                "web1:2222":
                "web[2:3]:2200": {ansible_port: 22}
                "[2001:db8::1]:2201":
                "fe80::1":
                "10.0.0.1:2202":
            again: {hosts: {"web1:99": }}
        """
    },
    "names that Ansible wouldn't choose": {
        "hosts.yml": "my-web.eu: {hosts: {'host name': , h_1: , -x-: , 'a:b:1': , 'a_:22': }}"
    },
    "values": {
        "hosts.yml": """
            all:
              hosts:
                h1:
                  integer: 42
                  octal: 0755
                  hexadecimal: 0x1F
                  sexagesimal: 12:30:45
                  exponent: 1e3
                  real: 1.5e+3
                  quoted: "42"
                  "yes": no
                  bool_text: "no"
                  date: 2024-02-29
                  moment: 2024-02-29T12:30:00Z
                  nothing: ~
                  empty_text: ""
                  empty_list: []
                  empty_map: {}
                  nested: {a: [1, {b: [on, off]}], 80: port, true: bool}
                  text: |
                    two
                    lines
                  folded: >-
                    one
                    line
                  unicode: Zürich ☃
                  template: "{{ integer }}-{% if x %}y{% endif %}"
        """
    },
    "unsafe text": {
        "hosts.yml": "all: {hosts: {h1: {u: !unsafe '{{ x }}', d: !unsafe {a: ['{{ y }}', 1]}}}}"
    },
    "vaulted text": {
        "hosts.yml": """
            all:
              hosts:
                h1:
                  secret: !vault |
                    $ANSIBLE_VAULT;1.1;AES256
                    6162
        """
    },
    "anchors and merge keys": {
        "hosts.yml": """
            all:
              vars:
                base: &base {a: 1, b: 2}
                over: {<<: *base, b: 3}
                same: *base
              hosts: {h1: }
        """
    },
    "empty groups": {"hosts.yml": "all: {children: {web: , db: {hosts: }, x: {children: {y: }}}}"},
    "an empty file": {"hosts.yml": "", "more.yml": "web: {hosts: {h1: }}"},
    "a host in several groups": {
        "hosts.yml": "a: {hosts: {h1: {x: 1}}}\nb: {hosts: {h1: {y: 2}, h2: }}\nc: {hosts: {h1: }}"
    },
    "ungrouped hosts": {
        "hosts.yml": """
            all: {hosts: {solo: , both: , late: }}
            web: {hosts: {both: }}
            ungrouped: {hosts: {said: }, vars: {u: 1}}
        """,
        "group_vars/ungrouped.yml": "g: 1",
    },
    "ungrouped in one file, grouped in another": {
        "a.yml": "ungrouped: {hosts: {h1: }}",
        "b.yml": "web: {hosts: {h1: }}",
    },
    "several files": {
        "10-hosts.yml": "web: {hosts: {w1: {x: 1, y: 1}}, vars: {v: 1}}",
        "20-more.yaml": "web: {hosts: {w2: , w1: {x: 2}}, vars: {v: 2}}\ndb: {hosts: {d1: }}",
        "30-last.json": '{"db": {"hosts": {"d2": {"f": 1e3}}}, "top": {"children": {"web": null}}}',
        "hosts.yml.bak": "no: {hosts: {n1: }}",
        "hosts.yml~": "no: {hosts: {n2: }}",
        "hosts.orig": "no: {hosts: {n3: }}",
        "ansible.cfg": "",
        "README.md": "# Read me",
        ".hidden.yml": "no: {hosts: {n4: }}",
    },
    "files in a folder": {"hosts.yml": "a: {hosts: {h1: }}", "more/x.yml": "b: {hosts: {h2: }}"},
    "hosts without a suffix": {"hosts": "web: {hosts: {w1: }}"},
    "vars files of every suffix": {
        "hosts.yml": "all: {children: {a: , b: , c: , d: {hosts: {h1: }}}}\na: {hosts: {h1: }}"
        "\nb: {hosts: {h1: }}\nc: {hosts: {h1: }}",
        "group_vars/a": "a: 1",
        "group_vars/b.yml": "b: 1",
        "group_vars/c.yaml": "c: 1",
        "group_vars/d.json": '{"d": 1, "e": 1e3, "t": "{{ a }}"}',
        "group_vars/a.yml": "a: hidden behind the file without suffix",
        "group_vars/b.yaml": "b: hidden behind .yml",
        "group_vars/c.txt": "c: not read",
    },
    "vars folders": {
        "hosts.yml": "web: {hosts: {h1: }}",
        "group_vars/web/10-first.yml": "v: 1\na: 1",
        "group_vars/web/20-second.yml": "v: 2",
        "group_vars/web/15-sub/x.json": '{"v": 1.5, "s": 1}',
        "group_vars/web/30-third": "n: no suffix",
        "group_vars/web/40.txt": "v: not read",
        "group_vars/web/.50.yml": "v: not read",
        "group_vars/web/60.yml~": "v: not read",
        "group_vars/web/70~": "v: not read",
        "group_vars/web/sub.d/x.yml": "v: not read",
        "group_vars/web.yml": "v: hidden behind the folder",
        "host_vars/h1/a.yml": "h: 1",
    },
    "empty vars files": {
        "hosts.yml": "web: {hosts: {h1: {x: 1}}}",
        "group_vars/web.yml": "---\n# nothing yet\n",
        "host_vars/h1.yml": "{}",
    },
    "vars of nobody": {
        "hosts.yml": "web: {hosts: {h1: }}",
        "group_vars/db.yml": "x: 1",
        "host_vars/h2.yml": "x: 1",
    },
    "connection variables": {
        "hosts.yml": """
            web:
              hosts:
                w1: {ansible_host: 10.0.0.1, ansible_port: "2222", ansible_user: deploy}
                localhost: {ansible_connection: local}
              vars: {ansible_ssh_common_args: "-o ProxyJump=hop"}
        """
    },
    "names that are Ansible's own": {
        "hosts.yml": "all: {hosts: {h1: {groups: x, inventory_dir: y, hostvars: 1, mine: 2}}}",
        "group_vars/all.yml": "ansible_facts: {a: 1}\ngroup_names: [z]",
    },
    "a host with its group's name": {
        "hosts.yml": "web: {hosts: {web: {x: host}, w2: }, vars: {x: group}}\nb: {hosts: {web: }}"
    },
}
