"""How causes are scored: evidence for and against (science notes, 4.3). The rows are in :mod:`.cause_table`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .facts import Facts
from .incidents import CauseFound
from .remedies import prescribe

__all__ = ["Cause", "Sign", "explain", "kinds_of"]

Test: TypeAlias = Callable[[Facts], bool]


@dataclass(frozen=True, slots=True)
class Sign:
    """A piece of evidence: its weight (1 weak, 2 clear, 4 near-proof), how to say it, and the test.

    ``of_this`` says it of one run, where ``text`` has to name two cases.
    """

    weight: int
    text: str
    holds: Test
    of_this: Callable[[Facts], str] | None = None

    def said(self, facts: Facts) -> str:
        """What to tell of a run for which it holds."""
        return self.text if self.of_this is None else self.of_this(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One row. ``required`` must hold for the row to be considered at all."""

    key: str
    label: str
    kinds: frozenset[str]
    supporting: tuple[Sign, ...]
    contradicting: tuple[Sign, ...] = ()
    remedies: tuple[str, ...]
    required: Test = lambda facts: True
    help: str = "health"


def kinds_of(text: str) -> frozenset[str]:
    """Kinds of incidents from their names, separated by spaces."""
    return frozenset(text.split())


def explain(facts: Facts, rows: Sequence[Cause], top: int = 3) -> tuple[tuple[CauseFound, ...], bool]:
    """The best causes, most likely first, and whether we are unsure (none, or the first below 0.4)."""
    scored = []
    for rank, row in enumerate(rows):
        if facts.kind not in row.kinds or not row.required(facts):
            continue
        plus = [s for s in row.supporting if s.holds(facts)]
        minus = [s for s in row.contradicting if s.holds(facts)]
        score = sum(s.weight for s in plus) - sum(s.weight for s in minus)
        if score > 0:
            confidence = score / sum(s.weight for s in row.supporting)
            scored.append((-score, -confidence, rank, row, confidence, plus, minus))
    scored.sort(key=lambda item: item[:3])
    found = tuple(
        CauseFound(
            key=row.key,
            label=row.label,
            confidence=round(confidence, 3),
            certainty="low" if confidence < 0.4 else "medium" if confidence < 0.7 else "high",
            supporting=tuple(s.said(facts) for s in plus),
            contradicting=tuple(s.said(facts) for s in minus),
            remedies=prescribe(row.remedies, facts),
        )
        for _, _, _, row, confidence, plus, minus in scored[:top]
    )
    return found, not found or math.isclose(found[0].confidence, 0.0) or found[0].confidence < 0.4
