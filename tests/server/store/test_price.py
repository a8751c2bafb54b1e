"""What a day will take is said in round numbers, and is about what it then takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradwatch_server.models import Run
from gradwatch_server.store.live import LiveRun, SeriesRef
from gradwatch_server.store.price import price_of

RUN = Run(id="r", project="p", name="n", state="running", created_at=0.0, last_time=0.0, last_seen=0.0)


def series(scope: str, name: str, width: int, cadence: int = 1) -> SeriesRef:
    return SeriesRef(sum(name.encode()), 0, scope, name, width, "f4", cadence, False)


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


def test_what_comes_counts_and_before_that_is_known_what_was_declared() -> None:
    many = [
        series("tensor", "a", 100),
        series("tensor", "b", 100, cadence=0),
        series("run", "c", 1, cadence=0),
    ]
    declared = price_of(many, 100, 1.0)
    assert declared.everything == pytest.approx(declared.statistic * 1.11)
    came = {many[0].idx: 100.0, many[1].idx: 2.5, many[2].idx: 0.0}
    assert price_of(many, 100, 1.0, came).everything == pytest.approx(declared.statistic * 1.025)


def test_the_price_of_a_run_follows_how_often_its_statistics_are_sampled() -> None:
    live = LiveRun(1, replace(RUN, steps=10), {}, {}, {}, loaded_steps=10)
    for name in ("often", "rare", "never"):
        live.series[0, "tensor", name] = series("tensor", name, 100)
    often, rare, never = live.series.values()
    live.numbers.update({often.idx: 4_900, rare.idx: 200})
    live.run = replace(RUN, steps=59)
    assert live.numbers_a_step() == {}, "too early to tell"
    live.run = replace(RUN, steps=60)
    assert live.numbers_a_step() == {often.idx: 98.0, rare.idx: 4.0, never.idx: 0.0}
