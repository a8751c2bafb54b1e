"""The bytes on the wire and to the browser are those of the golden files, and read back as what they say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.contract.make_golden import FOLDER, expect_batch, expect_view, golden

from gradwatch.protocol import Batch, decode
from gradwatch_server.web.view_codec import decode_view


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.expect.json").read_text())
    return found


@pytest.mark.parametrize("name", sorted(golden()))
def test_bytes_are_the_golden_ones(name: str) -> None:
    data, _ = golden()[name]
    assert data == (FOLDER / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", [n for n in sorted(golden()) if n.startswith("batch")])
def test_golden_batch_reads_back(name: str) -> None:
    batch = decode((FOLDER / f"{name}.bin").read_bytes())
    assert isinstance(batch, Batch)
    assert expect_batch(batch) == expected(name)


@pytest.mark.parametrize("name", [n for n in sorted(golden()) if n.startswith("view")])
def test_golden_view_reads_back(name: str) -> None:
    view = decode_view((FOLDER / f"{name}.bin").read_bytes())
    assert expect_view(view.series, view.kind, view.subscription, view.segment) == expected(name)


def test_numbers_of_a_view_are_aligned_for_typed_arrays() -> None:
    data = (FOLDER / "view_buckets.bin").read_bytes()
    assert len(data) % 8 == 0
    assert np.frombuffer(data, "<f4", 4, 56).tolist() == pytest.approx([0.5, 0.0, np.nan, 1e-12], nan_ok=True)
