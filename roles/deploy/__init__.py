"""How a fleet is deployed: the strategy and its limits."""

from __future__ import annotations

from typing import Literal

from roles.role import Role
from roles.settings import Settings


class DeploySettings(Settings):
    """The mapping ``deploy`` in the inventory."""

    strategy: Literal["rolling", "together"] = "rolling"
    """rolling: one host at a time, no downtime. together: stop all, migrate, start all."""
    confirm: bool = False
    """Whether a person has to confirm the plan, or say --yes."""


class Deploy(Role):
    """Settings only."""

    name = "deploy"
    settings = DeploySettings


role = Deploy()
