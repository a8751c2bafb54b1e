"""What every integration needs: a run that begins when training does, and ends as training does."""

from __future__ import annotations

import importlib
from typing import Any

from ..console import Console
from ..errors import ConfigError
from ..exits import state_of
from ..run import NullRun, Run
from ..shield import Shield
from ..watching import watch

__all__ = ["Session", "require"]


def require(module: str, install: str) -> Any:
    """The module of a framework.

    Raises:
        ImportError: it is not installed; the sentence says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"this integration needs {module}: pip install {install}") from error


class Session:
    """One run at a time, made with the arguments of :func:`gradwatch.watch` that the user gave to the integration.

    Attributes:
        run: the run of the training that goes on or was last; before the first, one that records nothing.
        shield: guards training against errors of the integration.

    Raises:
        ConfigError: an argument that the framework decides by itself.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        if "model" in options:
            raise ConfigError("leave model= out: the framework says which model is trained")
        self._options = options
        self.run: Run = NullRun()
        self.shield = Shield(Console().tell)

    def begin(self, model: Any, **defaults: Any) -> None:
        """Starts a run, before the first step; an earlier one that is still open is finished. ``defaults`` are arguments
        that count where the user gave none.

        Raises:
            ConfigError: an argument or environment variable that cannot be used.
        """
        self.end()
        self.run = watch(model, **{**defaults, **self._options})

    def end(self, error: BaseException | None = None) -> None:
        """Training is over, by ``error`` if there is one."""
        if error is None:
            self.run.finish()
        else:
            self.run.end(*state_of(error))
