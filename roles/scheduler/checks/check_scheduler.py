"""The scheduler runs where it should, and nowhere else."""

from typing import Any

from roles.app import AppSettings
from roles.role import Target
from roles.scheduler import SchedulerSettings, applies, unit


def check_the_scheduler_runs_on_its_host_only(host: Any, target: Target) -> None:
    if not target.of(SchedulerSettings, "scheduler").is_on:
        return
    service = host.service(unit(target.of(AppSettings, "app")))
    assert service.is_running == applies(target)
    if applies(target):
        assert service.is_enabled
