"""Static files of the current release were collected."""

from typing import Any

from roles.role import Target
from roles.static import StaticSettings


def check_static_files_are_there(host: Any, target: Target) -> None:
    settings = target.of(StaticSettings, "static")
    if settings.command and set(settings.groups) & set(target.host.groups):
        assert host.file(target.paths.static(target.release.id)).is_directory
