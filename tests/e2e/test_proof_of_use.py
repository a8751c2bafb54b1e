"""From a run's address to the culprit: at most two clicks, and everything that matters in the viewport without scrolling.
Without the engine's help: at most three, by the heat map.

A few recorded trainings here; ``GRADWATCH_PROOF=1`` takes all of the zoo, as ``python -m tests.benchmarks.culprits`` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ..benchmarks.health import zoo
from ..benchmarks.health.cases import Case
from .culprits import QUICK, SIZES, bring, by_heat_map, by_sentence
from .harness import Server, Watched

CASES = [case for case in zoo.faulty(1, False) if case.name in QUICK or "GRADWATCH_PROOF" in os.environ]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trainings are recorded."""
    return tmp_path_factory.mktemp("zoo")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_clicks_to_the_culprit(
    server: Server, owner: Watched, watched: Callable[..., Watched], recordings: Path, case: Case
) -> None:
    culprit = bring(server, case, recordings)
    if culprit is None:
        assert case.name not in QUICK, "the engine says nothing of it"
        return
    page = owner.open("/")
    for size in SIZES.values():
        page.set_viewport_size(size)  # type: ignore[arg-type]
        search = by_sentence(page, f"{server.url}/runs/{culprit.run}", culprit)
        assert search.missing == []
        assert search.clicks <= 2
    if case.name != QUICK[0]:
        return
    page.set_viewport_size(SIZES["desk"])  # type: ignore[arg-type]
    alone = by_heat_map(page, f"{server.url}/runs/{culprit.run}", culprit)
    assert alone.missing == []
    assert alone.clicks <= 3
    assert case.layer in alone.named
    assert abs(alone.step - case.onset) <= 1
