"""The API of runs: what was sent comes back, in every form, and odd questions get sentences."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from tests.server.live_server import CONTEXT, Page, Running, Trainer, batch, hello, schema, serving

from gradwatch.errors import ConnectionRefused
from gradwatch.protocol import Batch, Block, Bye, Mark, Statistic
from gradwatch_server.web import bodies
from gradwatch_server.web.view_codec import decode_view

NAMES = ("blocks.0.<b>attn</b>.weight", 'blocks.0."mlp"/fc.weight', "blocks.1.größe\u202e.weight")
VALUES = np.array(
    [[1.0, 2.0, 0.0], [math.nan, 4.0, math.inf], [5.0, -math.inf, 7.0], [8.0, 9.0, 10.0]], dtype=np.float32
)
LOSSES = [0.5, math.nan, math.inf, 0.25]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server lives on after a test, with threads that came during it; ``serving`` sees to their end."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(tmp_path_factory.mktemp("runs")) as server:
        with Trainer(server, hello("run-1", name="<script>alert(1)</script>")) as trainer:
            trainer.send(schema(NAMES), batch(1, range(4), VALUES, LOSSES))
            trainer.send(
                Mark(seq=2, step=2, time=1.7e9, kind="note", data={"text": "</script>", "x": math.nan})
            )
            trainer.wait_acked(3)
        with Trainer(server, hello("run-2", project="other", name="second")) as trainer:
            trainer.send(schema(), Bye(seq=1, state="finished", time=1.7e9))
            trainer.wait_acked(2)
        with server.owner() as client:
            yield client


def get(api: httpx.Client, path: str, **params: Any) -> Any:
    reply = api.get(f"/api/v1{path}", params=params)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_list_is_filtered_counted_and_as_described(api: httpx.Client) -> None:
    everything = bodies.RunsReply.model_validate(get(api, "/runs"))
    assert {run.id for run in everything.runs} == {"run-1", "run-2"}
    assert everything.total == 2
    assert everything.revision > 0
    assert [run["id"] for run in get(api, "/runs", project="other")["runs"]] == ["run-2"]
    assert [run["id"] for run in get(api, "/runs", state="running")["runs"]] == ["run-1"]
    assert [run["id"] for run in get(api, "/runs", q="SECOND")["runs"]] == ["run-2"]
    page = get(api, "/runs", limit=1, offset=1)
    assert (len(page["runs"]), page["total"]) == (1, 2)


def test_what_runs_take_is_told_and_what_they_will_take(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gradwatch.server")
    with Trainer(server, hello()) as trainer, server.owner() as client:
        trainer.send(schema(), batch(1, range(200), np.ones((200, 3))))
        trainer.wait_acked(2)
        everything = bodies.RunsReply.model_validate(get(client, "/runs"))
        assert everything.database is not None
        assert 0 < everything.bytes["run-1"] < everything.database.bytes
        assert everything.database.max_bytes == 10_000_000_000
        storage = bodies.RunDetailReply.model_validate(get(client, "/runs/run-1")).storage
        assert storage.bytes == everything.bytes["run-1"] and storage.thinned_before == 0
        assert storage.sentence.startswith("3 tensors at 1 steps/s: about 1.1 MB a day per statistic")
        assert storage.bytes_per_day is not None and storage.bytes_per_day > 1_000_000
        server.on_loop(server.services.pipeline.flush_status)
        told = [one.message for one in caplog.records if "a day per statistic" in one.message]
        assert told == [f"run run-1: {storage.sentence}"]
        trainer.finish(2)
        assert get(client, "/runs/run-1")["storage"]["bytes_per_day"] is None


def test_a_run_says_what_can_be_asked_of_it(api: httpx.Client) -> None:
    found = bodies.RunDetailReply.model_validate(get(api, "/runs/run-1"))
    assert found.run.name == "<script>alert(1)</script>"
    assert (found.run.last_step, found.tensor_count) == (3, 3)
    assert found.run.summary["loss"] == 0.25
    assert found.run.context == CONTEXT
    assert found.run.private == ["data.shards", "cache", "api_key"]
    assert found.run.who == "secret-ann"
    assert {(statistic.name, statistic.scope) for statistic in found.statistics} == {
        ("grad_norm", "tensor"),
        ("grad_norm", "group"),
        ("loss", "run"),
    }


def test_tensors_and_groups(api: httpx.Client) -> None:
    found = bodies.TensorsReply.model_validate(get(api, "/runs/run-1/tensors"))
    assert tuple(tensor.name for tensor in found.tensors) == NAMES
    root = next(group for group in found.groups if group.path == "")
    assert root.tensors == [0, 1, 2]


def test_series_in_json_and_binary_say_the_same(api: httpx.Client) -> None:
    plain = get(api, "/runs/run-1/series", statistic="grad_norm", format="json")
    bodies.SeriesReply.model_validate(plain)
    binary = api.get("/api/v1/runs/run-1/series", params={"statistic": "grad_norm"})
    assert binary.headers["content-type"] == "application/octet-stream"
    view = decode_view(binary.content)
    assert (view.subscription, view.series.width, view.series.last_step) == (0, 1, 3)
    np.testing.assert_array_equal(view.series.last, VALUES.T)
    np.testing.assert_array_equal(np.array(plain["last"], dtype=np.float64), VALUES.T.astype(np.float64))
    assert plain["flags"] == view.series.flags.tolist()
    assert plain["last"][2][1] == "Infinity"
    assert plain["last"][0][1] == "NaN"


def test_rows_ranges_and_zoom(api: httpx.Client) -> None:
    some = get(
        api, "/runs/run-1/series", statistic="grad_norm", rows="2,0", format="json", **{"from": 2, "to": 4}
    )
    assert some["last"] == [[7.0, 10.0], [5.0, 8.0]]
    wide = get(api, "/runs/run-1/series", statistic="grad_norm", rows="0", points=1, format="json")
    assert (wide["width"], wide["low"], wide["high"], wide["last"]) == (4, [[1.0]], [[8.0]], [[8.0]])
    assert wide["flags"] == [[3]]


def test_exact_values(api: httpx.Client) -> None:
    found = get(api, "/runs/run-1/values", statistic="loss", scope="run")
    bodies.ValuesReply.model_validate(found)
    assert found["values"] == [[0.5], ["NaN"], ["Infinity"], [0.25]]
    assert found["steps"] == [0, 1, 2, 3]
    assert found["times"][0] == 1_700_000_000.0
    norms = get(api, "/runs/run-1/values", statistic="grad_norm", rows="1", limit=2)
    assert norms["values"] == [[2.0], [4.0]]


def test_the_histogram_nearest_to_a_step(server: Running) -> None:
    cells = np.arange(4 * 48, dtype=np.float32).reshape(2, 96)
    steps = np.array([0.0, 50.0])
    block = Block(statistic=2, steps=steps, times=1.7e9 + steps, values=cells)
    plain = schema(NAMES[:2])
    declared = Statistic(name="grad_histogram", scope="histogram", width=96, cadence=50)
    with Trainer(server, hello()) as trainer, server.owner() as client:
        trainer.send(replace(plain, statistics=(*plain.statistics, declared)))
        trainer.send(batch(1, range(60), np.ones((60, 2))), Batch(seq=2, schema=0, blocks=(block,)))
        trainer.wait_acked(3)
        found = bodies.HistogramReply.model_validate(get(client, "/runs/run-1/histogram", tensor=1, step=30))
        assert (found.step, found.time, found.lowest_exponent) == (50, 1.7e9 + 50, -38)
        first = 3 * 48
        assert (found.zero, found.below, found.above, found.not_finite) == (
            first,
            first + 1,
            first + 46,
            first + 47,
        )
        assert found.octaves == list(range(first + 2, first + 46))
        assert get(client, "/runs/run-1/histogram", tensor=0, step=20)["zero"] == 0
        assert get(client, "/runs/run-1/histogram", tensor=0)["step"] == 50
        assert client.get("/api/v1/runs/run-1/histogram?tensor=2").status_code == 422


def test_marks(api: httpx.Client) -> None:
    found = bodies.MarksReply.model_validate(get(api, "/runs/run-1/marks"))
    assert [(mark.step, mark.kind, mark.data) for mark in found.marks] == [
        (2, "note", {"text": "</script>", "x": "NaN"})
    ]
    assert get(api, "/runs/run-1/marks", since=found.marks[0].revision)["marks"] == []


ODD = {
    "/runs/no-such-run": 404,
    "/runs/no-such-run/tensors": 404,
    "/runs/run-1/series": 422,
    "/runs/run-1/series?statistic=no_such": 404,
    "/runs/run-1/series?statistic=grad_norm&rows=a": 422,
    "/runs/run-1/series?statistic=grad_norm&rows=-1": 422,
    "/runs/run-1/series?statistic=grad_norm&from=-1": 422,
    "/runs/run-1/series?statistic=grad_norm&from=5&to=5": 422,
    "/runs/run-1/series?statistic=grad_norm&from=99999999999999999999": 422,
    "/runs/run-1/series?statistic=grad_norm&points=0": 422,
    "/runs/run-1/series?statistic=grad_norm&points=1e9": 422,
    "/runs/run-1/series?statistic=grad_norm&scope=planet": 422,
    "/runs/run-1/series?statistic=" + "x" * 600: 422,
    "/runs/run-1/values?statistic=grad_norm&limit=0": 422,
    "/runs/run-1/histogram": 422,
    "/runs/run-1/histogram?tensor=-1": 422,
    "/runs/run-1/histogram?tensor=0": 404,
    "/runs/run-1/histogram?tensor=3": 422,
    "/runs/run-1/histogram?tensor=0&step=x": 422,
    "/runs?state=asleep": 422,
    "/runs?limit=100000": 422,
    "/nothing": 404,
    "/runs/run-1/": 404,
    "/runs/%00": 404,
}


@pytest.mark.parametrize("path", sorted(ODD))
def test_odd_questions_get_sentences(api: httpx.Client, path: str) -> None:
    reply = api.get(f"/api/v1{path}")
    assert reply.status_code == ODD[path], reply.text
    error = bodies.ErrorReply.model_validate(reply.json()).error
    assert len(error.message) > 15
    assert "Traceback" not in reply.text


def test_rows_that_are_not_there_are_absent(api: httpx.Client) -> None:
    found = get(api, "/runs/run-1/series", statistic="grad_norm", rows="0,2000000000", format="json")
    assert found["flags"][1] == [0, 0, 0, 0]


def test_a_run_is_renamed_tagged_and_annotated_for_all_to_see(server: Running) -> None:
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
    with Page(server) as page, server.owner() as api:
        body = {"name": "better", "tags": ["a", "b", "a"], "notes": "among colleagues"}
        changed = api.patch("/api/v1/runs/run-1", json=body)
        assert bodies.RunOut.model_validate(changed.json()).tags == ["a", "b"]
        event = page.hear("event", kind="run")
        while event["data"]["name"] != "better":
            event = page.hear("event", kind="run")
        assert event["data"]["notes"] == "among colleagues"
        assert api.get("/api/v1/runs/run-1").json()["run"]["name"] == "better"
        for wrong in ({}, {"name": ""}, {"tags": ["x" * 65]}, {"colour": "red"}, {"name": 5}):
            assert api.patch("/api/v1/runs/run-1", json=wrong).status_code == 422


def test_a_deleted_run_is_gone_and_its_trainer_is_told(server: Running) -> None:
    with Trainer(server, hello()) as trainer, Page(server) as page, server.owner() as api:
        trainer.send(schema())
        trainer.wait_acked(1)
        assert api.delete("/api/v1/runs/run-1").status_code == 204
        page.hear("event", kind="run_deleted", run="run-1")
        assert api.get("/api/v1/runs/run-1").status_code == 404
        assert api.delete("/api/v1/runs/run-1").status_code == 404
        with pytest.raises(ConnectionRefused):
            trainer.wait_acked(2)


def test_the_schema_describes_every_operation(api: httpx.Client) -> None:
    found = api.get("/api/v1/openapi.json").json()
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            assert operation.get("summary"), (method, path)
            assert operation.get("tags"), (method, path)
            assert operation.get("description"), (method, path)
