"""The table of causes: one row each, with the signs that speak for and against it and the remedies that follow."""

from __future__ import annotations

from typing import Final

from .cause_rows_breaking import BREAKING
from .cause_rows_learning import LEARNING
from .causes import Cause

__all__ = ["CAUSES"]

CAUSES: Final[tuple[Cause, ...]] = (*LEARNING, *BREAKING)
