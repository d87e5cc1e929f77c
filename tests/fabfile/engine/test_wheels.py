"""Locks, and the wheelhouses that they become; every package comes from a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.engine import wheels
from fabfile.engine.wheels import Lock, Platform, find_lock
from fabfile.errors import Refused, UsageError
from roles.python import PythonSettings
from roles.role import Wheelhouse
from tests.fabfile.engine.wheel_files import make_sdist, make_wheel, sha256

WHERE = "inventories/prod/hosts.yml: python"
ELSEWHERE = Platform("3.11.2", "x86_64", "glibc-2.28")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where packages come from."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    for name, value in {
        "FABFLEET_CACHE": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_NO_CACHE_DIR": "1",
        "UV_NO_CONFIG": "1", "UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "uv"),
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def lock_of(folder: Path, text: str, name: str = "requirements.txt") -> Lock:
    (folder / name).write_text(text)
    found = find_lock(folder, PythonSettings(lock=name), WHERE)
    assert found is not None
    return found


def build(lock: Lock, fits: Platform | None = None) -> Wheelhouse:
    return wheels.build(lock, fits or Platform.here(), PythonSettings(), "/src/shop")


def names(house: Wheelhouse) -> list[str]:
    return sorted(path.name for path in Path(house.folder).iterdir())


# --- which lock -------------------------------------------------------------------------------


def test_no_lock(tmp_path: Path) -> None:
    assert find_lock(tmp_path, PythonSettings(), WHERE) is None


def test_the_order_in_which_locks_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1\n")
    found = find_lock(tmp_path, PythonSettings(), WHERE)
    assert found == Lock(tmp_path / "requirements.txt", "a==1\n")
    (tmp_path / "pylock.toml").write_text('packages = []\nlock-version = "1.0"\n')
    found = find_lock(tmp_path, PythonSettings(), WHERE)
    assert found is not None
    assert found.path.name == "pylock.toml"
    (tmp_path / "uv.lock").write_text("")
    with pytest.raises(Refused, match=r"^uv export: "):  # uv is asked, and it is no lock
        find_lock(tmp_path, PythonSettings(), WHERE)


def test_the_one_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("a==1\n")
    (tmp_path / "prod.txt").write_text("b==1\n")
    found = find_lock(tmp_path, PythonSettings(lock="prod.txt"), WHERE)
    assert found == Lock(tmp_path / "prod.txt", "b==1\n")
    with pytest.raises(UsageError) as caught:
        find_lock(tmp_path, PythonSettings(lock="no.txt"), WHERE)
    assert str(caught.value) == f"{WHERE}.lock: no.txt is not in the release"


PYLOCK = """\
lock-version = "1.0"
created-by = "a test"

[[packages]]
name = "alpha"
version = "1.0"
marker = "python_version >= '3.8'"
wheels = [
  {{ name = "alpha-1.0-py3-none-any.whl", hashes = {{ sha256 = "{alpha}" }} }},
  {{ name = "alpha-1.0-py2-none-any.whl", hashes = {{ sha256 = "{other}" }} }},
]

[[packages]]
name = "beta"
version = "1.0"
sdist = {{ name = "beta-1.0.tar.gz", hashes = {{ sha256 = "{other}" }} }}
wheels = [{{ name = "beta-1.0-py3-none-any.whl", hashes = {{ sha256 = "{beta}" }} }}]
"""


def test_pylock_becomes_requirements_that_pip_takes(tmp_path: Path, packages: Path) -> None:
    alpha, beta = (sha256(make_wheel(packages, name)) for name in ("alpha", "beta"))
    other = "0" * 64
    lock = lock_of(tmp_path, PYLOCK.format(alpha=alpha, beta=beta, other=other), "pylock.toml")
    assert lock.requirements == (
        f"alpha==1.0 ; python_version >= '3.8' --hash=sha256:{alpha} --hash=sha256:{other}\n"
        f"beta==1.0 --hash=sha256:{beta} --hash=sha256:{other}\n"
    )
    assert names(build(lock)) == [
        "alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl", "requirements.txt"
    ]


def test_a_pylock_may_hold_the_project_itself(tmp_path: Path) -> None:
    text = (
        'lock-version = "1.0"\n[[packages]]\nname = "shop"\ndirectory = { path = "." }\n'
        '[[packages]]\nname = "alpha"\nversion = "1.0"\n'
        'wheels = [{ name = "x", hashes = { sha256 = "aa" } }]\n'
    )
    assert lock_of(tmp_path, text, "pylock.toml").requirements == (
        "alpha==1.0 --hash=sha256:aa\n"
    )


def test_a_pylock_may_not_hold_what_no_index_has(tmp_path: Path) -> None:
    text = 'lock-version = "1.0"\n[[packages]]\nname = "x"\nvcs = { type = "git" }\n'
    with pytest.raises(UsageError) as caught:
        lock_of(tmp_path, text, "pylock.toml")
    assert str(caught.value) == (
        "pylock.toml: x comes from no index; only packages with a version can be brought to the "
        "hosts"
    )


@pytest.fixture
def project(tmp_path: Path, packages: Path) -> Path:
    """A project with a real uv.lock, made from the folder of packages alone."""
    make_wheel(packages, "alpha", needs=("beta",))
    make_wheel(packages, "beta")
    make_wheel(packages, "gamma")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.8"\n'
        'dependencies = ["alpha"]\n[dependency-groups]\ndev = ["gamma"]\nextra = ["gamma"]\n'
    )
    words = ["lock", "--project", str(folder), "--no-index", "--find-links", str(packages)]
    wheels._tool("uv", "-q", *words)
    return folder


def test_uv_lock(project: Path, packages: Path) -> None:
    found = find_lock(project, PythonSettings(), WHERE)
    assert found is not None
    pins = [line.split(" ")[0] for line in found.requirements.splitlines()
            if not line.startswith((" ", "-"))]
    assert pins == ["alpha==1.0", "beta==1.0"]
    with_group = find_lock(project, PythonSettings(groups=["extra"]), WHERE)
    assert with_group is not None
    assert "gamma==1.0" in with_group.requirements
    assert "shop" not in with_group.requirements
    assert names(build(found)) == [
        "alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl", "requirements.txt"
    ]


# --- for which hosts ----------------------------------------------------------------------------


def test_tags_of_a_platform_the_newest_first() -> None:
    tags = ELSEWHERE.tags
    assert tags[:2] == ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64"]
    assert tags[-4:] == [
        "manylinux_2_5_x86_64", "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"
    ]
    assert Platform("3.12", "aarch64", "").tags == [
        "musllinux_1_2_aarch64", "musllinux_1_1_aarch64"
    ]


def test_the_name_of_an_environment_follows_lock_and_platform() -> None:
    lock = Lock(Path("/a/requirements.txt"), "a==1\n")
    digest = lock.digest(ELSEWHERE)
    assert len(digest) == 16
    assert replace(lock, path=Path("/b/other.txt")).digest(ELSEWHERE) == digest
    others = [
        replace(lock, requirements="a==2\n").digest(ELSEWHERE),
        lock.digest(replace(ELSEWHERE, python="3.12")),
        lock.digest(replace(ELSEWHERE, machine="aarch64")),
        lock.digest(replace(ELSEWHERE, libc="glibc-2.36")),
    ]
    assert len({digest, *others}) == 5


# --- the wheelhouse -----------------------------------------------------------------------------


def test_a_wheelhouse_holds_what_is_needed_each_by_its_hash(
    tmp_path: Path, packages: Path
) -> None:
    alpha = make_wheel(packages, "alpha", needs=("beta",))
    beta = make_wheel(packages, "beta")
    make_wheel(packages, "gamma")
    lock = lock_of(tmp_path, "alpha==1.0\n")
    house = build(lock)
    assert names(house) == [alpha.name, beta.name, "requirements.txt"]
    assert (Path(house.folder) / house.requirements).read_text() == (
        f"alpha==1.0 --hash=sha256:{sha256(alpha)}\nbeta==1.0 --hash=sha256:{sha256(beta)}\n"
    )
    assert house.digest == lock.digest(Platform.here())
    assert os.access(Path(house.tools) / "uv", os.X_OK)

    alpha.unlink()
    assert build(lock) == house  # from the cache: nothing is asked for again


def test_the_wheel_that_fits_the_hosts(tmp_path: Path, packages: Path) -> None:
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_x86_64",
                "cp311-cp311-manylinux_2_17_aarch64", "cp311-cp311-manylinux_2_34_x86_64"):
        make_wheel(packages, "alpha", tag=tag)
    lock = lock_of(tmp_path, "alpha==1.0\n")
    assert names(build(lock, ELSEWHERE))[0] == "alpha-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    newer = replace(ELSEWHERE, libc="glibc-2.36")
    assert names(build(lock, newer))[0] == "alpha-1.0-cp311-cp311-manylinux_2_34_x86_64.whl"


def test_markers_are_those_of_the_hosts_and_not_ours(tmp_path: Path, packages: Path) -> None:
    """Debian 12 has Python 3.11.2, where some packages need another one."""
    alpha = make_wheel(packages, "alpha", needs=('beta ; python_full_version < "3.11.3"',))
    beta = make_wheel(packages, "beta")
    lock = lock_of(tmp_path, f"""
--no-binary nothing  # an option stays
alpha[some]==1.0 \\
    --hash=sha256:{sha256(alpha)}
beta==1.0 ; python_full_version < '3.11.3' \\
    --hash=sha256:{sha256(beta)}  # via alpha
gamma==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:{"0" * 64}
delta==1.0 ; platform_machine != "x86_64" or python_version >= "3.12" --hash=sha256:{"0" * 64}
""")
    assert names(build(lock, ELSEWHERE)) == [alpha.name, beta.name, "requirements.txt"]
    newer = replace(ELSEWHERE, python="3.11.7")
    assert names(build(lock, newer)) == [alpha.name, "requirements.txt"]


def refusal(lock: Lock, fits: Platform | None = None) -> str:
    with pytest.raises(Refused) as caught:
        build(lock, fits)
    return str(caught.value)


def test_a_dependency_that_is_nowhere(tmp_path: Path, packages: Path) -> None:
    lock = lock_of(tmp_path, "nowhere==1.0\n")
    assert refusal(lock) == "/src/shop: requirements.txt: no wheel of nowhere==1.0 can be had"
    assert refusal(lock, ELSEWHERE) == (
        "/src/shop: requirements.txt: no wheel of nowhere==1.0 can be had "
        "(wheels are needed for Python 3.11.2 on x86_64, glibc-2.28; a source package is only "
        "built where the controller is the same)"
    )
    assert os.listdir(tmp_path / "cache" / "wheels") == []


def test_a_source_package_is_built_where_the_hosts_are_as_we_are(
    tmp_path: Path, packages: Path
) -> None:
    make_sdist(packages, "delta")
    lock = lock_of(tmp_path, "delta==1.0\n")
    assert names(build(lock)) == ["delta-1.0-py3-none-any.whl", "requirements.txt"]
    assert refusal(lock, ELSEWHERE).startswith(
        "/src/shop: requirements.txt: no wheel of delta==1.0 can be had (wheels are needed for "
    )


def test_a_hash_that_is_another_one(tmp_path: Path, packages: Path) -> None:
    make_wheel(packages, "alpha")
    lock = lock_of(tmp_path, f"alpha==1.0 --hash=sha256:{'0' * 64}\n")
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in refusal(lock, ELSEWHERE)


def test_the_index_is_a_setting(
    tmp_path: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(packages, "alpha")
    page = tmp_path / "simple" / "alpha"
    page.mkdir(parents=True)
    (page / "index.html").write_text(f'<a href="{wheel.as_uri()}">{wheel.name}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    settings = PythonSettings(index=(tmp_path / "simple").as_uri())
    lock = lock_of(tmp_path, "alpha==1.0\n")
    house = wheels.build(lock, Platform.here(), settings, "/src/shop")
    assert names(house) == ["alpha-1.0-py3-none-any.whl", "requirements.txt"]


def test_uv_travels_only_to_machines_that_can_run_it() -> None:
    assert wheels.tools(replace(Platform.here(), machine="s390x")) == ""
    assert wheels.tools(replace(Platform.here(), libc="")) == ""
