"""The practice lab: real systemd hosts on this one Linux machine, and the faults they can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from fabfile.tasks.command import command

if TYPE_CHECKING:
    from fabfile.lab import Lab


def _lab(env: str, inventory: str) -> Lab:
    from fabfile.practice import lab_of

    return lab_of(env or "lab", inventory)


@command
def up(context: Context, env: str = "", inventory: str = "") -> None:
    """Boot the hosts of an environment (default: lab) and prepare them for deploys."""
    from fabfile.practice import bring_up

    bring_up(env or "lab", inventory)


@command
def down(context: Context, env: str = "", inventory: str = "") -> None:
    """Stop the lab and throw its disks away."""
    _lab(env, inventory).down(print)


@command
def status(context: Context, env: str = "", json: bool = False, inventory: str = "") -> None:
    """Which hosts of the lab run, are cut off, or frozen."""
    from fabfile.practice import show

    show(_lab(env, inventory), json)


@command
def shell(context: Context, host: str, env: str = "", inventory: str = "") -> None:
    """A root shell on a host of the lab, without SSH."""
    _lab(env, inventory).shell(host)


@command
def cut(context: Context, host: str, env: str = "", inventory: str = "") -> None:
    """Cut a host off the network."""
    _lab(env, inventory).cut(host)
    print(f"{host}: cut off the network; back: fab lab.heal {host}")


@command
def heal(context: Context, host: str, env: str = "", inventory: str = "") -> None:
    """Give a host its network back."""
    _lab(env, inventory).heal(host)
    print(f"{host}: on the network again")


@command
def kill(context: Context, host: str, env: str = "", inventory: str = "") -> None:
    """Cut a host's power; its disk stays."""
    _lab(env, inventory).kill(host)
    print(f"{host}: without power; back: fab lab.boot {host}")


@command
def boot(context: Context, host: str, env: str = "", inventory: str = "") -> None:
    """Boot a host on the disk it had."""
    _lab(env, inventory).boot(host)
    print(f"{host}: running")
