"""How a fleet is deployed: the strategy and its limits."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from roles.role import Role
from roles.settings import Settings


class CanarySettings(Settings):
    """The first host of a roll, which is watched before any other is touched."""

    seconds: Annotated[float, Field(ge=0)] = 0
    """How long it is watched: by HAProxy's account where that is its balancer, or else by being
    asked for its health once a second, where one wrong answer is a failure."""
    errors: Annotated[float, Field(ge=0)] = 1
    """Percent of its requests that may fail meanwhile, as HAProxy counts them."""
    command: str | None = None
    """A shell command on the controller that decides after that: any exit status but 0 is a
    failure. It is told FABFLEET_HOST and FABFLEET_RELEASE."""
    timeout: Annotated[float, Field(gt=0)] = 300
    """Seconds that the command may take."""

    @property
    def is_watched(self) -> bool:
        return bool(self.seconds or self.command)


class BlueGreenSettings(Settings):
    """Two groups of hosts, of which one serves and the other waits."""

    groups: list[str] = ["blue", "green"]
    """The two groups. A balancer of theirs sends requests to one of them: the one that it is told
    to."""

    @field_validator("groups")
    @classmethod
    def _two(cls, value: list[str]) -> list[str]:
        if len(set(value)) != 2 or len(value) != 2:
            raise ValueError("expected two different groups")
        return value


class DeploySettings(Settings):
    """The mapping ``deploy`` in the inventory."""

    strategy: Literal["rolling", "together", "blue-green"] = "rolling"
    """rolling: one host at a time, no downtime. together: stop all, migrate, start all. blue-green:
    the group that waits gets the release, then the balancer flips to it."""
    batch: int | str | list[int | str] = 1
    """How many hosts are restarted at a time: a number, a share such as 25%, or a list of them,
    batch after batch; its last one goes on."""
    pause: Annotated[float, Field(ge=0)] = 0
    """Seconds between batches."""
    canary: CanarySettings = CanarySettings()
    """What the first host has to show before the others follow."""
    max_failures: Annotated[int, Field(ge=0)] = 0
    """How many hosts of the whole fleet may fail before a roll stops. Each is put back at once."""
    on_failure: Literal["stop", "revert"] = "stop"
    """What happens then to hosts that were done: stop leaves them on the new release, revert puts
    them back, one at a time. After migrations that were accepted as a risk it always stops."""
    blue_green: BlueGreenSettings = BlueGreenSettings()
    """For blue-green."""
    confirm: bool = False
    """Whether a person has to confirm the plan, or say --yes."""


    @field_validator("batch")
    @classmethod
    def _batch(cls, value: int | str | list[int | str]) -> int | str | list[int | str]:
        for each in value if isinstance(value, list) else [value]:
            share = re.fullmatch(r"(\d+)%", each) if isinstance(each, str) else None
            fits = 0 < int(share[1]) <= 100 if share else isinstance(each, int) and each > 0
            if not fits:
                raise ValueError("expected a number of hosts, a share such as 25%, or a list")
        if value == []:
            raise ValueError("expected a number of hosts, a share such as 25%, or a list")
        return value

    def sizes(self, hosts: int) -> tuple[int, ...]:
        """Batches for so many hosts; a watched canary comes alone."""
        wanted = self.batch if isinstance(self.batch, list) else [self.batch]
        found = tuple(_share(each, hosts) for each in wanted)
        return (1, *found) if self.canary.is_watched and found[0] != 1 else found


def _share(wanted: int | str, hosts: int) -> int:
    if isinstance(wanted, int):
        return wanted
    return max(1, math.floor(hosts * int(wanted.rstrip("%")) / 100))


class Deploy(Role):
    """Settings only."""

    name = "deploy"
    settings = DeploySettings


role = Deploy()
