"""The current release is complete, and belongs to the user who deploys."""

from typing import Any

from roles.role import Target


def check_current_is_a_complete_release(host: Any, target: Target) -> None:
    current = host.file(target.paths.current)
    assert current.is_symlink, f"{target.paths.current} is no link: nothing was deployed yet"
    assert current.linked_to == target.paths.release(target.release.id)
    meta = f"{target.paths.state}/releases/{target.release.id}"
    for name in ("manifest.json", "runtime.json", "in-use"):
        assert host.file(f"{meta}/{name}").exists, f"{meta}/{name}"


def check_no_upload_was_left_half_done(host: Any, target: Target) -> None:
    names = host.file(target.paths.releases).listdir()
    assert [name for name in names if name.startswith(".")] == []


def check_tree_has_no_bytecode(host: Any, target: Target) -> None:
    found = host.run("find %s -name __pycache__ -o -name '*.pyc'", target.paths.current + "/")
    assert found.stdout == ""
