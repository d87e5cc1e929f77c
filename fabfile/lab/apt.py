"""This machine's own apt sources: the only place that a mirror's address comes from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
USABLE_SCHEMES = ("http://", "https://", "file:")


@dataclass(frozen=True)
class AptSource:
    """One `deb` line: ``keyring`` is a file or ``None`` for apt's default keys."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str | None = None
    trusted: bool = False


def codename(root: Path = ROOT) -> str | None:
    """The release that this machine runs, such as ``bookworm``."""
    match = re.search(
        r"^VERSION_CODENAME=\"?([\w-]+)", _text(root / "etc/os-release"), re.MULTILINE
    )
    return match[1] if match else None


def mirror(root: Path = ROOT) -> AptSource | None:
    """The source of this machine's own release, or ``None`` where there is none to build from."""
    release = codename(root)
    for source in sources(root):
        if source.suite == release and "main" in source.components:
            return source
    return None


def sources(root: Path = ROOT) -> Iterator[AptSource]:
    """Every binary source of ``/etc/apt``, in both formats, in apt's order."""
    etc = root / "etc/apt"
    yield from _one_line(_text(etc / "sources.list"))
    for path in sorted((etc / "sources.list.d").glob("*")):
        if path.suffix == ".list":
            yield from _one_line(_text(path))
        elif path.suffix == ".sources":
            yield from _deb822(_text(path))


def _one_line(text: str) -> Iterator[AptSource]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<rest>[^#]+)", line)
        words = match["rest"].split() if match else []
        if match is None or len(words) < 2:
            continue
        options = dict(
            option.split("=", 1) for option in shlex.split(match["options"] or "") if "=" in option
        )
        yield from _usable(
            AptSource(
                words[0],
                words[1],
                tuple(words[2:]),
                _keyring(options.get("signed-by", "")),
                options.get("trusted") == "yes",
            )
        )


def _deb822(text: str) -> Iterator[AptSource]:
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", uncommented):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled") == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield from _usable(
                    AptSource(
                        uri,
                        suite,
                        tuple(fields.get("components", "").split()),
                        _keyring(fields.get("signed-by", "")),
                        fields.get("trusted") == "yes",
                    )
                )


def _fields(stanza: str) -> Mapping[str, str]:
    unfolded = re.sub(r"\n[ \t]+", " ", stanza)
    pairs = (line.split(":", 1) for line in unfolded.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}


def _keyring(signed_by: str) -> str | None:
    # A key may also stand in the source itself, or be a fingerprint; debootstrap takes files only.
    first = signed_by.split(",")[0].split(" ")[0]
    return first if first.startswith("/") and Path(first).exists() else None


def _usable(source: AptSource) -> Iterator[AptSource]:
    if source.uri.startswith(USABLE_SCHEMES):
        yield source


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
