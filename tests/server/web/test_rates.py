"""A link may ask so often and no more, and that harms no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.live_server import Page, Running, Trainer, hello, schema, serving

from gradwatch_server.services import Limits
from gradwatch_server.web.rates import Rates


def test_a_full_bucket_empties_and_fills_again() -> None:
    rates = Rates(per_second=2, burst=3)
    assert [rates.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rates.take("b", 0.0)
    assert [rates.take("a", 0.4), rates.take("a", 0.5), rates.take("a", 0.6)] == [False, True, False]
    assert [rates.take("a", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    rates = Rates(per_second=1, burst=1)
    assert rates.take("a", 100.0)
    assert not rates.take("a", 50.0)
    assert rates.take("a", 51.0)


def test_only_so_many_are_remembered() -> None:
    rates = Rates(per_second=1, burst=2, most_names=3)
    for name in "abc":
        rates.take(name, 0.0)
    rates.take("c", 0.1)
    rates.take("d", 0.2)
    assert set(rates._left) == {"b", "c", "d"}, "the one that asked least lately goes"
    rates.take("e", 10.0)
    assert set(rates._left) == {"e"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, clock=lambda: 1_700_000_000.0) as running:
        with Trainer(running, hello("run-1")) as trainer:
            trainer.send(schema())
            trainer.finish(1)
        yield running


def test_a_link_that_asks_without_end_is_told_to_wait(server: Running) -> None:
    with server.owner() as api:
        greedy, other = (api.post("/api/v1/shares", json={"run": "run-1"}).json()["token"] for _ in range(2))
    bucket = server.services.link_rates
    assert (bucket.per_second, bucket.burst) == (Limits().link_per_second, Limits().link_burst)
    bucket.burst = 5
    with server.client(**{"X-Gradwatch-Share": greedy}) as link:
        statuses = [link.get("/api/v1/runs/run-1").status_code for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        assert "Wait" in link.get("/api/v1/runs/run-1").json()["error"]["message"]
    with Page(server, share=greedy) as page:
        page.say(type="subscribe", id=1, run="run-1", statistic="grad_norm")
        assert page.hear("error", id=1)["code"] == "too_many"
    with server.client(**{"X-Gradwatch-Share": other}) as link, server.owner() as api:
        assert link.get("/api/v1/runs/run-1").status_code == 200
        assert {api.get("/api/v1/runs/run-1").status_code for _ in range(20)} == {200}
