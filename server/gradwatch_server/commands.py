"""The commands that come with the server: an entry point puts them into ``gradwatch``."""

from __future__ import annotations

from gradwatch.cli import Command

from . import serving

__all__ = ["COMMANDS"]

COMMANDS: tuple[Command, ...] = (
    Command(
        name="serve",
        help="start the server that stores runs and shows the dashboard",
        configure=serving.configure,
        run=serving.run,
    ),
)
