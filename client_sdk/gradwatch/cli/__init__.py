"""The ``gradwatch`` command: a table of commands. Those of the server come from entry point ``gradwatch.commands``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Final

from .. import __version__
from ..demo import command as demo
from ..errors import GradwatchError
from . import doctor, server, sync
from .command import Command

__all__ = ["Command", "main"]

OURS: Final = (*sync.COMMANDS, *server.COMMANDS, *demo.COMMANDS)
THEIRS: Final = {
    "serve": "run the dashboard server",
    "runs": "list runs",
    "export": "write a run to files",
    "import": "read TensorBoard logs or exported runs",
    "share": "make a link for somebody else",
    "token": "make or revoke access tokens",
    "backup": "copy the database while it is used",
    "doctor": "check the numbers on this machine, a model before training, or the database",
}
"""Commands that the server package brings, for help and for a clear sentence where it is not installed."""

NEEDS_SERVER: Final = 'needs the server, which is not installed: pip install "gradwatch[server]"'


def main(argv: Sequence[str] | None = None, *, installed: Callable[[], list[Command]] | None = None) -> int:
    """Runs a command; the exit status. Expected errors are one sentence on stderr, never a traceback.

    ``installed`` gives the commands of other packages.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    word = arguments[0] if arguments else ""
    commands = {command.name: command for command in OURS}
    # Loading the server package takes a moment: only if one of its commands is asked for, or help is.
    if word not in commands:
        theirs = (installed or _server_commands)()
        commands = {**{command.name: command for command in theirs}, **commands}
        commands["doctor"] = doctor.command(commands.get("doctor"))
        if word in THEIRS and word not in commands:
            print(f"gradwatch {word} {NEEDS_SERVER}", file=sys.stderr)
            return 2
    parser = _parser(commands)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 0
    try:
        return commands[parsed.command].run(parsed)
    except GradwatchError as error:
        print(f"gradwatch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradwatch", description="Live gradient health for PyTorch training."
    )
    parser.add_argument("--version", action="version", version=f"gradwatch {__version__}")
    table = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in commands.values():
        command.configure(table.add_parser(command.name, help=command.help, description=command.help))
    for name, words in THEIRS.items() if "serve" not in commands else ():
        if name in commands:
            continue
        table.add_parser(name, help=f"{words} (with the server installed)")
    return parser


def _server_commands() -> list[Command]:
    """The commands of installed packages; none where the server's own dependencies are missing."""
    found: list[Command] = []
    for point in entry_points(group="gradwatch.commands"):
        module, _, name = point.value.partition(":")
        try:
            found += getattr(importlib.import_module(module), name)
        except ModuleNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
