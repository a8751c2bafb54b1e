"""Hugging Face Accelerate: ``run = watch(accelerator, model, project="lm")`` after ``accelerator.prepare``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..run import Run
from .session import Session, require

__all__ = ["watch"]

_Tracker: Any = require("accelerate.tracking", "accelerate").GeneralTracker


class _Tracking(_Tracker):  # type: ignore[misc]
    """What ``accelerator.log`` and ``accelerator.end_training`` reach the run through."""

    name = "gradwatch"
    requires_logging_directory = False

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    @property
    def tracker(self) -> Run:
        """The run: ``accelerator.get_tracker("gradwatch").tracker``."""
        return self._run

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """The run has begun and has its configuration."""

    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Numbers belong to the optimizer step that they were logged at, however the script counts."""
        self._run.log(values)

    def finish(self) -> None:
        """Ends the run."""
        self._run.finish()


def watch(accelerator: Any, model: Any, **options: Any) -> Run:
    """Watches a prepared model; to be called after ``accelerator.prepare`` and ``accelerator.init_trackers``.

    From then on ``accelerator.log`` logs to the run too, ``accelerator.save_state`` marks a checkpoint, and
    ``accelerator.end_training`` finishes the run.

    Args:
        accelerator: the script's ``Accelerator``.
        model: as ``prepare`` gave it, or before: what is measured is the same.
        options: arguments of :func:`gradwatch.watch`, such as ``project`` and ``config``.

    Raises:
        ConfigError: an argument or environment variable that cannot be used.
    """
    session = Session(options)
    session.begin(model)
    run = session.run
    accelerator.trackers.append(_Tracking(run))

    def saving(models: Any, weights: Any, output_dir: str) -> None:
        run.mark("checkpoint", path=str(output_dir))

    accelerator.register_save_state_pre_hook(saving)
    return run
