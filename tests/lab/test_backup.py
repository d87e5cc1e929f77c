"""Backups, drills and management commands on real hosts with a real database."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.fleet import ROOT, Fleet

pytestmark = pytest.mark.timeout(300)

FOLDER = f"{ROOT}/shared/backups"


def taken(fleet: Fleet) -> dict[str, Any]:
    """The record of a backup that was made now."""
    (record,) = json.loads(fleet.fab("backup", "--json", check=0).stdout)
    return dict(record)


def scratches(fleet: Fleet) -> list[list[str]]:
    return fleet.sql("select datname from pg_database where datname like '%drill%'", "postgres")


def test_a_backup_is_made_and_can_be_restored(on_v1: Fleet) -> None:
    fleet = on_v1
    before = fleet.serving()
    shown = fleet.fab("backup", "--dry-run", check=0).stdout
    assert f"a backup would be kept in web1:{FOLDER} and take up to " in shown
    assert fleet.on("web1", f"ls -A {FOLDER} 2>/dev/null || true") == ""

    record = taken(fleet)
    assert (record["release"], record["vendor"]) == (fleet.current("web1"), "postgresql")
    assert record["database"] == "shop"
    assert "/" in record["lsn"]
    content = fleet.on("web1", f"sha256sum {record['file']}; stat -c '%s %U %a' {record['file']} "
                               f"{FOLDER}; head -c 5 {record['file']}")
    assert content.split() == [record["sha256"], record["file"], str(record["bytes"]), "shop",
                               "600", content.split()[5], "shop", "700", "PGDMP"]
    assert record["name"] in fleet.fab("backup.list", check=0).stdout
    assert not any("shop:shop" in path.read_text() for path in fleet.journals()[-1:])

    found = fleet.fab("backup.drill", check=0).stdout
    assert f"{record['file']} was restored in " in found
    assert "would still run there: none" in found
    live = fleet.sql("select count(*) from catalog_product")[0][0]
    (products,) = [line.split() for line in found.splitlines() if "catalog_product" in line]
    assert products == ["catalog_product", live, live]
    assert "went well" in fleet.fab("backup.list", check=0).stdout
    assert scratches(fleet) == []
    assert fleet.serving() == before


def test_a_drill_tells_what_the_release_would_still_migrate(on_v1: Fleet) -> None:
    fleet = on_v1
    taken(fleet)
    fleet.fab("deploy", "--ref=v2", check=0)
    (found,) = json.loads(fleet.fab("backup.drill", "--json", check=0).stdout)
    assert found["pending"] == ["catalog.0004_product_stock", "catalog.0005_note_stock"]
    rows = found["rows"]["catalog_auditentry"]
    assert rows[0] < rows[1]


def test_a_truncated_dump_is_found_out(on_v1: Fleet) -> None:
    fleet = on_v1
    path = taken(fleet)["file"]
    fleet.on("web1", f"truncate -s -100 {path}")
    done = fleet.fab("backup.drill", check=1)
    assert f"web1: the drill failed: {path} is not what was written" in done.stderr
    fleet.on("web1", f"cp -p {path} {FOLDER}/other")
    done = fleet.fab("backup.drill", "--file=other", check=1)
    assert f"{FOLDER}/other cannot be read back" in done.stderr
    assert scratches(fleet) == []


def test_without_pg_dump_nothing_is_begun(on_v1: Fleet) -> None:
    fleet = on_v1
    fleet.on("web1", "mv /usr/lib/postgresql /usr/lib/not-postgresql; mv /usr/bin/pg_dump /root/")
    try:
        journals = fleet.journals()
        done = fleet.fab("backup", check=3)
        assert done.stderr == (
            "web1: pg_dump is not on this host; install it there: apt install postgresql-client-15 "
            "(where the host's own release has that version: apt install postgresql-client)\n"
            "nothing was changed\n"
        )
        assert fleet.journals() == journals
    finally:
        fleet.on("web1", "mv /root/pg_dump /usr/bin/; mv /usr/lib/not-postgresql "
                         "/usr/lib/postgresql")


def test_a_folder_of_one_s_own(on_v1: Fleet) -> None:
    fleet = on_v1
    fleet.write_inventory(backup={"folder": "/var/backups/shop"})
    done = fleet.fab("backup", check=3)
    assert "backup.folder: /var/backups/shop is not writable for the service's user" in done.stderr
    done = fleet.fab("hosts.setup", check=0)
    assert "web1: ready: folder /var/backups/shop; owner of /var/backups/shop" in done.stdout
    assert fleet.on("web2", "ls -d /var/backups/shop 2>/dev/null || true") == ""
    assert taken(fleet)["file"].startswith("/var/backups/shop/")


def test_a_deploy_at_the_same_time_keeps_a_backup_out(on_v1: Fleet) -> None:
    fleet = on_v1
    fleet.hold("web1")
    deploy = fleet.begin("deploy", "--ref=v2", at="started/static.collect/web1")
    done = fleet.fab("backup", check=75)
    assert "deploy" in done.stderr or "lock" in done.stderr
    fleet.let_go("web1")
    assert deploy.wait(60) == 0


def test_management_commands_run_as_the_service_does(on_v1: Fleet) -> None:
    fleet = on_v1
    done = fleet.fab("manage", "--", "showmigrations", "catalog", check=0)
    assert done.stdout.splitlines() == [
        "catalog", " [X] 0001_initial", " [X] 0002_auditentry", " [X] 0003_first_products",
    ]
    code = ("import getpass, json, os, sys; print(json.dumps([getpass.getuser(), os.getcwd(), "
            "sys.prefix, os.environ['RELEASE_ID'], sys.stdin.read(), 'a  $b']));"
            "print('größe', file=sys.stderr); sys.exit(7)")
    done = fleet.fab("manage", "--", "shell", "-v", "0", "-c", code, check=7)
    release = fleet.current("web1")
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == ["shop", f"{ROOT}/releases/{release}", said[2], release, "", "a  $b"]
    assert said[2].startswith(f"{ROOT}/venvs/")
    assert done.stderr.strip().endswith("größe")
    unknown = fleet.fab("manage", "--", "no_such_command", check=1)
    assert "Unknown command: 'no_such_command'" in unknown.stderr


def test_nothing_is_there_before_the_first_deploy(fleet: Fleet) -> None:
    fleet.on("web1", f"rm -rf {FOLDER}")
    words = f"web1: nothing was deployed yet; fab deploy --env={fleet.env} comes first\n"
    for typed in (("manage", "--", "check"), ("backup",), ("backup.drill",)):
        assert fleet.fab(*typed, check=3).stderr == words
    assert "there is no backup yet" in fleet.fab("backup.list", check=0).stdout


def test_output_comes_as_it_is_made(on_v1: Fleet) -> None:
    fleet = on_v1
    code = "import time; print('first', flush=True); time.sleep(30)"
    process = fleet.start("manage", "--", "shell", "-v", "0", "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    assert process.poll() is None
