"""The sample site as a git repository: tags v1 to v11, branch main at v2.

    python tests/sites/history.py DIR

v1 is `shop/` plus a few files that deployments get wrong; v2 is a good next version; v3 to v7
each follow v2 and fail in one way of their own (v6 only in being a different dependency lock).
v8 to v10 follow v2 as well, each with migrations of another kind: v8 adds a column and removes one
(before and after the new code), v9 renames one (neither), v10 runs code that no tool understands.
v11 has tasks for Celery's workers and its scheduler.
Files, modes, names and dates are fixed, so the commit ids are the same on every machine.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
BRANCH, BRANCH_AT = "main", "v2"
NAME, EMAIL = "Fabfleet sample", "sample@fabfleet.invalid"
FIRST_COMMIT, BETWEEN_COMMITS = 1_767_603_600, 86_400  # 2026-01-05 09:00 UTC, a day

Mode = Literal["100644", "100755", "120000"]
PLAIN: Mode = "100644"
EXECUTABLE: Mode = "100755"
LINK: Mode = "120000"


class SampleError(Exception):
    """The folder holds something that is not ours to replace."""


@dataclass(frozen=True)
class Entry:
    """A file, or a symlink whose data is its target; modes as git writes them."""

    data: bytes
    mode: Mode = PLAIN


Tree = dict[str, Entry]


def text(content: str, mode: Mode = PLAIN) -> Entry:
    return Entry(content.encode(), mode)


def link(target: str) -> Entry:
    return Entry(target.encode(), LINK)


@dataclass(frozen=True)
class Version:
    """What makes a tree out of its parent's, in the order in which it is done."""

    message: str
    parent: str | None
    remove: tuple[str, ...] = ()  # files, and folders with all that is in them
    rename: Mapping[str, str] = field(default_factory=dict)
    overlay: str = ""  # a folder beside this file
    add: Mapping[str, Entry] = field(default_factory=dict)
    chmod: Mapping[str, Mode] = field(default_factory=dict)


VERSIONS: dict[str, Version] = {
    "v1": Version(
        "Open the shop",
        parent=None,
        overlay="shop",
        add={
            "bin/backup": text('#!/bin/sh\nexec python3 manage.py dumpdata "$@"\n', EXECUTABLE),
            "bin/report": text("#!/bin/sh\nexec python3 manage.py showmigrations\n"),
            "docs/.keep": text(""),
            "docs/Größen.txt": text("Klein: 200 ml\nGroß: 350 ml\n"),
            "docs/the owner's price list.txt": text("Mug 18.00\nGlass 14.50\n"),
            "docs/orders.csv": text("day,cups\r\nMonday,12\r\nTuesday,9\r\n"),
            "docs/thumbnail.bin": Entry(bytes(range(256)) * 4),
            "docs/suppliers.txt": text("The tea comes by ship.\n"),
            "docs/years/2025/autumn/november/week-47/notes.txt": text("Rain. Good for tea.\n"),
            "docs/shelves/left.txt": text("Tea\n"),
            "docs/shelves/right.txt": text("Cups\n"),
            "docs/changes": text("v1: the shop opens\n"),
            "docs/latest.txt": link("suppliers.txt"),
            "docs/styles": link("../static/shop"),
        },
        chmod={"manage.py": EXECUTABLE},
    ),
    "v2": Version(
        "Show what is left on the shelf",
        parent="v1",
        remove=(
            "catalog/promotions.py",  # a .pyc left beside it would still import
            "catalog/pricing",  # the overlay has pricing.py; a folder left behind would win
            "static/shop/banner.svg",
            "docs/suppliers.txt",
            "docs/shelves",  # a folder that becomes a file
            "docs/changes",  # a file that becomes a folder
        ),
        rename={"templates/base.html": "templates/layout.html"},
        overlay="shop_v2",  # where catalog/hours.py changes and keeps its size
        add={
            "docs/returns.txt": text("Within 14 days, unbroken.\n"),
            "docs/shelves": text("Left: tea. Right: cups.\n"),
            "docs/changes/v1.txt": text("The shop opens\n"),
            "docs/changes/v2.txt": text("Products have a stock\n"),
            "docs/latest.txt": link("returns.txt"),
        },
        chmod={"bin/backup": PLAIN, "bin/report": EXECUTABLE},
    ),
    "v3": Version("Break the WSGI application", parent="v2", overlay="shop_v3"),
    "v4": Version("Break the health check", parent="v2", overlay="shop_v4"),
    "v5": Version("Break the system check", parent="v2", overlay="shop_v5"),
    "v6": Version("Depend on one more package", parent="v2", overlay="shop_v6"),
    "v7": Version("Break a migration half way", parent="v2", overlay="shop_v7"),
    "v8": Version("Show where things come from, forget the stock", parent="v2", overlay="shop_v8"),
    "v9": Version("Call the stock what is on the shelf", parent="v2", overlay="shop_v9"),
    "v10": Version("Count the shelves", parent="v2", overlay="shop_v10"),
    "v11": Version("Brew tea in the background", parent="v2", overlay="shop_v11"),
}

CACHES = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", "staticfiles"}
CACHED = {".pyc", ".sqlite3"}


def build(directory: Path) -> Path:
    """Makes the repository, or leaves it be when it is the one that would be made."""
    directory = Path(directory).absolute()
    stream = b"".join(fast_import())
    digest = hashlib.sha256(stream).hexdigest()
    if is_current(directory, digest):
        return directory
    refuse_to_lose_work(directory)
    new = directory.with_name(f".{directory.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        create(new, stream, digest)
        if directory.exists():
            shutil.rmtree(directory)
        new.rename(directory)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return directory


def commits(directory: Path) -> dict[str, str]:
    """The commit id of each tag."""
    words = "%(refname:lstrip=2) %(objectname)"
    lines = git(directory, "for-each-ref", "--sort=version:refname", f"--format={words}",
                "refs/tags").splitlines()
    return dict(line.split(" ") for line in lines)


def tree(tag: str) -> Tree:
    """What a checkout of the tag holds: path -> content and mode."""
    version = VERSIONS[tag]
    result = tree(version.parent) if version.parent else {}
    for path in version.remove:
        result = {at: entry for at, entry in result.items() if not is_within(at, path)}
    for old, new in version.rename.items():
        result[new] = result.pop(old)
    for path, data in read(HERE / version.overlay):
        result[path] = Entry(data, result[path].mode if path in result else PLAIN)
    result.update(version.add)
    for path, mode in version.chmod.items():
        result[path] = Entry(result[path].data, mode)
    return dict(sorted(result.items()))


def read(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        if path.is_file() and CACHES.isdisjoint(inner.parts) and path.suffix not in CACHED:
            yield inner.as_posix(), path.read_bytes()


def is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def fast_import() -> Iterator[bytes]:
    """The whole history in the words of git-fast-import(1)."""
    marks = {tag: mark for mark, tag in enumerate(VERSIONS, start=1)}
    for tag, version in VERSIONS.items():
        when = FIRST_COMMIT + BETWEEN_COMMITS * (marks[tag] - 1)
        yield f"commit refs/tags/{tag}\nmark :{marks[tag]}\n".encode()
        yield f"committer {NAME} <{EMAIL}> {when} +0000\n".encode()
        yield data((version.message + "\n").encode())
        if version.parent:
            yield f"from :{marks[version.parent]}\n".encode()
        yield b"deleteall\n"
        for path, entry in tree(tag).items():
            yield f"M {entry.mode} inline {path}\n".encode() + data(entry.data)
    yield f"reset refs/heads/{BRANCH}\nfrom :{marks[BRANCH_AT]}\n\ndone\n".encode()


def data(content: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(content), content)


CONFIG = f"""
[core]
\tautocrlf = false
\tquotePath = false
\tattributesFile = /dev/null
\texcludesFile = /dev/null
[commit]
\tgpgSign = false
[user]
\tname = {NAME}
\temail = {EMAIL}
"""


def create(directory: Path, stream: bytes, digest: str) -> None:
    git(directory, "init", "--quiet", "--template=", "--object-format=sha1", "-b", BRANCH)
    with (directory / ".git" / "config").open("a") as config:
        config.write(CONFIG)
    git(directory, "fast-import", "--quiet", "--done", stdin=stream)
    git(directory, "reset", "--quiet", "--hard")
    made = {"digest": digest, "commits": commits(directory)}
    stamp(directory).write_text(json.dumps(made, indent=2))


def stamp(directory: Path) -> Path:
    return directory / ".git" / "fabfleet-sample.json"


def is_current(directory: Path, digest: str) -> bool:
    if not stamp(directory).is_file():
        return False
    made = json.loads(stamp(directory).read_text())
    return bool(made["digest"] == digest and made["commits"].items() <= commits(directory).items())


def refuse_to_lose_work(directory: Path) -> None:
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if not stamp(directory).is_file():
        raise SampleError(f"{directory}: exists, and is not a sample repository")
    ours = json.loads(stamp(directory).read_text())["commits"].values()
    foreign = git(directory, "rev-list", "--all", "HEAD", "--not", *ours)
    if foreign or git(directory, "status", "--porcelain"):
        raise SampleError(
            f"{directory}: the sample has changed, and this copy of it holds work of its own; "
            "move that away, or remove the folder, and run this again"
        )


def git(directory: Path, *words: str, stdin: bytes = b"") -> str:
    """Runs git as if this were a machine with no git settings of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *words],
        cwd=directory,
        env=ours | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"git {words[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python tests/sites/history.py DIR", file=sys.stderr)
        return 2
    try:
        directory = build(Path(sys.argv[1]))
    except SampleError as error:
        print(error, file=sys.stderr)
        return 1
    for tag, commit in commits(directory).items():
        print(tag, commit[:12], VERSIONS[tag].message)
    return 0


if __name__ == "__main__":
    sys.exit(main())
