"""Time spent in ``next()`` of DataLoaders, whole and nothing else; the loader is left as it was."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset, dataloader

from gradwatch.testing import FakeClock
from gradwatch.torch_.data_wait import DataWait


class Slow(TensorDataset):
    """Each item takes a while."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(torch.arange(8.0))
        self.clock = clock

    def __getitem__(self, index: int) -> torch.Tensor:
        self.clock.advance(0.25)
        return super().__getitem__(index)[0]


def test_loading_counts_and_training_does_not() -> None:
    clock = FakeClock()
    wait, before = DataWait(clock), dataloader._BaseDataLoaderIter.__next__
    undo = wait.attach()
    assert wait() is None
    seen = []
    for batch in DataLoader(Slow(clock), batch_size=4):
        clock.advance(10.0)
        seen.append(batch.tolist())
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert wait() == 2.0
    undo()
    assert dataloader._BaseDataLoaderIter.__next__ is before
    list(DataLoader(Slow(clock)))
    assert wait() == 2.0


def test_who_came_later_stays() -> None:
    before = dataloader._BaseDataLoaderIter.__next__
    first, second = DataWait(), DataWait()
    undo_first, undo_second = first.attach(), second.attach()
    undo_first()
    assert len(list(DataLoader(TensorDataset(torch.arange(3.0))))) == 3
    assert second() is not None
    undo_second()
    dataloader._BaseDataLoaderIter.__next__ = before  # type: ignore[method-assign]
