"""The rules that are on from the start: few, and silent on healthy runs. Each can be edited, switched off or removed."""

from __future__ import annotations

from typing import Final

from ..models import Rule

DEFAULT_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        id="default-loss-nonfinite",
        name="The loss is not finite",
        statistic="loss",
        condition="nonfinite",
        severity="critical",
        source="default",
    ),
    Rule(
        id="default-norm-nonfinite",
        name="The gradient is not finite",
        statistic="global_grad_norm",
        condition="nonfinite",
        # A GradScaler halves its scale on overflow and skips the step: one or two in a row are how it works.
        for_steps=5,
        severity="critical",
        source="default",
    ),
    Rule(
        id="default-silent",
        name="The run has stopped sending",
        statistic="global_grad_norm",
        condition="silent",
        threshold=900.0,
        recover_steps=1,
        severity="warning",
        source="default",
    ),
)
