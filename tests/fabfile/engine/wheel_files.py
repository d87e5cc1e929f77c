"""Tiny packages, made by hand, and an index of them in a folder."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path


def metadata(name: str, version: str, needs: tuple[str, ...] = ()) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {each}" for each in needs)]) + "\n"


def make_wheel(
    folder: Path, name: str, version: str = "1.0", tag: str = "py3-none-any",
    needs: tuple[str, ...] = (),
) -> Path:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata(name, version, needs),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = [f"{path},sha256={_hash(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        for path, text in files.items():
            out.writestr(path, text)
    return wheel


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def make_sdist(folder: Path, name: str, version: str = "1.0") -> Path:
    """A source package whose build backend lies inside it, so that building needs nothing."""
    backend = (
        "import sys\nsys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from wheel_files import make_wheel\n"
        "def build_wheel(folder, settings=None, info=None):\n"
        f"    return make_wheel(Path(folder), {name!r}, {version!r}).name\n"
    )
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
                          'backend-path = ["."]\n',
        "backend.py": backend,
        "wheel_files.py": Path(__file__).read_text(),
        "PKG-INFO": metadata(name, version),
    }
    folder.mkdir(exist_ok=True)
    sdist = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(sdist, "w:gz") as out:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            out.addfile(entry, io.BytesIO(text.encode()))
    return sdist


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
