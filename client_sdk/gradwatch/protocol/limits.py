"""Every size limit of the wire, in one place. Both sides enforce them."""

from __future__ import annotations

from typing import Final

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Largest message, text or binary. 100 steps of 20,000 tensors fit."""

MAX_TENSORS: Final = 20_000
"""Largest number of tensors in one schema."""

MAX_COLUMNS: Final = 48 * MAX_TENSORS
"""Largest number of columns in one block: a histogram has 48 for each tensor."""

MAX_SHARDS: Final = 100_000
"""Most ranks of a run, and most shards of a tensor."""

MAX_STATISTICS: Final = 2_000
"""Largest number of statistics in one schema (logged scalars included)."""

MAX_STEPS_PER_BLOCK: Final = 100_000
MAX_BLOCKS: Final = 4_096
MAX_NAME: Final = 512
"""Longest name of a run, project, tensor or scalar, in characters. The client shortens longer ones."""

MAX_CONTEXT_BYTES: Final = 256 * 1024
"""Largest captured context (configuration, git, host) as JSON."""

MAX_PRIVATE: Final = 64
"""Most patterns that say which settings of a run are private."""

MAX_STEP: Final = 2**53
"""Steps travel as float64 so that JavaScript reads them exactly."""

MAX_STORED_STEP: Final = 2**40
"""Steps from here on are refused: the widest buckets of the store would no longer fit a screen."""

MAX_WHO: Final = 64
"""Most characters of the name of who started a run; more are cut off."""
