"""What a day will take is said in round numbers, and is about what it then takes."""

from __future__ import annotations

import pytest

from gradwatch_server.store.live import SeriesRef
from gradwatch_server.store.price import price_of


def series(scope: str, name: str, width: int, cadence: int = 1) -> SeriesRef:
    return SeriesRef(0, 0, scope, name, width, "f4", cadence, False)


@pytest.mark.parametrize(
    ("widths", "pace", "sentence"),
    [
        ([148], 3.0, "148 tensors at 3 steps/s: about 160 MB a day per statistic"),
        ([148, 148, 148], 3.0, "148 tensors at 3 steps/s: about 160 MB a day per statistic, 470 MB for all"),
        ([1000], 12.4, "1,000 tensors at 12 steps/s: about 4.4 GB a day per statistic"),
        ([4], 0.25, "4 tensors at 0.25 steps/s: about 350 kB a day per statistic"),
    ],
)
def test_sentences(widths: list[int], pace: float, sentence: str) -> None:
    many = [series("tensor", f"s{i}", width) for i, width in enumerate(widths)]
    assert price_of(many, widths[0], pace).sentence() == sentence


def test_sampled_statistics_cost_less_and_groups_nothing() -> None:
    many = [series("tensor", "a", 100), series("tensor", "b", 100, cadence=50), series("group", "a", 40)]
    price = price_of([*many, series("run", "loss", 1)], 100, 1.0)
    assert price.everything == pytest.approx(price.statistic * 1.03)
