"""What ranks send, in columns of the whole run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gradwatch.protocol import Block, Tensor
from gradwatch.protocol.histogram import PER_TENSOR, columns_of

from .rank_merge import LOCAL_NORM, Holding, Part
from .store.live import SeriesRef
from .store.tail import Piece

__all__ = ["cuts_of", "holding_of", "piece_of", "put", "samples_of"]


def cuts_of(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Which shard of how many, over the tensors in order: ``[shard, shards, count]`` for equal neighbours."""
    cuts: list[list[int]] = []
    for tensor in tensors:
        if cuts and cuts[-1][:2] == [tensor.shard, tensor.shards]:
            cuts[-1][2] += 1
        else:
            cuts.append([tensor.shard, tensor.shards, 1])
    return cuts


def holding_of(rows: npt.NDArray[np.int32], cuts: Sequence[Sequence[int]]) -> Holding:
    counts = [count for _, _, count in cuts]
    shard, shards = (np.repeat([cut[i] for cut in cuts], counts).astype(np.intp) for i in (0, 1))
    return Holding(rows.astype(np.intp), np.minimum(shard, shards - 1), shards)


def samples_of(blocks: Sequence[tuple[SeriesRef, Block]]) -> list[tuple[SeriesRef, Block]]:
    """Of replicated ranks: norms at the steps at which they measured their own."""
    own = [block.steps for series, block in blocks if series.name == LOCAL_NORM]
    if not own:
        return []
    found = []
    for series, block in blocks:
        if series.name in (LOCAL_NORM, "grad_norm", "skipped"):
            at = np.isin(block.steps, own[0])
            present = None if block.present is None else block.present[at]
            found.append(
                (
                    series,
                    replace(
                        block,
                        steps=block.steps[at],
                        times=block.times[at],
                        values=block.values[at],
                        present=present,
                    ),
                )
            )
    return found


def piece_of(series: SeriesRef, block: Block, rows: npt.NDArray[np.int32], tensors: int) -> Piece:
    """A block with run-wide columns."""
    if series.scope not in PER_TENSOR:
        return Piece(series.idx, block.steps, block.times, block.values, block.present)
    values = np.full((len(block.steps), tensors * PER_TENSOR[series.scope]), np.nan)
    there = np.zeros(values.shape, np.bool_)
    columns = columns_of(series.scope, rows)
    values[:, columns] = block.values
    there[:, columns] = True if block.present is None else block.present
    return Piece(series.idx, block.steps, block.times, values, there)


def put(part: Part, series: SeriesRef, piece: Piece, n: int, values: npt.NDArray[np.float64]) -> None:
    """Row ``n`` of a piece as what a rank says of a step."""
    each = PER_TENSOR.get(series.scope, 0)
    if each:
        there = None if piece.present is None else piece.present[n, ::each]
        part.tensor[series.name] = (values if each == 1 else values.reshape(-1, each), there)
    else:
        part.run[series.name] = values
