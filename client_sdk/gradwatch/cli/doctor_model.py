"""``gradwatch doctor --model module:factory``: a look at a model before its first step (see :func:`gradwatch.check`)."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError

__all__ = ["configure", "run", "wanted"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds ``--model``."""
    parser.add_argument(
        "--model",
        metavar="MODULE:FACTORY",
        help="call FACTORY() of a module or file; it returns (model, batch, loss_fn) or (model, batch, loss_fn, optimizer)",
    )


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether it was given."""
    return arguments.model is not None


def run(arguments: argparse.Namespace) -> int:
    """Prints the report; 1 if something is graver than a remark."""
    made = factory(arguments.model)()
    if not isinstance(made, Sequence) or len(made) not in (3, 4):
        raise ConfigError(
            f"{arguments.model} must return (model, batch, loss_fn) or (model, batch, loss_fn, optimizer), "
            f"not {type(made).__name__}"
        )
    from ..checking import check

    report = check(made[0], made[1], made[2], optimizer=made[3] if len(made) == 4 else None)
    print(report)
    return 0 if report.ok else 1


def factory(text: str) -> Callable[[], Any]:
    """What ``package.module:name`` or ``path/file.py:name`` stands for; the working directory is searched too.

    Raises:
        ConfigError: there is no such module, or no such function in it.
    """
    module_name, found, name = text.rpartition(":")
    if not found or not module_name or not name:
        raise ConfigError(
            f"--model takes MODULE:FACTORY, such as train:make or src/train.py:make, not {text!r}"
        )
    path = Path(module_name)
    if path.suffix == ".py" and not path.is_file():
        raise ConfigError(f"--model {text}: there is no file {module_name}")
    folder = path.parent if path.suffix == ".py" else Path()
    sys.path.insert(0, str(folder.resolve()))
    try:
        module = importlib.import_module(path.stem if path.suffix == ".py" else module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"--model {text}: {error}") from error
    finally:
        sys.path.pop(0)
    made = getattr(module, name, None)
    if not callable(made):
        raise ConfigError(f"--model {text}: {module_name} has no function {name}")
    return made  # type: ignore[no-any-return]
