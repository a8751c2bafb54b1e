"""What is normal for each tensor: against the median and deviation worked out one by one, and over the API."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from tests.server.live_server import Trainer, batch, hello, schema, serving

from gradwatch_server.web.normals import LEAST_SCALE, normal_range

NAMES = ("a.weight", "b.weight", "never.weight")


def by_hand(norms: list[float]) -> tuple[float, float, float]:
    """Low end, middle and high end."""
    logs = [math.log2(norm) for norm in norms if 0 < norm < math.inf]
    middle = statistics.median(logs)
    scale = max(LEAST_SCALE, 1.4826 * statistics.median(abs(log - middle) for log in logs))
    return 2 ** (middle - 3 * scale), 2**middle, 2 ** (middle + 3 * scale)


def test_each_tensor_has_its_own_range_and_odd_values_teach_nothing() -> None:
    dice = np.random.default_rng(3)
    norms = np.exp2(dice.normal((-8.0, 3.0, 0.0), (1.0, 0.01, 1.0), (100, 3)))
    norms[5], norms[6], norms[7] = math.nan, math.inf, 0.0
    norms[20:, 2] = 0.0
    low, middle, high = normal_range(norms)
    for tensor in (0, 1):
        expected = by_hand(norms[:, tensor].tolist())
        assert (low[tensor], middle[tensor], high[tensor]) == pytest.approx(expected, rel=1e-12)
    assert high[1] / middle[1] == pytest.approx(2 ** (3 * LEAST_SCALE))
    assert np.isfinite(low[2]), "17 usable values are enough"
    norms[15:, 2] = 0.0
    assert np.isnan(normal_range(norms)[0][2]), "12 are not"


def test_the_api_looks_only_at_what_came_before(tmp_path: Path) -> None:
    norms = np.ones((80, 3), np.float32)
    norms[:, 1] = 4.0
    norms[:, 2] = 0.0
    norms[60:] = 1e6
    with serving(tmp_path) as server:
        with Trainer(server, hello("run-1")) as trainer:
            trainer.send(schema(NAMES), batch(1, range(80), norms, [1.0] * 80))
            trainer.wait_acked(2)
        with server.owner() as api:
            told = api.get("/api/v1/runs/run-1/normals", params={"before": 60}).json()
            assert told["steps"] == 60
            assert told["middle"] == [1.0, 4.0, None]
            assert told["low"][1] == pytest.approx(4 / 2**0.75) and told["low"][2] is None
            late = api.get("/api/v1/runs/run-1/normals").json()
            assert late["steps"] == 80 and late["middle"][2] == pytest.approx(1e6)
            first = api.get("/api/v1/runs/run-1/normals", params={"before": 5}).json()
            assert first["middle"] == [None, None, None]
            assert api.get("/api/v1/runs/other/normals").status_code == 404
