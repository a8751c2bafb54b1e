"""Every setting that doctor shows: our norms against plain arithmetic, and training the same to the bit, on the CPU."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from gradwatch.doctor.bench import Bench, Outcome, Setting, examine, plain_norms
from gradwatch.doctor.ranks import RANKED, examine_ranks
from gradwatch.doctor.settings import SETTINGS

CPU = torch.device("cpu")


def settings() -> list[object]:
    marks = {True: [pytest.mark.slow], False: []}
    return [pytest.param(one, id=one.key, marks=marks[one.compiled]) for one in SETTINGS]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", settings())
def test_norms_are_right_and_training_is_the_same_to_the_bit(setting: Setting) -> None:
    assert setting.lacks(CPU) == ""
    outcome = examine(setting, CPU)
    assert outcome.trouble == ""
    assert math.isfinite(outcome.ours) and outcome.ours == pytest.approx(outcome.reference, rel=1e-6)
    assert outcome.us > 0


@pytest.mark.slow
def test_two_processes(capfd: pytest.CaptureFixture[str]) -> None:
    found = examine_ranks()
    assert found.keys() == RANKED.keys()
    for outcome in found.values():
        assert isinstance(outcome, Outcome) and outcome.trouble == ""


def test_half_precision_squares_really_overflow_in_their_own_precision() -> None:
    bench = Bench(CPU, watched=False)
    next(one for one in SETTINGS if one.key == "fp16").train(bench)
    assert min(max(norms.values()) for norms in bench.expected) > 256


def test_keys_are_there_once() -> None:
    assert len({one.key for one in SETTINGS}) == len(SETTINGS)


def loop(bench: Bench, *, lie: float = 1.0, disturb: float = 0.0, skip: int = -1) -> None:
    model = bench.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bench.watch(model)
    for step, x in enumerate(bench.batches()):
        optimizer.zero_grad()
        bench.backward(model(x))
        bench.expect(model, scale=lie)
        if bench.watched and disturb:
            nn.init.constant_(model[0].bias, disturb)  # type: ignore[arg-type]
        if step != skip:
            optimizer.step()
    bench.done(model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lie": 1.001}, "norms differ by 1.0e-03"),
        ({"disturb": 0.5}, "losses or weights"),
        ({"skip": 3}, "norms differ by inf"),
    ],
)
def test_what_is_wrong_is_seen(changes: dict[str, float], words: str) -> None:
    setting = Setting(key="x", title="x", train=lambda bench: loop(bench, **changes))  # type: ignore[arg-type]
    assert words in examine(setting, CPU).trouble


def test_an_error_of_ours_is_seen() -> None:
    def train(bench: Bench) -> None:
        loop(bench)
        if bench.watched:
            bench.errors.append("measuring gradients failed")

    assert examine(Setting(key="x", title="x", train=train), CPU).error == math.inf


def test_trouble_names_everything() -> None:
    right = Outcome(error=1e-7, ours=1.0, reference=1.0, us=10.0)
    assert right.trouble == ""
    assert "hooks" in dataclasses.replace(right, clean=False).trouble
    assert "2 graphs" in dataclasses.replace(right, added=2).trouble
    assert "nan" in dataclasses.replace(right, error=math.nan).trouble


def test_the_reference_is_a_sum_of_squares() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert plain_norms(model) == {"weight": 5.0}
