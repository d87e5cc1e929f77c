"""Trees to deploy, from real repositories and folders."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fabfile.engine import source
from fabfile.engine.source import Source
from fabfile.errors import Refused, UsageError
from roles.release import ReleaseSettings

WHERE = "inventories/prod/hosts.yml: release"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Also: nothing of the user's own git."""
    monkeypatch.setenv("FABFLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "gitconfig").write_text(
        "[user]\nname=a\nemail=a@example.org\n[init]\ndefaultBranch=main\n"
        "[protocol \"file\"]\nallow=always\n"
    )
    return tmp_path / "cache"


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True,
                          check=True, env={**os.environ, "GIT_COMMITTER_DATE": "1767323045 +0500"})
    return done.stdout.strip()


def put(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def commit(folder: Path, **files: str | bytes) -> str:
    put(folder, **files)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, **{"manage.py": "v1\n"})
    return folder


def export(
    repository: Path | str, ref: str | None = None, worktree: bool = False, **settings: Any
) -> Source:
    chosen = ReleaseSettings(repository=str(repository), **settings)
    return source.export(chosen, WHERE, ref, worktree)


def export_folder(folder: Path, **settings: Any) -> Source:
    return source.export(ReleaseSettings(folder=str(folder), **settings), WHERE, None, False)


def manifest(found: Source) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(found.manifest).read_text())
    return data


def paths(found: Source) -> list[str]:
    tree = Path(found.tree)
    listed = [str(path.relative_to(tree)) for path in tree.rglob("*")
              if path.is_symlink() or path.is_file() or not any(path.iterdir())]
    assert sorted(listed) == sorted([*manifest(found)["files"], *manifest(found)["folders"]])
    return sorted(listed)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


# --- a ref of a repository ------------------------------------------------------------------


def test_head(repository: Path) -> None:
    found = export(repository)
    head = git(repository, "rev-parse", "HEAD")
    assert (found.commit, found.ref, found.origin) == (head, "HEAD", str(repository))
    assert found.name == f"20260102-030405-{head[:7]}"
    assert (found.files, found.size) == (1, 3)
    assert manifest(found) == {
        "files": {"manage.py": ["644", hashlib.sha256(b"v1\n").hexdigest()]}, "folders": [],
    }
    assert found.digest == hashlib.sha256(Path(found.manifest).read_bytes()).hexdigest()


def test_a_tag_a_branch_and_a_commit(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "-a", "v1", "-m", "x")
    second = commit(repository, **{"manage.py": "v2\n"})
    git(repository, "branch", "next")
    for ref in ("v1", first, first[:8]):
        assert (export(repository, ref).commit, export(repository, ref).ref) == (first, ref)
    assert export(repository, "next").commit == second
    assert export(repository, ref=None).commit == second
    assert source.export(ReleaseSettings(repository=str(repository), ref="v1"), WHERE, None,
                         False).commit == first


def test_a_ref_that_is_not_there(repository: Path) -> None:
    git(repository, "branch", "next")
    with pytest.raises(UsageError) as caught:
        export(repository, "nxet")
    assert str(caught.value) == (
        f"--ref=nxet: no such branch, tag or commit in {repository}; the newest are: main, next"
    )
    with pytest.raises(UsageError) as caught:
        source.export(ReleaseSettings(repository=str(repository), ref="v9"), WHERE, None, False)
    assert str(caught.value).startswith(f"{WHERE}.ref=v9: no such branch, tag or commit in ")


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    with pytest.raises(UsageError, match=r"it has no commit yet$"):
        export(tmp_path / "new", "main")


def test_the_work_tree_counts_only_where_it_is_what_is_deployed(repository: Path) -> None:
    git(repository, "tag", "v1")
    put(repository, **{"manage.py": "changed\n"})
    put(repository, new="x")
    head = git(repository, "rev-parse", "HEAD")
    with pytest.raises(Refused) as caught:
        export(repository)
    assert str(caught.value) == (
        f"{repository}: the work tree has changes that commit {head[:7]} does not hold:\n"
        "   M manage.py\n  ?? new\n"
        "Commit or stash them, or ship them as they are with --worktree"
    )
    git(repository, "stash", "-u", "-q")
    commit(repository, **{"manage.py": "v2\n"})
    put(repository, new="x")
    assert export(repository, "v1").files == 1


def test_beside_a_commit_that_was_pinned_the_work_tree_does_not_matter(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    put(repository, new="x")
    settings = ReleaseSettings(repository=str(repository))
    with pytest.raises(Refused, match="the work tree has changes"):
        source.export(settings, WHERE, head, worktree=False)
    found = source.export(settings, WHERE, head, worktree=False, pinned=True)
    assert (found.commit, paths(found)) == (head, ["manage.py"])


def test_many_changes_are_not_all_told(repository: Path) -> None:
    put(repository, **{f"x{number:02}": "" for number in range(13)})
    with pytest.raises(Refused, match=re.escape("\n  ?? x09\n  and 3 more\nCommit or stash")):
        export(repository)


def test_it_is_exported_once(repository: Path, cache: Path) -> None:
    first = export(repository)
    Path(first.tree, "mark").touch()
    assert export(repository).tree == first.tree
    assert Path(export(repository).tree, "mark").exists()
    assert Path(first.tree).is_relative_to(cache)
    assert export(repository, exclude=["*.md"]).tree != first.tree


def test_a_crash_in_between_leaves_nothing_half(
    repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: Path) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(source, "_write_manifest", crash)
        with pytest.raises(KeyboardInterrupt):
            export(repository)
    assert os.listdir(cache / "trees") == []
    assert paths(export(repository)) == ["manage.py"]


def test_submodules_are_refused(repository: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    commit(inner, x="")
    git(repository, "submodule", "--quiet", "add", str(inner), "vendor/inner")
    head = commit(repository)
    with pytest.raises(Refused) as caught:
        export(repository)
    assert str(caught.value) == (
        f"{repository}: {head[:7]} has submodules, which are not exported: vendor/inner. "
        "Vendor them, or deploy a folder that holds everything"
    )


def test_an_empty_release_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        export(repository, exclude=["*"])
    assert str(caught.value) == (
        f"{repository}: the release would be empty; check release.exclude and the ref"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="the release would be empty"):
        export_folder(tmp_path / "empty")


# --- what a tree holds ----------------------------------------------------------------------


AWKWARD: dict[str, bytes] = {
    "a b/it's $x.txt": b"1", "new\nline": b"2", "größe/€.txt": b"3", "-dash": b"4",
    'quote"back\\slash': b"5", "crlf.txt": b"a\r\nb\r\n", "binary": bytes(range(256)),
    "nothing": b"",
}


@pytest.mark.parametrize("worktree", [False, True])
def test_awkward_names_and_contents(repository: Path, worktree: bool) -> None:
    put(repository, **AWKWARD)
    if not worktree:
        commit(repository)
    found = export(repository, worktree=worktree)
    assert paths(found) == sorted([*AWKWARD, "manage.py"])
    for name, content in AWKWARD.items():
        assert Path(found.tree, name).read_bytes() == content
        assert manifest(found)["files"][name] == ["644", hashlib.sha256(content).hexdigest()]


def test_line_endings_are_the_commit_s_not_the_user_s(repository: Path, tmp_path: Path) -> None:
    with (tmp_path / "gitconfig").open("a") as config:
        config.write("[core]\nautocrlf=true\n")
    assert Path(export(repository).tree, "manage.py").read_bytes() == b"v1\n"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_modes_are_git_s_whatever_the_umask(repository: Path, mask: int) -> None:
    put(repository, **{"bin/run": "#!/bin/sh\n"})
    (repository / "bin" / "run").chmod(0o755)
    commit(repository)
    with umask(mask):
        exports = [export(repository), export(repository, worktree=True),
                   export_folder(repository)]
    for found in exports:
        tree = Path(found.tree)
        assert manifest(found)["files"]["bin/run"][0] == "755"
        assert manifest(found)["files"]["manage.py"][0] == "644"
        modes = {str(path.relative_to(tree)): path.stat().st_mode & 0o7777
                 for path in (tree, *tree.rglob("*"))}
        assert modes == {".": 0o755, "bin": 0o755, "bin/run": 0o755, "manage.py": 0o644}
    assert len({found.digest for found in exports}) == 1


def test_odd_modes_of_a_work_tree_are_made_plain(repository: Path) -> None:
    (repository / "manage.py").chmod(0o600)
    put(repository, run="x")
    (repository / "run").chmod(0o4711)
    files = manifest(export(repository, worktree=True))["files"]
    assert {name: mode for name, (mode, _) in files.items()} == {"manage.py": "644", "run": "755"}


@pytest.mark.parametrize("kind", ["commit", "worktree", "folder"])
def test_links_stay_links(repository: Path, kind: str) -> None:
    put(repository, **{"folder/x": "1"})
    for name, to in (("to-file", "folder/x"), ("to-folder", "folder"), ("to-nothing", "/no/such")):
        os.symlink(to, repository / name)
    if kind == "commit":
        commit(repository)
    found = export_folder(repository) if kind == "folder" else export(
        repository, worktree=kind == "worktree")
    files = manifest(found)["files"]
    assert files["to-file"] == ["link", "folder/x"]
    assert files["to-folder"] == ["link", "folder"]
    assert files["to-nothing"] == ["link", "/no/such"]
    assert "to-folder/x" not in files


@pytest.mark.parametrize(("patterns", "left"), [
    (["docs"], ["a.py", "sub/a.md", "sub/docs.txt"]),
    (["docs/"], ["a.py", "sub/a.md", "sub/docs.txt"]),
    (["/docs"], ["a.py", "sub/a.md", "sub/docs.txt", "sub/docs/y"]),
    (["*.md"], ["a.py", "docs/x", "sub/docs.txt", "sub/docs/y"]),
    (["*", "!a.py"], ["a.py"]),
    (["sub/**", "# a comment", ""], ["a.py", "docs/x"]),
    (["sub/*", "!sub/a.md"], ["a.py", "docs/x", "sub/a.md"]),
])
def test_what_is_not_shipped(repository: Path, patterns: list[str], left: list[str]) -> None:
    git(repository, "rm", "-q", "manage.py")
    commit(repository, **{"a.py": "", "docs/x": "", "sub/a.md": "", "sub/docs/y": "",
                          "sub/docs.txt": ""})
    assert paths(export(repository, exclude=patterns)) == left
    assert paths(export(repository, worktree=True, exclude=patterns)) == left
    assert paths(export_folder(repository, exclude=patterns)) == left


def test_equal_content_has_an_equal_manifest_wherever_it_came_from(repository: Path) -> None:
    commit(repository, **{"a/b": "1", "c": "2"})
    found = [export(repository), export(repository, worktree=True), export_folder(repository)]
    assert len({each.digest for each in found}) == 1
    assert [each.name for each in found][1:] == [f"worktree-{found[0].commit[:7]}", "folder"]
    commit(repository, c="3")
    assert export(repository).digest != found[0].digest


# --- a work tree ----------------------------------------------------------------------------


def test_a_work_tree_is_what_git_would_add(repository: Path) -> None:
    commit(repository, **{".gitignore": "*.log\nbuild/\n", "gone": "x"})
    (repository / "gone").unlink()
    put(repository, **{"manage.py": "changed", "new": "", "x.log": "", "build/x": ""})
    found = export(repository, worktree=True)
    assert paths(found) == [".gitignore", "manage.py", "new"]
    assert Path(found.tree, "manage.py").read_text() == "changed"
    assert (found.commit, found.ref) == (git(repository, "rev-parse", "HEAD"), "")


def test_a_work_tree_without_a_commit(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    put(tmp_path / "new", x="1")
    found = export(tmp_path / "new", worktree=True)
    assert (found.name, found.commit, paths(found)) == ("worktree", "", ["x"])


def test_a_bare_repository_has_no_work_tree(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare")
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "bare", worktree=True)
    assert str(caught.value) == (
        f"--worktree: {tmp_path}/bare is a bare repository and has none"
    )
    assert export(tmp_path / "bare").files == 1


# --- a plain folder -------------------------------------------------------------------------


def test_a_folder_without_what_python_and_git_leave_there(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    put(folder, **{"a.py": "1", "a.pyc": "", "sub/__pycache__/x.pyc": "", "sub/b": "",
                   ".git/HEAD": "", "only/__pycache__/x.pyc": ""})
    (folder / "media" / "empty").mkdir(parents=True)
    found = export_folder(folder)
    assert paths(found) == ["a.py", "media/empty", "sub/b"]
    assert manifest(found)["folders"] == ["media/empty"]
    assert (found.name, found.commit, found.origin) == ("folder", "", str(folder))
    assert not Path(found.tree, "only").exists()


def test_a_folder_that_did_not_change_is_not_kept_twice(tmp_path: Path, cache: Path) -> None:
    put(tmp_path / "site", x="1")
    first = export_folder(tmp_path / "site")
    os.utime(tmp_path / "site" / "x", (1, 1))
    assert export_folder(tmp_path / "site") == first
    assert len(os.listdir(cache / "trees")) == 1
    put(tmp_path / "site", x="2")
    assert export_folder(tmp_path / "site").digest != first.digest


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export_folder(tmp_path / "no")
    assert str(caught.value) == f"{WHERE}.folder: {tmp_path}/no: no such folder"


def test_a_folder_has_no_refs(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        source.export(ReleaseSettings(folder=str(tmp_path)), WHERE, "main", False)
    assert str(caught.value) == (
        f"--ref, --worktree: {WHERE}.folder is a plain folder without refs"
    )


def test_a_pipe_cannot_be_shipped(tmp_path: Path) -> None:
    put(tmp_path / "site", x="1")
    os.symlink("x", tmp_path / "site" / "link")
    tree = tmp_path / "made" / "tree"
    tree.mkdir(parents=True)
    os.mkfifo(tree / "pipe")
    with pytest.raises(Refused) as caught:
        source._write_manifest(tree.parent)
    assert str(caught.value) == (
        f"{tree}/pipe: neither a file nor a link; a release can't hold it"
    )


# --- a repository elsewhere -------------------------------------------------------------------


def test_a_remote_repository_is_mirrored_and_brought_up_to_date(
    repository: Path, cache: Path
) -> None:
    url = f"file://{repository}"
    first = export(url)
    put(repository, dirty="x")  # a remote's work tree is nobody's business
    assert export(url).commit == first.commit
    (repository / "dirty").unlink()
    second = commit(repository, **{"manage.py": "v2\n"})
    git(repository, "tag", "v2")
    for ref in (None, "main", "v2"):
        assert export(url, ref).commit == second
    assert Path(export(url).tree, "manage.py").read_text() == "v2\n"
    third = commit(repository, **{"manage.py": "v3\n"})
    git(repository, "tag", "-f", "v2")  # nobody should, somebody does
    assert export(url, "v2").commit == third
    assert len(os.listdir(cache / "git")) == 1


def test_for_a_commit_that_is_here_nobody_is_asked(repository: Path, tmp_path: Path) -> None:
    first = export(f"file://{repository}")
    second = commit(repository, **{"manage.py": "v2\n"})
    assert export(f"file://{repository}", second).commit == second
    repository.rename(tmp_path / "away")
    assert export(f"file://{repository}", first.commit).commit == first.commit
    with pytest.raises(UsageError, match="git fetch"):
        export(f"file://{repository}", "a" * 40)


def test_a_branch_that_was_deleted_there_is_gone_here(repository: Path) -> None:
    git(repository, "branch", "old")
    assert export(f"file://{repository}", "old").files == 1
    git(repository, "branch", "-D", "old")
    with pytest.raises(UsageError, match="--ref=old: no such branch, tag or commit"):
        export(f"file://{repository}", "old")


def test_a_remote_repository_that_is_not_there(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export(f"file://{tmp_path}/no")
    assert str(caught.value).startswith(
        f"{WHERE}.repository: cannot clone file://{tmp_path}/no: fatal: "
    )
    assert os.listdir(cache / "git") == []


def test_what_is_no_repository_at_all(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "plain")
    assert str(caught.value) == (
        f"{WHERE}.repository: {tmp_path}/plain is no git repository; for a plain folder set "
        "release.folder instead"
    )
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "no")
    assert str(caught.value) == (
        f"{WHERE}.repository: {tmp_path}/no: no such folder, and no URL of a repository either"
    )
