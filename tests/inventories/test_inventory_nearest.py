from __future__ import annotations

import subprocess
import sys

from inventories.nearest import did_you_mean, nearest


def test_nearest() -> None:
    assert nearest("prdo", ["lab", "prod"]) == "prod"
    assert nearest("prdo", iter({"prod": 1})) == "prod"
    assert nearest("zzz", ["lab", "prod"]) is None
    assert nearest("prod", []) is None


def test_did_you_mean() -> None:
    assert did_you_mean("prdo", ["lab", "prod"]) == " Did you mean prod?"
    assert did_you_mean("zzz", ["lab", "prod"]) == ""


def test_loading_plain_yaml_needs_neither_jinja_nor_clustershell() -> None:
    code = (
        "import sys, inventories.load; sys.exit(bool({'jinja2', 'ClusterShell'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
