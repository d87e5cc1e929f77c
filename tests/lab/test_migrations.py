"""What pending migrations allow: the decisions, each from the plan to the page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.fleet import Fleet
from tests.sites.history import tree

CONTRACT, EXPAND = "catalog.0007_forget_stock", "catalog.0006_product_origin"
OFFLINE, UNKNOWN = "catalog.0006_rename_stock", "catalog.0006_note_shelves"


def applied(fleet: Fleet) -> list[str]:
    """What the database has, each as often as it is recorded."""
    return [f"catalog.{name}" for name in fleet.migrations()]


def stages(fleet: Fleet, *words: str) -> list[tuple[str, str]]:
    """(plan, stage) of what a deploy would do."""
    shown = json.loads(fleet.fab("plan", "--json", *words, check=0).stdout)
    return [(plan["name"], stage["name"]) for plan in shown["plans"] for stage in plan["stages"]]


def refused(fleet: Fleet, *words: str) -> list[str]:
    """The lines of a deploy that is refused, which changed nothing: plan, dry run and deploy."""
    before = (applied(fleet), fleet.serving(), fleet.currents())
    told = []
    for command in (("plan",), ("deploy", "--dry-run"), ("deploy",)):
        done = fleet.fab(*command, *words, check=3)
        told.append([line for line in done.stderr.splitlines() if not line.startswith("  fab ")])
        assert (applied(fleet), fleet.serving(), fleet.currents()) == before
    assert told[0] == told[1] == told[2]
    return told[0]


@pytest.fixture
def on_v2(on_v1: Fleet) -> Fleet:
    on_v1.fab("deploy", "--ref=v2", check=0)
    return on_v1


def test_all_is_safe_before_the_new_code_so_it_rolls(on_v1: Fleet) -> None:
    assert stages(on_v1, "--ref=v2") == [
        ("stage", "stage"), ("release", "migrate"), ("release", "roll"), ("release", "finish"),
    ]
    assert len(applied(on_v1)) == 3
    on_v1.fab("deploy", "--ref=v2", check=0)
    assert applied(on_v1)[3:] == ["catalog.0004_product_stock", "catalog.0005_note_stock"]


def test_what_old_code_cannot_live_with_waits_until_it_is_gone(on_v2: Fleet) -> None:
    assert stages(on_v2, "--ref=v8")[1:] == [
        ("release", "migrate"), ("release", "roll"), ("release", "finish"),
        ("contract", "drain"), ("contract", "backup"), ("contract", "contract"),
    ]
    done = on_v2.fab("deploy", "--ref=v8", check=0)
    assert applied(on_v2)[5:] == [EXPAND, CONTRACT]
    lines = done.stdout.splitlines()
    order = [next(n for n, line in enumerate(lines) if text in line) for text in (
        f"{EXPAND}: applied", "web3  wsgi.health", "web1  backup.dump", f"{CONTRACT}: applied")]
    assert order == sorted(order)
    (found,) = json.loads(on_v2.fab("backup.list", "--json", check=0).stdout)["backups"]
    assert found["key"] == f"{on_v2.current('web1')} contract"
    assert len(set(on_v2.serving().values())) == 1


def test_a_host_left_out_keeps_the_contract_pending(on_v2: Fleet) -> None:
    done = on_v2.fab("deploy", "--ref=v8", "--hosts=web[1-2]", check=4)
    assert applied(on_v2)[5:] == [EXPAND]
    assert f"waiting for all old code to be gone: {CONTRACT}" in done.stderr
    assert f"fab deploy.finish --env={on_v2.env}" in done.stderr
    early = on_v2.fab("deploy.finish", check=3)
    assert "web3" in early.stderr
    assert applied(on_v2)[5:] == [EXPAND]
    on_v2.fab("deploy", "--ref=v8", "--hosts=web3", check=4)
    on_v2.fab("deploy.finish", check=0)
    assert applied(on_v2)[5:] == [EXPAND, CONTRACT]


def test_neither_code_lives_with_the_other_schema(on_v2: Fleet) -> None:
    told = refused(on_v2, "--ref=v9")
    assert told[:2] == ["these migrations are not safe while the old code serves:", f"  {OFFLINE}"]
    assert any(line.startswith("    remedy: ") for line in told)
    on_v2.fab("deploy", "--ref=v9", "--maintenance", check=0)
    assert applied(on_v2)[5:] == [OFFLINE]
    assert len(set(on_v2.serving().values())) == 1


def test_only_its_author_knows(on_v2: Fleet) -> None:
    told = refused(on_v2, "--ref=v10")
    assert told[1] == f"  {UNKNOWN}"
    wrong = on_v2.fab("deploy", "--ref=v10", "--accept-risk=catalog.0099", check=3)
    assert f"catalog.0099: this is not pending; these are: {UNKNOWN}" in wrong.stderr
    on_v2.fab("deploy", "--ref=v10", f"--accept-risk={UNKNOWN}", check=0)
    assert applied(on_v2)[5:] == [UNKNOWN]
    assert accepted(on_v2) == [UNKNOWN]


def accepted(fleet: Fleet) -> Any:
    """What the last run's journal says that somebody accepted."""
    events = fleet.journal()
    steps = [step for event in events if event["event"] == "plan"
             for stage in event["plan"]["stages"] for turn in stage["turns"]
             for step in turn["steps"] if step["name"] == "migrations.apply"]
    return steps[0]["actions"][0]["arguments"]["ships"]["arguments"]["accepted"]


def test_the_inventory_says_what_the_author_did_not(on_v2: Fleet) -> None:
    on_v2.write_inventory(migrations={"phases": {UNKNOWN: "before"}})
    on_v2.fab("deploy", "--ref=v10", check=0)
    assert applied(on_v2)[5:] == [UNKNOWN]


def test_no_backup_no_step_that_cannot_be_taken_back(on_v2: Fleet) -> None:
    tool = on_v2.on("web1", "ls /usr/lib/postgresql/*/bin/pg_dump").strip()
    on_v2.on("web1", f"mv {tool} {tool}.away")
    try:
        told = refused(on_v2, "--ref=v8")
        assert told[0] == (f"a backup comes before {CONTRACT} (backup.required), "
                           f"and cannot be made:")
    finally:
        on_v2.on("web1", f"mv {tool}.away {tool}")


# --- going back -----------------------------------------------------------------------------------


def test_code_goes_back_alone_where_it_lives_with_the_newer_schema(on_v1: Fleet) -> None:
    before = on_v1.serving()
    on_v1.fab("deploy", "--ref=v2", check=0)
    planned = on_v1.fab("rollback", "--reverse", "--dry-run", check=0).stdout
    assert "--reverse: nothing has to be taken back; the code goes back while it serves" in planned
    done = on_v1.fab("rollback", check=0)
    assert ("newer than this release, and applied: catalog.0005_note_stock, "
            "catalog.0004_product_stock") in done.stdout
    assert on_v1.serving() == before
    assert len(applied(on_v1)) == 5


def test_what_the_older_code_cannot_live_with_is_taken_back_first(on_v2: Fleet) -> None:
    before = on_v2.serving()
    on_v2.fab("deploy", "--ref=v8", check=0)
    after = on_v2.serving()
    done = on_v2.fab("rollback", check=3)
    again = f"fab rollback --env={on_v2.env} --to={before['web1']}"
    assert done.stderr.splitlines() == [
        "the older code cannot live with these newer migrations:",
        f"  {CONTRACT} (after)",
        f"they can be taken back: {CONTRACT}",
        "  data that is lost then: "
        "reversing makes catalog_product.stock anew, empty: what was in it is gone",
        "nothing was changed; go on with one of:",
        f"  {again} --reverse    (takes them back first)",
        f"  {again} --accept-risk={CONTRACT}    (the code alone)",
        "  or deploy a newer release that mends what made you go back",
    ]
    assert (on_v2.serving(), applied(on_v2)[5:]) == (after, [EXPAND, CONTRACT])
    on_v2.fab("rollback", "--reverse", check=0)
    assert (on_v2.serving(), applied(on_v2)[5:]) == (before, [EXPAND])
    assert on_v2.status_of("web1", "/") == 200


def test_a_renamed_column_comes_back_while_nobody_serves(on_v2: Fleet) -> None:
    before = on_v2.serving()
    on_v2.fab("deploy", "--ref=v9", "--maintenance", check=0)
    open_ = on_v2.fab("rollback", "--reverse", check=3)
    assert f"the code that serves cannot live without {OFFLINE}" in open_.stderr
    assert applied(on_v2)[5:] == [OFFLINE]
    on_v2.fab("rollback", "--reverse", "--maintenance", check=0)
    assert (on_v2.serving(), applied(on_v2)[5:]) == (before, [])


MIDDLE = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = (("catalog", "0006_rename_stock"),)
    stage = "post_deploy"
    operations = (migrations.RunPython(lambda apps, schema_editor: None),)
"""
LAST = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = (("catalog", "0007_middle"),)
    operations = (migrations.RenameField("product", "on_shelf", "there"),)
"""


def test_an_irreversible_step_in_the_middle_is_known_before_the_first(on_v2: Fleet) -> None:
    on_v2.commit("middle", {
        "catalog/migrations/0007_middle.py": MIDDLE, "catalog/migrations/0008_last.py": LAST,
        "catalog/models.py": tree("v9")["catalog/models.py"].data.decode().replace(
            "on_shelf", "there"),
        "templates/catalog/product_card.html": "",
    }, parent="v9")
    on_v2.fab("deploy", "--ref=middle", "--maintenance", check=0)
    newest = [OFFLINE, "catalog.0007_middle", "catalog.0008_last"]
    assert applied(on_v2)[5:] == newest
    served = on_v2.serving()
    done = on_v2.fab("rollback", "--reverse", "--maintenance", check=3)
    assert done.stderr.splitlines()[0] == (
        "--reverse: there is no whole way back, so not even its first step is taken:")
    assert "  catalog.0007_middle: Raw Python operation: cannot be taken back" in done.stderr
    assert (applied(on_v2)[5:], on_v2.serving()) == (newest, served)


# --- a person reads it first ----------------------------------------------------------------------


def test_only_the_plan_that_was_read_may_run(on_v2: Fleet) -> None:
    sql = on_v2.fab("migrations.sql", "--ref=v8", check=0).stdout
    found = sql.splitlines()[0].removeprefix("-- plan ")
    assert f"--approved-plan={found[:12]}" in sql
    assert 'ALTER TABLE "catalog_product" DROP COLUMN "stock" CASCADE;' in sql
    other = on_v2.fab("deploy", "--ref=v9", f"--approved-plan={found}", "--maintenance", check=3)
    assert "this is not the plan that was approved" in other.stderr
    assert len(applied(on_v2)) == 5
    on_v2.fab("deploy", "--ref=v8", f"--approved-plan={found[:12]}", check=0)
    assert len(applied(on_v2)) == 7


def test_what_is_pending_is_shown_on_one_screen(on_v2: Fleet) -> None:
    before = on_v2.dump()
    shown = on_v2.fab("migrations", "--ref=v8", check=0).stdout.splitlines()
    assert shown[0].startswith("2 migrations pending: 1 safe while the old code serves")
    assert len(shown) < 25
    told = json.loads(on_v2.fab("migrations", "--ref=v8", "--json", check=0).stdout)
    pending = told["plans"]["default"]["pending"]
    assert [(each["migration"], each["phase"]) for each in pending] == [
        (EXPAND, "before"), (CONTRACT, "after")]
    assert pending[1]["sizes"]["catalog_product"] > 0
    assert on_v2.dump() == before


def test_the_job_alone(on_v2: Fleet) -> None:
    on_v2.fab("manage", "--", "migrate", "catalog", "0004", check=0)
    assert len(applied(on_v2)) == 4
    on_v2.fab("migrations.run", check=0)
    assert len(applied(on_v2)) == 5
    assert "nothing is pending" in on_v2.fab("migrations.run", check=0).stdout
