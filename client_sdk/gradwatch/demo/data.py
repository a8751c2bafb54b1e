"""Data that are on every machine: the text of Python's own help, and scikit-learn's digits."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

__all__ = ["CharText", "Digits", "characters"]


def characters() -> str:
    """A few hundred thousand characters of English: Python's language reference, as ``help()`` shows it.

    Where a distribution leaves that out, the docstrings and sources of the standard library's larger modules.
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
        return "\n".join(str(topics[name]) for name in sorted(topics))
    except ImportError:
        names = ("argparse", "datetime", "decimal", "inspect", "logging", "typing", "unittest.mock")
        files = (importlib.import_module(name).__file__ for name in names)
        return "\n".join(open(file, encoding="utf-8").read() for file in files if file)


class CharText:
    """Batches of character sequences and their successors: int64 ``[batch, length]`` each."""

    def __init__(self, *, length: int, batch: int, seed: int) -> None:
        text = characters()
        alphabet = sorted(set(text))
        code = {c: i for i, c in enumerate(alphabet)}
        self.size = len(alphabet)
        self._data = torch.tensor([code[c] for c in text])
        self._length, self._batch = length, batch
        self._random = torch.Generator().manual_seed(seed)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next random batch: inputs and targets."""
        starts = torch.randint(len(self._data) - self._length - 1, (self._batch,), generator=self._random)
        rows = torch.stack([self._data[i : i + self._length + 1] for i in starts.tolist()])
        return rows[:, :-1], rows[:, 1:]


class Digits:
    """scikit-learn's 1,797 handwritten digits: float32 ``[batch, 1, 8, 8]`` in 0..1 and int64 ``[batch]``."""

    def __init__(self, *, batch: int, seed: int) -> None:
        datasets = importlib.import_module("sklearn.datasets")
        pixels, labels = datasets.load_digits(return_X_y=True)
        x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        y = torch.tensor(labels)
        self._random = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        self._train, self.validation = (x[order[300:]], y[order[300:]]), (x[order[:300]], y[order[:300]])
        self._batch = batch

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next random batch: images and labels."""
        x, y = self._train
        rows = torch.randint(len(x), (self._batch,), generator=self._random)
        return x[rows], y[rows]
