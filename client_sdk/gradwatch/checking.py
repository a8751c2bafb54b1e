"""``gradwatch.check``: a look at a model before its first step, without a server."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .aligned import aligned
from .glimpse import Glimpse, Layer
from .health.precheck import Remark, gain_for, remarks

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["CheckReport", "check"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What :func:`check` found. ``print`` it for a table of the layers and the remarks."""

    glimpse: Glimpse
    remarks: tuple[Remark, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is graver than info."""
        return all(remark.severity == "info" for remark in self.remarks)

    @property
    def loss(self) -> float:
        """The loss of this batch."""
        return self.glimpse.loss

    @property
    def expected_loss(self) -> float:
        """The loss of a model that knows nothing; NaN when the loss function is not a known one."""
        return self.glimpse.expected

    def __str__(self) -> str:
        return "\n".join([*_table(self.glimpse), *_words(self)])


def check(
    model: nn.Module,
    batch: Any,
    loss_fn: Callable[..., Any] | None = None,
    *,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
) -> CheckReport:
    """Looks at ``model`` with one forward and one backward pass, before any step.

    Sizes of activations and gradients over depth, the std of each weight and the one that suits its activation, the first
    loss and the one to expect, dead and saturated units, parameters without a gradient or in no optimizer, NaN and where it
    begins. Weights, gradients, buffers and random numbers are afterwards as they were.

    Args:
        model: as it will be trained.
        batch: one real batch: ``(x, y)`` for ``loss_fn(model(x), y)``; more inputs before the last are passed on; a mapping for
            ``loss_fn(model(**batch))``; anything else for ``loss_fn(model(batch))``.
        loss_fn: without one, the output's ``.loss`` or the output itself.
        optimizer: to find parameters that it misses.

    Raises:
        ConfigError: (a ValueError) batch and loss function don't give one number with a gradient.
    """
    from .torch_.probe import look

    glimpse = look(model, batch, loss_fn, optimizer)
    return CheckReport(glimpse, tuple(remarks(glimpse)))


def _table(glimpse: Glimpse) -> list[str]:
    rows: list[tuple[str, ...]] = [("layer", "type", "then", "std", "should", "output", "gradient")]
    rows += [_row(layer) for layer in glimpse.layers if layer.fan_in > 0]
    return aligned(rows)


def _row(layer: Layer) -> tuple[str, ...]:
    should = gain_for(layer) / math.sqrt(layer.fan_in)
    then = layer.then or "?"
    return layer.name, layer.type, then, *(_short(v) for v in (layer.std, should, layer.rms, layer.grad_rms))


def _short(value: float) -> str:
    return "-" if value != value else f"{value:.2g}"


def _words(report: CheckReport) -> list[str]:
    glimpse = report.glimpse
    known = math.isfinite(glimpse.expected)
    first = f"first loss {glimpse.loss:.4g}"
    lines = ["", first + (f", expected {glimpse.expected:.4g} ({glimpse.expected_why})" if known else "")]
    for remark in report.remarks:
        lines.append(f"{remark.severity}: {remark.sentence}")
        if remark.advice:
            lines.append(f"    {remark.advice}")
        if remark.code:
            lines.append(f"    {remark.code}")
    return lines if report.remarks else [*lines, "nothing to say against it"]
