"""Where a release comes from: a ref of a git repository, a work tree, or a plain folder.

Exported once on the controller, with a manifest of path, mode and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fabfile.engine.cache import cache_folder, made_once
from fabfile.errors import Refused, UsageError
from roles.release import ReleaseSettings

COMMIT = re.compile(r"[0-9a-f]{40}")
NEVER_FROM_A_FOLDER = (".git/", "__pycache__/", "*.pyc")


@dataclass(frozen=True)
class Source:
    """An exported tree. ``name`` tells its content: equal names, equal trees."""

    tree: str
    manifest: str
    digest: str
    files: int
    size: int
    name: str
    commit: str = ""
    ref: str = ""
    origin: str = ""


def export(
    settings: ReleaseSettings, where: str, ref: str | None, worktree: bool, pinned: bool = False
) -> Source:
    """The tree to deploy. ``where`` starts the messages of errors. Where ``ref`` is a commit that
    was ``pinned`` earlier, a work tree beside it does not matter any more.

    Raises :class:`UsageError` (ref or folder not found) and :class:`Refused` (a dirty work tree,
    an empty release).
    """
    if settings.folder is not None:
        if ref or worktree:
            raise UsageError(f"--ref, --worktree: {where}.folder is a plain folder without refs")
        return _from_folder(Path(settings.folder).expanduser(), settings.exclude, f"{where}.folder")
    assert settings.repository is not None
    repository = _repository(settings.repository, f"{where}.repository", ref)
    if worktree:
        return _from_worktree(repository, settings.exclude)
    commit = _wanted(repository, settings, where, ref)
    if not pinned:
        _refuse_dirty(repository, commit)
    return _from_commit(repository, commit, ref or settings.ref, settings)


def commit_of(settings: ReleaseSettings, where: str, ref: str | None) -> str:
    """The commit that :func:`export` would take now; none of a plain folder. Raises as it does."""
    if settings.repository is None:
        return ""
    repository = _repository(settings.repository, f"{where}.repository", ref)
    return _wanted(repository, settings, where, ref)


def _wanted(repository: Path, settings: ReleaseSettings, where: str, ref: str | None) -> str:
    return _commit(repository, ref or settings.ref, "--ref" if ref else f"{where}.ref")


def git(
    repository: Path, *words: str, check: bool = True, environment: Mapping[str, str] | None = None
) -> str:
    """What git prints. Raises :class:`UsageError`; without ``check`` a failure is no text."""
    done = subprocess.run(
        ["git", "-C", str(repository), *words], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **(environment or {})},
    )
    if check and done.returncode != 0:
        raise UsageError(f"git {words[0]} in {repository}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else ""


def _repository(source: str, where: str, ref: str | None) -> Path:
    """A local repository, or a mirror of a remote one brought up to date; nobody is asked for a
    commit that the mirror has."""
    local = Path(source).expanduser()
    if local.is_dir():
        if not git(local, "rev-parse", "--git-dir", check=False):
            raise UsageError(f"{where}: {source} is no git repository; for a plain folder set "
                             f"release.folder instead")
        return local
    if "://" not in source and ":" not in source:
        raise UsageError(f"{where}: {source}: no such folder, and no URL of a repository either")
    mirror = cache_folder() / "git" / hashlib.sha256(source.encode()).hexdigest()[:16]
    if not mirror.is_dir():
        made_once("git", mirror.name, lambda new: _clone(source, new, where))
    if ref and COMMIT.fullmatch(ref) and _known(mirror, ref):
        return mirror
    git(mirror, "fetch", "--prune", "--quiet", "origin", "+refs/*:refs/*")
    return mirror


def _clone(source: str, new: Path, where: str) -> None:
    done = subprocess.run(
        ["git", "clone", "--quiet", "--mirror", source, str(new)], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
    )
    if done.returncode != 0:
        raise UsageError(f"{where}: cannot clone {source}: {done.stderr.strip()}")


def _commit(repository: Path, ref: str, by: str) -> str:
    found = _known(repository, ref)
    if not found:
        names = git(repository, "for-each-ref", "--sort=-creatordate", "--count=10",
                    "--format=%(refname:short)", "refs/heads", "refs/tags").split()
        newest = f"; the newest are: {', '.join(names)}" if names else "; it has no commit yet"
        raise UsageError(f"{by}={ref}: no such branch, tag or commit in {repository}{newest}")
    return found


def _known(repository: Path, ref: str) -> str:
    """The commit that it means there; "" where it means none."""
    return git(repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}",
               check=False).strip()


def _refuse_dirty(repository: Path, commit: str) -> None:
    if git(repository, "rev-parse", "--is-bare-repository").strip() == "true":
        return
    if git(repository, "rev-parse", "HEAD", check=False).strip() != commit:
        return
    dirty = git(repository, "status", "--porcelain").splitlines()
    if dirty:
        shown = "\n".join(f"  {line}" for line in dirty[:10])
        more = f"\n  and {len(dirty) - 10} more" if len(dirty) > 10 else ""
        raise Refused(
            f"{repository}: the work tree has changes that commit {commit[:7]} does not hold:\n"
            f"{shown}{more}\nCommit or stash them, or ship them as they are with --worktree"
        )


def _from_commit(repository: Path, commit: str, ref: str, settings: ReleaseSettings) -> Source:
    key = f"{commit}-{_digest(json.dumps(settings.exclude))[:8]}"

    def make(new: Path) -> None:
        tree = new / "tree"
        tree.mkdir()
        links = [line for line in git(repository, "ls-tree", "-r", commit).splitlines()
                 if line.startswith("160000")]
        if links:
            paths = ", ".join(line.split("\t")[1] for line in links)
            raise Refused(f"{repository}: {commit[:7]} has submodules, which are not exported: "
                          f"{paths}. Vendor them, or deploy a folder that holds everything")
        index = {"GIT_INDEX_FILE": str(new / "index")}
        git(repository, "read-tree", commit, environment=index)
        git(repository, "-c", "core.autocrlf=false", "--work-tree", str(tree.resolve()),
            "checkout-index", "--all", "--force", environment=index)
        (new / "index").unlink()
        _exclude(tree, settings.exclude)
        _write_manifest(new)

    found = made_once("trees", key, make)
    when = git(repository, "show", "-s", "--date=format-local:%Y%m%d-%H%M%S", "--format=%cd",
               commit, environment={"TZ": "UTC"}).strip()
    return _source(found, f"{when}-{commit[:7]}", commit, ref, str(repository))


def _from_worktree(repository: Path, exclude: list[str]) -> Source:
    """What git would add: tracked and untracked files as they lie there, without ignored ones."""
    if git(repository, "rev-parse", "--is-bare-repository").strip() == "true":
        raise UsageError(f"--worktree: {repository} is a bare repository and has none")
    listed = git(repository, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    paths = [path for path in listed.split("\0") if path]
    commit = git(repository, "rev-parse", "HEAD", check=False).strip()
    name = f"worktree-{commit[:7]}" if commit else "worktree"
    return _from_paths(repository, paths, exclude, name, commit)


def _from_folder(folder: Path, exclude: list[str], where: str) -> Source:
    if not folder.is_dir():
        raise UsageError(f"{where}: {folder}: no such folder")
    paths = []
    for parent, folders, files in os.walk(folder):
        relative = os.path.relpath(parent, folder)
        links = [each for each in folders if os.path.islink(os.path.join(parent, each))]
        paths += [os.path.normpath(os.path.join(relative, each)) for each in (*files, *links)]
        if not folders and not files and relative != ".":
            paths.append(relative)
    return _from_paths(folder, paths, [*NEVER_FROM_A_FOLDER, *exclude], "folder", "")


def _from_paths(
    root: Path, paths: Iterable[str], exclude: list[str], name: str, commit: str
) -> Source:
    """A tree of these paths below ``root``, cached by its content."""
    building = cache_folder() / "trees" / f".building-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    tree = building / "tree"
    tree.mkdir(parents=True)
    try:
        for path in paths:
            source, target = root / path, tree / path
            if source.is_dir() and not source.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
            elif os.path.lexists(source):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        _exclude(tree, exclude)
        digest = _write_manifest(building)
        final = made_once("trees", f"{name}-{digest[:32]}", lambda new: _move(building, new))
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return _source(final, name, commit, "", str(root))


def _move(building: Path, new: Path) -> None:
    for each in building.iterdir():
        each.rename(new / each.name)


def _exclude(tree: Path, patterns: list[str]) -> None:
    if not patterns:
        return
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(patterns)
    for parent, folders, files in os.walk(tree, topdown=False):
        for each in (*files, *folders):
            path = Path(parent, each)
            relative = str(path.relative_to(tree))
            is_folder = path.is_dir() and not path.is_symlink()
            if is_folder:
                if spec.match_file(f"{relative}/"):
                    shutil.rmtree(path)
            elif spec.match_file(relative):
                path.unlink(missing_ok=True)
        # A folder that all of this emptied goes too, one that was empty before stays.
        if (files or folders) and Path(parent) != tree and not os.listdir(parent):
            os.rmdir(parent)


def _write_manifest(folder: Path) -> str:
    """``{"files": {path: [mode or "link", SHA-256 or target]}, "folders": [empty ones]}``.

    Modes become 644 or 755, as in git, whatever the umask was here. Returns the file's SHA-256.
    """
    tree = folder / "tree"
    files: dict[str, tuple[str, str]] = {}
    empty = []
    for parent, folders, names in os.walk(tree):
        os.chmod(parent, 0o755)
        relative = os.path.relpath(parent, tree)
        if not folders and not names and relative != ".":
            empty.append(relative)
        links = [each for each in folders if os.path.islink(os.path.join(parent, each))]
        for name in (*names, *links):
            path = os.path.join(parent, name)
            files[os.path.normpath(os.path.join(relative, name))] = _entry(path)
    text = json.dumps({"files": dict(sorted(files.items())), "folders": sorted(empty)})
    (folder / "manifest.json").write_text(text)
    return _digest(text)


def _entry(path: str) -> tuple[str, str]:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"{path}: neither a file nor a link; a release can't hold it")
    mode = 0o755 if status.st_mode & 0o100 else 0o644
    os.chmod(path, mode)
    with open(path, "rb") as content:
        return f"{mode:o}", hashlib.file_digest(content, "sha256").hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _source(folder: Path, name: str, commit: str, ref: str, origin: str) -> Source:
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    files = json.loads(text)["files"]
    if not files:
        raise Refused(f"{origin}: the release would be empty; check release.exclude and the ref")
    tree = folder / "tree"
    size = sum(os.lstat(tree / path).st_size for path in files)
    return Source(str(tree), str(manifest), _digest(text), len(files), size, name, commit, ref,
                  origin)
