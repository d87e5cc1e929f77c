"""Nobody but the application reads its secrets, and its service cannot change its code."""

from typing import Any

from roles.app import AppSettings
from roles.role import Target


def check_secrets_are_closed(host: Any, target: Target) -> None:
    for path in (f"{target.paths.state}/secrets.env", f"{target.paths.shared}/.env"):
        file = host.file(path)
        if file.exists:
            assert file.mode & 0o007 == 0, f"{path} can be read by everybody"


def check_service_cannot_change_the_release(host: Any, target: Target) -> None:
    user = target.of(AppSettings, "app").user
    if user is not None and user != target.facts.user:
        tried = host.run("sudo -n -u %s test -w %s/", user, target.paths.current)
        assert tried.rc == 1
