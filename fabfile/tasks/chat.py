"""The bot that is asked in a chat."""

from __future__ import annotations

from invoke import Context

from fabfile.tasks.command import command


@command
def serve(context: Context, env: str = "", inventory: str = "") -> None:
    """Answer in Slack, for one or several environments (--env=staging,prod), until it is stopped.
    """
    from fabfile.chat.serving import serve as serve_until_stopped

    serve_until_stopped(env, inventory)
