"""The commands that come with the server: an entry point puts them into ``gradwatch``."""

from __future__ import annotations

from gradwatch.cli import Command

from . import data_commands, run_commands, serving, share_commands, token_commands

__all__ = ["COMMANDS"]

COMMANDS: tuple[Command, ...] = (
    Command(
        name="serve",
        help="start the server that stores runs and shows the dashboard",
        configure=serving.configure,
        run=serving.run,
    ),
    Command(
        name="token",
        help="make, list and revoke tokens for people and trainers",
        configure=token_commands.configure,
        run=token_commands.run,
    ),
    Command(
        name="share",
        help="make a read-only link to a run, or to a comparison of several",
        configure=share_commands.configure,
        run=share_commands.run,
    ),
    Command(
        name="runs",
        help="list runs, with the id that other commands want",
        configure=run_commands.configure,
        run=run_commands.run,
    ),
    *data_commands.COMMANDS,
)
