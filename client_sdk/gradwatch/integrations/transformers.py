"""Hugging Face ``Trainer`` (and what is built on it): ``Trainer(..., callbacks=[GradwatchCallback(project="lm")])``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..run import Run
from .session import Session, require

__all__ = ["GradwatchCallback"]

_OURS: Final = frozenset({"loss", "grad_norm", "learning_rate", "epoch", "total_flos"})
"""What the Trainer logs and we measure ourselves at every step, or need not."""

_PACE: Final = ("runtime", "per_second", "jit_compilation_time", "model_preparation_time")


class GradwatchCallback(require("transformers", "transformers").TrainerCallback):  # type: ignore[misc]
    """Watches the model that is trained, logs the true loss of every step and evaluation metrics, and marks checkpoints.

    Args:
        options: arguments of :func:`gradwatch.watch`, such as ``project``. The training arguments are the run's
            configuration unless ``config`` is given, their ``run_name`` its name.

    The Trainer logs averages, and by default leaves NaN and Inf out of them (``logging_nan_inf_filter``). Here the loss is
    what each step's gradients are taken of, whatever it is: the sum over the step's micro-batches of the loss that goes
    into ``backward``, which the Trainer has already divided by their number. In distributed training it is rank 0's.
    """

    def __init__(self, **options: Any) -> None:
        self._session = Session(options)
        self._loss: Any = None
        self._undo: Callable[[], None] = lambda: None

    @property
    def run(self) -> Run:
        """The run of this training, for ``log`` and ``mark``."""
        return self._session.run

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Starts the run. The step is that of the checkpoint if training resumes from one."""
        self._undo()
        # Older versions give a run the name of its folder when nobody named it.
        named = {"name": args.run_name} if args.run_name not in (None, "", args.output_dir) else {}
        self._session.begin(model, config=args, start_step=state.global_step, **named)
        with self._session.shield.guard("watching the loss"):
            self._watch_losses()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each optimizer step."""
        loss, self._loss = self._loss, None
        if loss is not None:
            self.run.log(loss=loss)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Evaluation metrics, and whatever a trainer of one's own logs."""
        with self._session.shield.guard("reading metrics"):
            self.run.log({_slashed(name): value for name, value in (logs or {}).items() if _wanted(name)})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint is on disk."""
        self.run.mark("checkpoint", path=str(Path(args.output_dir) / f"checkpoint-{state.global_step}"))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends the run."""
        self._undo()
        self._session.end()

    def _watch_losses(self) -> None:
        """No callback sees the loss before the filter; ``Accelerator.backward`` does. Left alone again when training ends."""
        accelerator = require("accelerate", "accelerate").Accelerator
        original = accelerator.backward
        shield = self._session.shield

        @functools.wraps(original)
        def backward(self_: Any, loss: Any, *args: Any, **kwargs: Any) -> Any:
            with shield.guard("reading the loss"):
                part = loss.detach()
                self._loss = part if self._loss is None else self._loss + part
            return original(self_, loss, *args, **kwargs)

        def undo() -> None:
            if accelerator.backward is backward:
                accelerator.backward = original

        accelerator.backward = backward
        self._undo = undo


def _wanted(name: str) -> bool:
    return name not in _OURS and not name.startswith("train_") and not name.endswith(_PACE)


def _slashed(name: str) -> str:
    """``eval_loss`` as ``eval/loss``, beside ``val/loss`` and the like."""
    return name.replace("eval_", "eval/", 1) if name.startswith("eval_") else name
