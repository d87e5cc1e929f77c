"""A fleet of real systemd hosts on one Linux machine.

    lab = Lab("dev", [LabHost("web1", "10.88.0.11", ("web",))])
    lab.up(print)

Each host is a systemd-nspawn container with its own disk, address, sshd and journal: a deploy
cannot tell it from a small virtual machine. Importing this package touches nothing.
"""

from __future__ import annotations

from fabfile.lab.fleet import Lab
from fabfile.lab.images import destroy_images
from fabfile.lab.model import HostStatus, LabError, LabHost, state_directory

__all__ = ["HostStatus", "Lab", "LabError", "LabHost", "destroy_images", "state_directory"]
