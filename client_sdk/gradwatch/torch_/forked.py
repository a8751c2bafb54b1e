"""Whether this process was forked from one that was watched: DataLoader workers carry our hooks but are not training."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["FORKS", "generation", "in_child"]

FORKS: Final = [0]
"""One number: how many forks lie between this process and the one that imported this."""


def _count() -> None:
    FORKS[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)


def in_child(of: int) -> bool:
    """Whether this process was forked after :func:`generation` gave ``of``."""
    return FORKS[0] != of


def generation() -> int:
    """A number that differs in every forked child."""
    return FORKS[0]
