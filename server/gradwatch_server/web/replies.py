"""Answers as JSON. Non-finite numbers are the strings "NaN", "Infinity" and "-Infinity": JSON has no word for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import Response

from gradwatch.protocol.codec import to_plain

__all__ = ["cells", "reply", "reply_exact"]


def reply(value: Any, status: int = 200) -> Response:
    """``value`` (dataclasses, containers, numbers) as a JSON response."""
    return reply_exact(to_plain(value), status)


def reply_exact(value: Any, status: int = 200) -> Response:
    """The same for what is known to hold no non-finite number: much faster for long lists of dataclasses."""
    return Response(
        orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status, media_type="application/json"
    )


def cells(values: npt.NDArray[Any], present: npt.NDArray[np.bool_] | None = None) -> list[Any]:
    """An array as nested lists; absent cells are None, non-finite ones strings."""
    finite = np.isfinite(values)
    whole = finite.all() and present is None
    if whole:
        plain: list[Any] = values.tolist()
        return plain
    out = values.astype(object)
    out[np.isnan(values)] = "NaN"
    out[np.isposinf(values)] = "Infinity"
    out[np.isneginf(values)] = "-Infinity"
    if present is not None:
        out[~present] = None
    listed: list[Any] = out.tolist()
    return listed
