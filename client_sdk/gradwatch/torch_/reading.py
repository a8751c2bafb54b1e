"""Reading the gradients of a step into its draft: those that clipping has told of, and all others."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .catalog import Catalog
from .draft import Draft
from .measured import Norms
from .norms import Measurer
from .optimizers import Optimizers
from .preclip import Preclip
from .scalars import Later, Now

__all__ = ["Reader"]

Mask: TypeAlias = npt.NDArray[np.bool_]

_MEASURERS: Final = 16
"""Different sets of columns for which a way of reading is kept, or two for each optimizer if there are more."""


class Reader:
    """Measures each watched gradient once in a step, whichever of the optimizers in it comes first.

    Args:
        catalog: the watched parameters.
        optimizers: whose they are.
        preclip: what is known of them from before clipping.
    """

    def __init__(self, catalog: Catalog, optimizers: Optimizers, preclip: Preclip) -> None:
        self._catalog = catalog
        self._optimizers = optimizers
        self._preclip = preclip
        self._measurers: dict[int | bytes, Measurer] = {}
        self._done: Mask | None = None
        """Columns measured in the open step, None for none yet."""
        self.lost = False
        """Whether a parameter was found to be gone."""

    def begin(self) -> None:
        """A step begins."""
        self._done = None

    def forget(self) -> None:
        """Drops all references to parameters."""
        self._measurers.clear()

    def clear(self, draft: Draft | None) -> None:
        """Whose columns are whose has changed, in the midst of the step ``draft`` or between two."""
        self._measurers.clear()
        self._done = None
        self.lost = False
        if draft is not None and draft.parts:
            self._done = np.zeros(len(self._catalog), bool)
            for part in draft.parts:
                self._done[part.columns] = True

    def measurer(self, number: int) -> Measurer:
        """What measures all columns of the only optimizer."""
        return self._measurer(self._optimizers.columns(number)[0], number)

    def measure(self, draft: Draft, number: int, grad_scale: Later | Now | None) -> None:
        """Adds to ``draft`` what optimizer ``number`` is about to use."""
        columns, free = self._optimizers.columns(number)
        if self._preclip.entries:
            whole = self._preclip.take_whole() if len(self._optimizers) == 1 and grad_scale is None else None
            if whole is not None:
                draft.parts.append(whole.norms)
                draft.clips.extend(whole.clips)
                return
            self._take_entries(draft, columns, grad_scale)
            if len(draft.parts) == 1 and len(draft.parts[0].columns) == len(columns):
                return
        elif len(self._optimizers) == 1:
            self._read(columns, draft.parts, grad_scale, key=number)
            return
        done = np.zeros(len(columns), bool) if self._done is None else self._done
        columns = columns & ~done
        self._done = done | free
        if columns.any():
            self._read(columns, draft.parts, grad_scale)

    def _take_entries(self, draft: Draft, columns: Mask, grad_scale: Later | Now | None) -> None:
        """What was measured before clipping."""
        if self._done is None:
            self._done = np.zeros(len(self._catalog), bool)
        done = self._done
        for entry in self._preclip.take(columns):
            if grad_scale is not None:
                entry.unscale(grad_scale)
            draft.parts.append(entry.norms)
            draft.clips.extend(entry.clips)
            done[entry.columns] = True
            if entry.remeasure:
                mask = np.zeros(len(self._catalog), bool)
                mask[entry.columns] = True
                self._read(mask, draft.after, grad_scale)

    def _read(
        self, columns: Mask, into: list[Norms], grad_scale: Later | Now | None, key: int | bytes | None = None
    ) -> None:
        """Measures ``columns``; ``key`` names the set if it is cheaper to name than to compare."""
        measurer = self._measurer(columns, columns.tobytes() if key is None else key)
        norms = measurer.measure()
        self.lost = self.lost or measurer.lost
        if grad_scale is not None:
            norms.unscale(grad_scale)
        into.append(norms)

    def _measurer(self, columns: Mask, key: int | bytes) -> Measurer:
        measurer = self._measurers.get(key)
        if measurer is None:
            if len(self._measurers) >= max(_MEASURERS, 2 * len(self._optimizers)):
                self._measurers.clear()
            at = np.flatnonzero(columns)
            measurer = self._measurers[key] = Measurer([self._catalog.refs[i] for i in at], at)
        return measurer
