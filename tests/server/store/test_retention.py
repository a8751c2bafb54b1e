"""Limits thin the oldest exact values and nothing else; what happened once stays visible at every zoom."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.store.helpers import HELLO, RUN, WAIT, declared, opened

from gradwatch.protocol import Batch, Block, Bye
from gradwatch_server.models import FLAG_INF, FLAG_NAN, FLAG_PRESENT, FLAG_ZERO, Series, SeriesQuery
from gradwatch_server.store import Store
from gradwatch_server.store.health_queries import save_incidents
from gradwatch_server.store.maintenance import check
from gradwatch_server.store.retention import NEAR_STEPS, Limits, near

STEPS = 5000
ALL = Limits(most_bytes=1)


def norms(steps: int = STEPS, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.exp(np.random.default_rng(seed).standard_normal((steps, 4))).astype(np.float32)


def fill(store: Store, values: npt.NDArray[np.float32], first: int = 0, **hello: Any) -> None:
    """A stream with norms and a loss."""
    stream = opened(store, **hello).stream
    steps = np.arange(first, first + len(values), dtype=np.float64)
    blocks = (
        Block(statistic=0, steps=steps, times=100 + steps, values=values),
        Block(statistic=1, steps=steps, times=100 + steps, values=steps[:, None] / 7),
    )
    end = Bye(seq=2, state="finished", time=1.0)
    store.append(stream, [declared(), Batch(seq=1, schema=0, blocks=blocks), end]).done.result(WAIT)
    store.compact()


def exact_steps(store: Store, run: str = RUN, scope: str = "tensor", name: str = "grad_norm") -> set[int]:
    return set(store.values(run, name, scope, limit=100_000).steps.astype(int).tolist())


def thinned(store: Store, run_id: str) -> int:
    run = store.run(run_id)
    return 0 if run is None else store.storage(run).thinned_before


def incident(store: Store, first: int, opened_at: int, closed_at: int | None) -> None:
    plain = {
        "id": "i1",
        "kind": "exploding",
        "severity": "error",
        "first_step": first,
        "opened_step": opened_at,
        "opened_time": 1.0,
        "closed_step": closed_at,
        "merged_into": "",
    }
    store.database.write(lambda conn: save_incidents(conn, RUN, [plain])).result(WAIT)


def test_within_its_limit_nothing_is_thinned(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0, background=False, limits=Limits())
    fill(store, norms())
    assert len(exact_steps(store)) == STEPS and thinned(store, RUN) == 0
    store.close()


def test_what_is_old_is_thinned_but_for_incidents_and_the_run_itself(address: str) -> None:
    store = Store.open(address, clock=lambda: 1000.0, background=False, limits=Limits())
    values = norms()
    fill(store, values)
    incident(store, 2000, 2010, 2040)
    before, series = store.sizes()[RUN], store.series(RUN, SeriesQuery(statistic="grad_norm", points=100))
    store.close()

    store = Store.open(address, clock=lambda: 1000.0, background=False, limits=ALL)
    store.compact()
    kept = exact_steps(store)
    assert set(range(2000 - NEAR_STEPS, 2041 + NEAR_STEPS)) <= kept
    assert not kept & set(range(1280)) and not kept & set(range(2816, 4096))
    assert set(range(4096, STEPS)) <= kept, "in no bucket yet"
    found = store.values(RUN, "grad_norm", from_step=2000, to_step=2010)
    np.testing.assert_array_equal(found.values, values[2000:2010].astype(np.float64))
    assert len(exact_steps(store, scope="run", name="loss")) == STEPS
    assert exact_steps(store, scope="group") == kept
    assert store.sizes()[RUN] < 0.8 * before and thinned(store, RUN) == 4096
    same(series, store.series(RUN, SeriesQuery(statistic="grad_norm", points=100)))
    assert check(address) == []
    store.delete_run(RUN).result(WAIT)
    store.compact()
    assert store.sizes() == {} and thinned(store, RUN) == 0
    store.close()


def test_the_run_that_is_silent_longest_is_thinned_first(address: str, caplog: Any) -> None:
    now = [1000.0]
    store = Store.open(address, clock=lambda: now[0], background=False)
    for run in ("old", "new"):
        fill(store, norms(), run_id=run, stream=run)
        now[0] += 10_000
    sizes = store.sizes()
    store.close()
    limits = Limits(most_bytes=int(sizes["new"] + 0.7 * sizes["old"]))
    store = Store.open(address, clock=lambda: now[0], background=False, limits=limits)
    store.compact()
    assert exact_steps(store, "new") == set(range(STEPS))
    assert thinned(store, "old") > 0 == thinned(store, "new")
    assert sum(store.sizes().values()) <= limits.most_bytes
    store.close()
    store = Store.open(address, clock=lambda: now[0], background=False, limits=ALL)
    with caplog.at_level(logging.WARNING, logger="gradwatch.store"):
        store.compact()
        store.compact()
    assert len([one for one in caplog.records if "raise --max-size" in one.message]) == 1
    store.close()


def test_runs_that_were_silent_for_long_are_thinned_by_age(address: str) -> None:
    now = [1000.0]
    store = Store.open(address, clock=lambda: now[0], background=False, limits=Limits(exact_days=2))
    fill(store, norms(), run_id="old", stream="old")
    now[0] += 3 * 86_400
    fill(store, norms(), run_id="new", stream="new")
    assert thinned(store, "old") == 4096 and thinned(store, "new") == 0
    store.close()


def test_a_file_becomes_smaller(tmp_path: Path) -> None:
    path = str(tmp_path / "gradwatch.db")
    names = tuple(f"t{i}" for i in range(200))
    store = Store.open(path, clock=lambda: 1000.0, background=False)
    stream = opened(store).stream
    store.append(stream, [declared(names=names)]).done.result(WAIT)
    random = np.random.default_rng(1)
    for seq in range(1, 11):
        steps = np.arange(1024.0) + 1024 * (seq - 1)
        values = random.random((1024, 200), dtype=np.float32)
        block = Block(statistic=0, steps=steps, times=steps, values=values)
        store.append(stream, [Batch(seq=seq, schema=0, blocks=(block,))]).done.result(WAIT)
    store.compact()
    before = store.size()
    store.close()
    store = Store.open(path, clock=lambda: 1000.0, background=False, limits=ALL)
    store.compact()
    assert store.size() < 0.6 * before
    store.close()


def test_near_is_about_whole_chunks() -> None:
    assert near(0, [NEAR_STEPS + 255]) and not near(0, [NEAR_STEPS + 256])
    assert near(1024, [1023 - 0]) and not near(1024, [])
    assert near(1024, [1024 + 256 + NEAR_STEPS - 1]) and not near(1024, [1024 - NEAR_STEPS - 256])


# --- every zoom, against the values as they were sent -----------------------------------------------------------------


def reference(values: npt.NDArray[np.float32], width: int, bucket: int) -> tuple[Any, ...]:
    """Extremes, newest value and flags of each row in one bucket, in plain loops."""
    part = values[max(0, bucket * width) : (bucket + 1) * width]
    rows = []
    for column in part.T:
        finite = [float(v) for v in column if np.isfinite(v)]
        flags = FLAG_PRESENT
        flags |= FLAG_NAN if np.isnan(column).any() else 0
        flags |= FLAG_INF if np.isinf(column).any() else 0
        flags |= FLAG_ZERO if (column == 0).any() else 0
        low, high = (min(finite), max(finite)) if finite else (np.nan, np.nan)
        rows.append((low, high, float(column[-1]), flags))
    return tuple(np.array(one) for one in zip(*rows, strict=True))


def same(one: Series, other: Series) -> None:
    assert (one.width, one.first_bucket) == (other.width, other.first_bucket)
    for name in ("low", "high", "last", "flags"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


oddities = st.lists(
    st.tuples(st.integers(0, 4095), st.integers(0, 3), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e30])),
    max_size=6,
)
windows = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(1, 4100), st.integers(1, 1200)), min_size=3, max_size=6
)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(odd=oddities, asked=windows, seed=st.integers(0, 100), data=st.data())
@pytest.mark.parametrize("thin", [False, True])
def test_nothing_that_happened_once_is_hidden_at_any_zoom(
    tmp_path_factory: pytest.TempPathFactory,
    thin: bool,
    odd: list[tuple[int, int, float]],
    asked: list[tuple[int, int, int]],
    seed: int,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("zoom") / "zoom.db"
    values = norms(4096 + 300, seed)
    for step, row, value in odd:
        values[step, row] = value
    store = Store.open(str(path), clock=lambda: 1000.0, background=False, limits=ALL if thin else Limits())
    try:
        fill(store, values, stream=HELLO.stream)
        assert (thinned(store, RUN) == 4096) is thin
        for low, span, points in asked:
            found = store.series(
                RUN, SeriesQuery(statistic="grad_norm", from_step=low, to_step=low + span, points=points)
            )
            assert not thin or found.width >= 16 or low + found.width > 4096 - 16
            at = data.draw(st.integers(0, found.last.shape[1] - 1))
            steps = {step // found.width - found.first_bucket for step, _, _ in odd}
            for bucket in {at, *(s for s in steps if 0 <= s < found.last.shape[1])}:
                low_, high, last, flags = reference(values, found.width, found.first_bucket + bucket)
                np.testing.assert_array_equal(found.low[:, bucket], low_.astype(np.float32))
                np.testing.assert_array_equal(found.high[:, bucket], high.astype(np.float32))
                np.testing.assert_array_equal(found.last[:, bucket], last.astype(np.float32))
                np.testing.assert_array_equal(found.flags[:, bucket], flags)
    finally:
        store.close()
