"""What is known about gradients before the optimizer steps: norms taken at torch's clipping functions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .backward import BackwardWatch
from .catalog import Catalog
from .draft import Clip
from .measured import Columns, Norms
from .norms import Ref, norms_of
from .scalars import Later, Now, defer

__all__ = ["Entry", "Preclip"]

Mask = npt.NDArray[np.bool_]


@dataclass(eq=False, slots=True)
class Entry:
    """Norms of some gradients before clipping."""

    columns: Columns
    norms: Norms
    passes: int
    """:meth:`BackwardWatch.passes` when they were taken."""

    versions: int | None
    """Sum of the gradients' version counters if nothing was known to change them since, else None."""

    clips: list[Clip]
    remeasure: bool = False
    """The norms after clipping must be measured: they do not follow from the coefficients."""

    others: Sequence[Ref] | None = None
    """All other watched parameters, none of which had a gradient; None if that isn't known."""

    traces: int | None = None
    """Of two of the gradients as the last clip left them; None if that isn't known."""

    def unscale(self, scale: Later | Now) -> None:
        """The gradients still had the loss scale when they were measured and clipped."""
        self.norms.unscale(scale)
        self.versions = None
        for clip in self.clips:
            clip.scale = scale


@dataclass(frozen=True, eq=False, slots=True)
class _Chosen:
    """Which columns a script clips, remembered from one clip to the next."""

    ids: list[int]
    """Of the parameters that it names."""

    columns: Columns
    """Of those of them that have a gradient."""

    others: Sequence[Ref]
    """All other watched parameters."""


class _Touched(threading.local):
    """What the clip in progress has added; a thread that clips another model at the same time has its own."""

    def __init__(self) -> None:
        self.columns: list[Columns] = []


class Preclip:
    """Collects entries between a backward and the step that uses them. No column is in two entries."""

    def __init__(self, catalog: Catalog, backward: BackwardWatch) -> None:
        self._catalog = catalog
        self._backward = backward
        self.entries: list[Entry] = []
        self._touched = _Touched()
        self._all: Columns = np.arange(len(catalog))
        self._chosen: _Chosen | None = None
        self._ends_of: Columns | None = None
        self._ends: list[Ref] = []
        self.thread = threading.get_ident()
        """Where the optimizers of these parameters step."""

    def add(
        self,
        grads: Sequence[Tensor],
        norms: Tensor | None,
        *,
        clipping: bool,
        parameters: Sequence[Tensor] | None = None,
    ) -> None:
        """``grads`` as they are before clipping, with their norms if torch computed them, and the parameters that they
        are the gradients of, if that is known.

        A second clip without a backward in between keeps what was measured at the first. Gradients alone are not looked for in
        another thread than that of the steps: to read ``.grad`` while a backward writes it ends the process.
        """
        if parameters is None and threading.get_ident() != self.thread:
            return
        at, columns = self._find(grads, parameters)
        if not len(columns):
            return
        self._backward.poll()
        if self.entries:
            fresh = ~self._keep_current(columns, clipping)[columns]
            at, fresh_columns = at[fresh], columns[fresh]
        else:
            fresh_columns = columns
        if len(fresh_columns):
            if len(at) < len(grads):
                grads = [grads[k] for k in at]
                norms = None if norms is None else norms[torch.from_numpy(at)]
            measured = norms_of(grads, fresh_columns, norms)
            versions = None if clipping else _versions(grads)
            passes = self._backward.passes(fresh_columns)
            others = () if fresh_columns is self._all else None
            self.entries.append(Entry(fresh_columns, measured, passes, versions, [], others=others))
        if clipping:
            self._touched.columns.append(columns)

    def add_clipped(
        self,
        parameters: Sequence[Tensor],
        grads: Sequence[Tensor],
        norms: Tensor,
        limit: float,
        total: Tensor,
    ) -> None:
        """As :meth:`add` and then :meth:`clipped_by_norm`, for plain gradients on the CPU that are multiplied right after it."""
        columns, others = (None, None) if self.entries else self._choose(parameters, len(grads))
        if columns is None:
            if len(parameters) != len(grads):
                parameters = [parameter for parameter in parameters if parameter.grad is not None]
            self.add(grads, norms, clipping=True, parameters=parameters)
            self.clipped_by_norm(limit, total, coming=1)
            return
        self._backward.poll()
        clip = Clip(columns, limit, Now(total.item()))
        measured = norms_of(grads, columns, norms)
        passes = self._backward.passes(columns)
        entry = Entry(columns, measured, passes, None, [clip], others=others)
        self._clipped(entry, coming=1)
        self.entries.append(entry)

    def clipped_by_norm(self, limit: float, total: Tensor, coming: int = 0) -> None:
        """The gradients last added were multiplied by ``min(1, limit / (total + 1e-6))``, or are about to be, in so many writes."""
        number = defer(total)
        for entry, columns in self._take_touched(coming):
            if number is None:
                entry.remeasure = True
            else:
                entry.clips.append(Clip(columns, limit, number))

    def clipped_by_value(self) -> None:
        """The gradients last added were clipped element by element."""
        for entry, _ in self._take_touched(0):
            entry.remeasure = True

    def unscale(self, columns: Mask, scale: Later | Now) -> None:
        """What was measured of these columns was of gradients that had the loss scale."""
        for entry in self.entries:
            if columns[entry.columns].any():
                entry.unscale(scale)

    def take(self, columns: Mask) -> list[Entry]:
        """Removes and gives the entries about these columns; called when an optimizer steps.

        Entries that a backward has overtaken are left out: the step they were for was not taken, or a norm was asked for
        too early. Where none has and the gradients were changed all the same, somebody clipped them by hand, and the
        norms after it must be measured.
        """
        self._touched.columns = []
        self._backward.poll()
        taken, kept = [], []
        for entry in self.entries:
            if not columns[entry.columns].any():
                kept.append(entry)
            elif not self._stale(entry):
                entry.remeasure = entry.remeasure or self._modified(entry)
                taken.append(entry)
        self.entries = kept
        return taken

    def take_whole(self) -> Entry | None:
        """As :meth:`take` of all columns, where one entry is about all that have a gradient and nothing was done to them since.
        None, and nothing is taken, where it isn't as simple as that."""
        entry = self.entries[0]
        if (
            len(self.entries) > 1
            or entry.others is None
            or entry.remeasure
            or entry.versions is not None
            or _any_gradient(entry.others)
            or self._touched_since(entry)
        ):
            return None
        self._backward.poll()
        if self._stale(entry):
            return None
        self._touched.columns = []
        self.entries = []
        return entry

    def move(self, places: Sequence[int | None]) -> None:
        """The columns have changed: ``places[i]`` is that which was *i*, None if it is gone, and what was known with it."""
        entries = list(self.entries)
        self.clear()
        for entry in entries:
            moved = [places[column] for column in entry.columns]
            if None in moved:
                continue
            entry.columns = entry.norms.columns = np.array(moved, np.intp)
            entry.others = None
            for clip in entry.clips:
                clip.columns = np.array([places[column] for column in clip.columns], np.intp)
            self.entries.append(entry)

    def clear(self) -> None:
        """Forgets everything."""
        self.entries.clear()
        self._touched.columns = []
        self._chosen = self._ends_of = None
        self._ends = []

    def _choose(
        self, parameters: Sequence[Tensor], gradients: int
    ) -> tuple[Columns | None, Sequence[Ref] | None]:
        """Columns of those of ``parameters`` that have a gradient, of which there are so many, and all other watched parameters,
        if none of these has one; None where it isn't as simple as that."""
        if len(self._all) == gradients == len(self._catalog) and self._catalog.consists_of(parameters):
            return self._all, ()
        ids = list(map(id, parameters))
        chosen = self._chosen
        if (
            chosen is None
            or len(chosen.columns) != gradients
            or chosen.ids != ids
            or self._catalog.lost
            or _any_gradient(chosen.others)
        ):
            chosen = self._chosen = self._newly_chosen(parameters, ids)
        return (None, None) if chosen is None else (chosen.columns, chosen.others)

    def _newly_chosen(self, parameters: Sequence[Tensor], ids: list[int]) -> _Chosen | None:
        columns = [self._catalog.column(parameter) for parameter in parameters if parameter.grad is not None]
        there = {column for column in columns if column is not None}
        others = [ref for column, ref in enumerate(self._catalog.refs) if column not in there]
        if len(there) < len(columns) or _any_gradient(others):
            return None
        return _Chosen(ids, np.array(columns, np.intp), others)

    def _find(self, grads: Sequence[Tensor], parameters: Sequence[Tensor] | None) -> tuple[Columns, Columns]:
        """Which of ``grads`` belong to watched parameters (positions), and their columns."""
        if len(self._all) != len(self._catalog):
            self._all = np.arange(len(self._catalog))
        if parameters is not None and self._catalog.consists_of(parameters):
            return self._all, self._all
        theirs = self._by_gradient(grads) if parameters is None else map(self._catalog.column, parameters)
        found = [(k, column) for k, column in enumerate(theirs) if column is not None]
        at, columns = np.array(found, np.intp).reshape(-1, 2).T
        whole = len(grads) == len(columns) and np.array_equal(columns, self._all)
        return (self._all, self._all) if whole else (at, columns)

    def _by_gradient(self, grads: Sequence[Tensor]) -> Iterator[int | None]:
        by_grad = {
            id(p.grad): k
            for k, p in enumerate(self._catalog.parameters())
            if p is not None and p.grad is not None
        }
        return (by_grad.get(id(grad)) for grad in grads)

    def _keep_current(self, columns: Columns, clipping: bool) -> Mask:
        """Drops entries about these columns that a backward has overtaken; gives what the others cover."""
        mask = self._mask(columns)
        covered = np.zeros(len(self._catalog), bool)
        kept = []
        for entry in self.entries:
            overlap = mask[entry.columns]
            if overlap.any():
                if self._stale(entry):
                    continue
                covered[entry.columns] = True
                if clipping and (entry.clips or not overlap.all() or self._modified(entry)):
                    entry.remeasure = True
            kept.append(entry)
        self.entries = kept
        return covered

    def _take_touched(self, coming: int) -> Iterator[tuple[Entry, Columns]]:
        """The entries of the clip in progress, each with those of its columns that were clipped."""
        for columns in self._touched.columns:
            if len(self.entries) == 1 and self.entries[0].columns is columns:
                self._clipped(self.entries[0], coming)
                yield self.entries[0], columns
                continue
            mask = self._mask(columns)
            for entry in self.entries:
                overlap = entry.columns[mask[entry.columns]]
                if len(overlap):
                    self._clipped(entry, coming)
                    yield entry, overlap
        self._touched.columns = []

    def _clipped(self, entry: Entry, coming: int) -> None:
        entry.versions = None
        entry.traces = self._traces(entry.columns) + coming * len(self._ends)

    def _mask(self, columns: Columns) -> Mask:
        mask = np.zeros(len(self._catalog), bool)
        mask[columns] = True
        return mask

    def _stale(self, entry: Entry) -> bool:
        return entry.passes != self._backward.passes(entry.columns)

    def _modified(self, entry: Entry) -> bool:
        if entry.versions is None:
            return self._touched_since(entry)
        return entry.versions != self._versions_now(entry)

    def _touched_since(self, entry: Entry) -> bool:
        """Whether the script has changed gradients after clipping them, such as by noise: looked for in two, since all would
        cost as much as their norms."""
        return entry.traces is not None and entry.traces != self._traces(entry.columns)

    def _traces(self, columns: Columns) -> int:
        """Changes if the first or the last of these gradients is written to or replaced."""
        if self._ends_of is not columns:
            self._ends_of = columns
            self._ends = [self._catalog.refs[column] for column in sorted({columns[0], columns[-1]})]
        found = 0
        for ref in self._ends:
            parameter = ref()
            if parameter is not None:
                grad = parameter.grad
                if grad is not None:
                    found += id(grad) + grad._version
        return found

    def _versions_now(self, entry: Entry) -> int:
        grads: list[Tensor] = []
        for column in entry.columns:
            parameter = self._catalog.refs[column]()
            if parameter is not None and parameter.grad is not None:
                grads.append(parameter.grad)
        return _versions(grads)


def _any_gradient(refs: Sequence[Ref]) -> bool:
    """Whether one of these parameters has a gradient. Of one that no longer exists it has not."""
    for ref in refs:
        parameter = ref()
        if parameter is not None and parameter.grad is not None:
            return True
    return False


def _versions(grads: Sequence[Tensor]) -> int:
    """Changes if one of them is written to or replaced."""
    return sum(id(grad) + grad._version for grad in grads)
