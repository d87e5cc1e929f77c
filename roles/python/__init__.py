"""The dependencies: one virtual environment per dependency lock, built without the internet."""

from __future__ import annotations

from collections.abc import Iterable

from roles.command import Run, Upload, command, then
from roles.role import Role, Step, Target
from roles.settings import Settings

LOCKS = ("uv.lock", "pylock.toml", "requirements.txt")


class PythonSettings(Settings):
    """The mapping ``python`` in the inventory."""

    lock: str | None = None
    """The dependency lock in the application's folder. Default: the first of uv.lock, pylock.toml
    and requirements.txt that is there."""
    interpreter: str = "python3"
    """The Python on the hosts that the virtual environment is made of."""
    groups: list[str] = []
    """Dependency groups or extras of a uv.lock that are needed on the hosts."""
    index: str | None = None
    """Where the controller gets wheels from. Default: as pip is configured."""


class PythonRole(Role):
    """Builds the venv of the release's lock where it is not there yet."""

    name = "python"
    settings = PythonSettings
    after = ("release",)

    def stage(self, target: Target) -> Iterable[Step]:
        wheels, paths = target.wheelhouse, target.paths
        if target.venv is None or wheels is None or target.venv in target.facts.venvs:
            return
        house = f"{paths.state}/wheelhouse/{target.venv}"
        new = f"{paths.venvs}/.new-{target.venv}"
        mkdir = Run(command("mkdir", "-p", f"{paths.state}/wheelhouse"))
        upload = Upload(wheels.folder, house, digest=wheels.digest)
        yield Step("python.wheelhouse", target.name, (mkdir, upload), timeout=1800)
        uv = target.facts.tools.get("uv")
        if not uv:
            uv = f"{paths.state}/tools/uv"
            tools = Upload(wheels.tools, f"{paths.state}/tools")
            yield Step("python.uv", target.name, (tools,), timeout=600)
        chosen = target.of(PythonSettings, "python").interpreter
        build = then(
            command("rm", "-rf", new),
            command(uv, "-q", "venv", "--relocatable", "--no-config", "--no-cache",
                    "--no-python-downloads", "--python", chosen, new),
            command(uv, "-q", "pip", "install", "--no-config", "--no-cache", "--offline",
                    "--no-index", "--link-mode", "copy", "--compile-bytecode",
                    "--find-links", house, "--python", f"{new}/bin/python",
                    "-r", f"{house}/{wheels.requirements}"),
            command("sync", "-f", new),
            command("mv", "-T", new, paths.venv(target.venv)),
        )
        yield Step("python.venv", target.name, (Run(build),), timeout=900)


role = PythonRole()
