"""PyTorch Lightning: ``Trainer(callbacks=[GradwatchCallback(project="digits")])``.

Works with both names of the framework, ``lightning`` and ``pytorch_lightning``, whichever the script has imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from ..run import Run
from .session import Session, require

__all__ = ["GradwatchCallback"]

_PACKAGES: Final = ("lightning.pytorch", "pytorch_lightning")


def _framework() -> Any:
    """The same code goes by two names, whose classes are not the same."""
    for name in _PACKAGES:
        if name in sys.modules:
            return sys.modules[name]
    try:
        return require(_PACKAGES[0], "lightning")
    except ImportError:
        return require(_PACKAGES[1], "lightning")


class GradwatchCallback(_framework().Callback):  # type: ignore[misc]
    """Watches the module that is fitted, logs its loss and validation metrics, and marks checkpoints.

    Args:
        options: arguments of :func:`gradwatch.watch`, such as ``project``. The module's hyperparameters are the run's
            configuration unless ``config`` is given.

    The loss is that of ``training_step``, before it is divided for gradient accumulation; over the micro-batches of a
    step the mean is kept. With manual optimization it is what ``training_step`` returns, if it returns a loss.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._session = Session(options)
        self._training: set[str] = set()
        self._validation: set[str] = set()
        self._undo: Callable[[], None] = lambda: None

    @property
    def run(self) -> Run:
        """The run of this training, for ``log`` and ``mark``."""
        return self._session.run

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The step count is restored by now if training resumes from a checkpoint."""
        config = dict(pl_module.hparams) or None
        # Each optimizer's step counts in Lightning; a step of ours is one of all of them.
        start = trainer.global_step // max(1, len(trainer.optimizers))
        self._session.begin(pl_module, config=config, start_step=start)
        with self._session.shield.guard("watching checkpoints"):
            self._watch_checkpoints(trainer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After each micro-batch."""
        with self._session.shield.guard("reading the loss"):
            loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
            if loss is not None:
                divided = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
                self.run.log(loss=loss * divided)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """The trainer keeps all metrics in one place: what is new there since the last validation comes from training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            with self._session.shield.guard("reading metrics"):
                self._training |= set(trainer.callback_metrics) - self._validation

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Metrics of the validation within training."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        with self._session.shield.guard("reading metrics"):
            self._validation |= set(trainer.callback_metrics) - self._training
            metrics = trainer.callback_metrics.items()
            self.run.log({name: value for name, value in metrics if name in self._validation})

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Training broke off."""
        self._undo()
        self._session.end(exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Training is over, its last checkpoint saved."""
        if stage == "fit":
            self._undo()
            self._session.end()

    def _watch_checkpoints(self, trainer: Any) -> None:
        """Callbacks are told that a checkpoint is saved, but not where: ask the trainer's own method, until training ends."""
        save = trainer.save_checkpoint

        def save_and_mark(filepath: Any, *args: Any, **kwargs: Any) -> None:
            save(filepath, *args, **kwargs)
            self.run.mark("checkpoint", path=str(filepath))

        def undo() -> None:
            if vars(trainer).get("save_checkpoint") is save_and_mark:
                del trainer.save_checkpoint

        trainer.save_checkpoint = save_and_mark
        self._undo = undo
