"""How long to wait between attempts to connect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["backoff"]


def backoff(
    uniform: Callable[[float, float], float], *, first: float = 0.2, most: float = 15.0
) -> Iterator[float]:
    """Seconds before each next attempt: doubling from ``first`` to ``most``, each drawn from its upper half.

    The spread keeps a hundred trainers from calling a restarted server in the same instant.
    """
    delay = first
    while True:
        yield uniform(delay / 2, delay)
        delay = min(delay * 2, most)
