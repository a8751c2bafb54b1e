"""The rules that are on from the start: few, and silent on healthy runs. Each can be edited, switched off or removed.

NaN and explosions are left to the health engine, which knows a skipped overflow step of a GradScaler from a fault.
"""

from __future__ import annotations

from typing import Final

from ..models import Rule
from .kinds import HEALTH

DEFAULT_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        id="default-incident",
        name="Something is wrong with the gradients",
        statistic=HEALTH,
        condition="incident",
        least="critical",
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
