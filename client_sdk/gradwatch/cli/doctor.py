"""``gradwatch doctor``: checkups that need no server, each asked for by a flag; without a flag the server's, of the database."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..errors import ConfigError
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
        for checkup in CHECKUPS:
            checkup.configure(parser)

    def run(arguments: argparse.Namespace) -> int:
        wanted = [checkup for checkup in CHECKUPS if checkup.wanted(arguments)]
        if wanted:
            return max(checkup.run(arguments) for checkup in wanted)
        if theirs is not None:
            return theirs.run(arguments)
        raise ConfigError(
            "say what to look at, such as --model module:factory; the database check needs the server: "
            'pip install "gradwatch[server]"'
        )

    return Command("doctor", "check a model before training, or the database", configure, run)
