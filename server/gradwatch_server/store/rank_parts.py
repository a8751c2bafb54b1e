"""What ranks have sent and nobody has merged yet, read back after a restart."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from .block_queries import SeriesKey
from .live import MAIN_RANK, RANKS_LANE, SeriesRef, StreamHandle
from .queries import schema_rows
from .series import SegmentReader
from .tail import Piece

__all__ = ["StoredParts", "merged_until", "parts_between", "stored_parts"]

StoredParts: TypeAlias = tuple[
    dict[tuple[str, int], npt.NDArray[np.int32]], list[tuple[int, SeriesRef, Piece]]
]
"""The run-wide tensor of each column by stream and schema; and by lane and series what is beyond the merged steps."""

_END: Final = 2**53


def merged_until(merged: StreamHandle) -> int:
    """The newest step of a merged stream; what is logged may be ahead of it."""
    known = merged.live.series
    newest = [
        merged.newest.get(known[key].idx, -1.0)
        for key in ((merged.rank, "run", name) for name in ("ranks_present", "rank_grad_norm"))
        if key in known
    ]
    return int(max(newest, default=-1.0))


def stored_parts(conn: Connection, merged: StreamHandle) -> StoredParts:
    """Everything that the lanes of ranks hold beyond the newest step of the ``merged`` stream."""
    live, pieces = merged.live, []
    for (lane, scope, name), series in list(live.series.items()):
        if lane in (MAIN_RANK, RANKS_LANE):
            continue
        main = live.series.get((MAIN_RANK, scope, name))
        newest: float = merged_until(merged)
        if series.logged:
            newest = -1.0 if main is None else merged.newest.get(main.idx, -1.0)
        reader = SegmentReader(conn, SeriesKey(live.no, series.idx, series.width, lane), merged.segment)
        pieces += [(lane, series, piece) for piece in reader.exact(int(newest) + 1, _END)]
    return schema_rows(conn, live.no), pieces


def parts_between(
    conn: Connection, merged: StreamHandle, low: int, high: int
) -> list[tuple[int, SeriesRef, Piece]]:
    """What the lanes of ranks hold of steps ``low <= step < high``, without what is logged."""
    live, pieces = merged.live, []
    for (lane, _, _), series in list(live.series.items()):
        if lane not in (MAIN_RANK, RANKS_LANE) and not series.logged:
            reader = SegmentReader(conn, SeriesKey(live.no, series.idx, series.width, lane), merged.segment)
            pieces += [(lane, series, piece) for piece in reader.exact(low, high)]
    return pieces
