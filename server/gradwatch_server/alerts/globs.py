"""Globs over names: ``blocks.*.attn.*``, several parted by commas. Case matters, as it does in tensor names."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=1024)
def _pattern(globs: str) -> re.Pattern[str]:
    parts = [part.strip() for part in globs.split(",")]
    return re.compile("|".join(fnmatch.translate(part) for part in parts if part) or r"(?!)")


def matches(globs: str, name: str) -> bool:
    """Whether the name fits one of the globs."""
    return globs == "*" or _pattern(globs).match(name) is not None


def matching(globs: str, names: Sequence[str]) -> npt.NDArray[np.intp]:
    """Indexes of the names that fit one of the globs, rising."""
    if globs == "*":
        return np.arange(len(names), dtype=np.intp)
    match = _pattern(globs).match
    return np.array([index for index, name in enumerate(names) if match(name)], dtype=np.intp)
