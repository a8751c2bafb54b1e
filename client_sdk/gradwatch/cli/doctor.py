"""``gradwatch doctor``: the numbers on this machine; by a flag a model before training, or the database."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..doctor import command as numbers
from ..errors import GradwatchError
from . import doctor_model
from .command import Command

__all__ = ["CHECKUPS", "Checkup", "command"]


@dataclass(frozen=True, slots=True)
class Checkup:
    """One thing that ``doctor`` looks at: its flags, whether they were given, and the look itself, which gives the exit status."""

    configure: Callable[[argparse.ArgumentParser], None]
    wanted: Callable[[argparse.Namespace], bool]
    run: Callable[[argparse.Namespace], int]


CHECKUPS: Final = (Checkup(doctor_model.configure, doctor_model.wanted, doctor_model.run),)


def command(theirs: Command | None) -> Command:
    """The command, with the server's own check when it is installed."""

    def configure(parser: argparse.ArgumentParser) -> None:
        if theirs is not None:
            theirs.configure(parser)
        else:
            parser.add_argument("--db", dest="database", nargs="?", const="", help="needs the server")
        numbers.configure(parser)
        for checkup in CHECKUPS:
            checkup.configure(parser)

    def run(arguments: argparse.Namespace) -> int:
        wanted = [checkup for checkup in CHECKUPS if checkup.wanted(arguments)]
        if wanted:
            return max(checkup.run(arguments) for checkup in wanted)
        if arguments.database is None and getattr(arguments, "directory", None) is None:
            return numbers.run(arguments)
        if theirs is not None:
            return theirs.run(arguments)
        raise GradwatchError('the database check needs the server: pip install "gradwatch[server]"')

    return Command("doctor", "check the numbers on this machine; a model, or the database", configure, run)
