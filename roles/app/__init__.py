"""What every role of one application shares: its name, its folder, its user, its environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from roles.command import OnHost, SecretRef
from roles.role import Role, Step, Target
from roles.settings import Settings

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretSettings(Settings):
    """Where the controller finds a secret: exactly one of the three."""

    is_reference: ClassVar[bool] = True
    env: str | None = None
    """The name of an environment variable."""
    file: str | None = None
    """The path of a file that holds it."""
    command: str | None = None
    """A shell command that prints it, such as `pass show shop/database`."""

    @model_validator(mode="after")
    def _one_source(self) -> SecretSettings:
        if [self.env, self.file, self.command].count(None) != 2:
            raise ValueError("expected exactly one of env, file and command")
        return self

    def reference(self) -> SecretRef:
        for source in ("env", "file", "command"):
            name = getattr(self, source)
            if name is not None:
                return SecretRef(source, name)
        raise ValueError("one of env, file and command")


class AppSettings(Settings):
    """The mapping ``app`` in the inventory."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    """The application's name: lower case letters, digits and dashes. Units are named after it."""
    root: str = ""
    """The deploy root on the host. Default: /srv/<name>."""
    user: str | None = None
    """The user whom the service runs as. Default: the user who deploys."""
    env: dict[str, str | int | float | bool] = {}
    """Environment variables of the service and of every management command."""
    secrets: dict[str, SecretSettings] = {}
    """Environment variables whose values are looked up on the controller at each deploy."""
    urls: list[str] = []
    """What to print when the deploy is done."""

    @field_validator("env", "secrets")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not ENVIRONMENT_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a name for an environment variable")
        return value

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: str) -> str:
        import os.path

        if value and not value.startswith("/"):
            raise ValueError("expected an absolute path")
        return os.path.normpath(value) if value else value

    @property
    def folder(self) -> str:
        return self.root or f"/srv/{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        return {name: _text(value) for name, value in self.env.items()}


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


class App(Role):
    """Brings the secrets, as they are no part of any release."""

    name = "app"
    settings = AppSettings

    def environment(self, target: Target) -> Mapping[str, str]:
        app = target.of(AppSettings, "app")
        return {**app.environment, "RELEASE_ID": target.release.id, "FABFLEET_HOST": target.name}

    def stage(self, target: Target) -> Iterable[Step]:
        app = target.of(AppSettings, "app")
        if app.secrets:
            write = OnHost(
                program="secrets",
                arguments={"root": target.paths.root, "user": app.user},
                secrets={name: each.reference() for name, each in app.secrets.items()},
            )
            yield Step("app.secrets", target.name, (write,))


role = App()
