"""The ``fab`` command: Invoke's program with our tasks. Fabric itself is loaded by the first task
that needs SSH, so that ``fab --list`` answers at once."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from invoke import Program

from fabfile import ns


def _version() -> str:
    try:
        return version("fabfleet")
    except PackageNotFoundError:
        return "unknown"


def main() -> None:
    Program(namespace=ns, name="Fabfleet", binary="fab", version=_version()).run()


if __name__ == "__main__":
    main()
