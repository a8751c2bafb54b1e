"""What a request asks for, checked. The live socket and the API share it."""

from __future__ import annotations

from typing import Any, Final

from gradwatch.protocol import limits

from ..errors import Invalid
from ..models import SeriesQuery

__all__ = ["MOST_CELLS", "MOST_POINTS", "row_list", "series_query"]

SCOPES: Final = ("tensor", "group", "run")
MOST_POINTS: Final = 20_000
"""Most buckets of one view: no screen is wider."""

MOST_CELLS: Final = 8_000_000
"""Most rows times points of one view with chosen rows."""


def series_query(
    statistic: Any,
    *,
    scope: Any = "tensor",
    rows: Any = None,
    from_step: Any = 0,
    to_step: Any = None,
    points: Any = 1000,
    segment: Any = None,
) -> SeriesQuery:
    """A query made of plain JSON values.

    Raises:
        Invalid: one of them cannot be used; ``fields`` names it as the API does.
    """
    if not isinstance(statistic, str) or not 0 < len(statistic) <= limits.MAX_NAME:
        raise _invalid("statistic", "Give the name of a statistic, such as grad_norm.")
    if scope not in SCOPES:
        raise _invalid("scope", f"A scope is one of {', '.join(SCOPES)}.")
    start = _whole(from_step, "from", 0, limits.MAX_STEP)
    stop = None if to_step is None else _whole(to_step, "to", 0, limits.MAX_STEP)
    if stop is not None and stop <= start:
        raise _invalid("to", "The end of the range must lie after its start.")
    wanted = _whole(points, "points", 1, MOST_POINTS)
    chosen = None if rows is None else row_list(rows)
    if chosen is not None and len(chosen) * wanted > MOST_CELLS:
        raise _invalid("rows", f"Ask for fewer rows or points: at most {MOST_CELLS:,} cells at once.")
    return SeriesQuery(
        statistic=statistic,
        scope=scope,
        rows=chosen,
        from_step=start,
        to_step=stop,
        points=wanted,
        segment=None if segment is None else _whole(segment, "segment", 0, 2**31),
    )


def row_list(rows: Any) -> tuple[int, ...]:
    """Rows as a list of whole numbers, or text such as ``0,1,2``.

    Raises:
        Invalid: they are not.
    """
    parts = [part for part in rows.split(",") if part] if isinstance(rows, str) else rows
    if not isinstance(parts, list) or not 0 < len(parts) <= limits.MAX_TENSORS:
        raise _invalid("rows", f"Give 1 to {limits.MAX_TENSORS:,} row numbers, such as 0,1,2.")
    return tuple(_whole(part, "rows", 0, 2**31 - 1) for part in parts)


def _whole(value: Any, field: str, least: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _invalid(field, f"{field} must be a whole number from {least:,} to {most:,}.")
    return value


def _invalid(field: str, sentence: str) -> Invalid:
    return Invalid(sentence, {field: sentence})
