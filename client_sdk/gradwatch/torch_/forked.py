"""Whether this process was forked from one that was watched: DataLoader workers carry our hooks but are not training."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["in_child"]

_forks: Final = [0]


def _count() -> None:
    _forks[0] += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)


def in_child(of: int) -> bool:
    """Whether this process was forked after :func:`generation` gave ``of``."""
    return _forks[0] != of


def generation() -> int:
    """A number that differs in every forked child."""
    return _forks[0]
