"""Each pool works, in the current release and in no other."""

from typing import Any

from roles.app import AppSettings
from roles.role import Target
from roles.workers import WorkersSettings, applies, instance, prefix


def check_each_pool_works_in_the_current_release(host: Any, target: Target) -> None:
    if not applies(target):
        return
    listed = host.run("systemctl list-units --plain --no-legend --full --state=active %s",
                      f"{prefix(target)}*@*.service")
    assert listed.rc == 0, listed.stderr
    working = [instance(line.split()[0]) for line in listed.stdout.splitlines()]
    pools = target.of(WorkersSettings, "workers").kinds
    assert sorted(working) == sorted((prefix(target) + pool, target.release.id) for pool in pools)


def check_workers_start_with_the_host(host: Any, target: Target) -> None:
    if applies(target):
        name = target.of(AppSettings, "app").name
        assert host.service(f"{name}-workers.service").is_enabled
