"""A teammate says that an incident is not a problem, and takes it back: who may, who hears of it, and what it changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.live_server import PATIENCE, Page, Running, Trainer, hello, schema, serving
from tests.server.test_health_watch import BAD, NAMES, STEPS, clock, judged, send

from gradwatch_server.store import dismissal_queries as sql


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, clock=clock) as running:
        yield running


def sick(server: Running) -> dict[str, Any]:
    """The gravest incident of a run that became NaN and ended, once an alert tells of it."""
    with Trainer(server, hello()) as trainer:
        trainer.send(schema(NAMES))
        trainer.finish(send(trainer, 0, STEPS, 1))
    told = judged(server, STEPS - 1)
    with server.owner() as api:
        alerts_of(api)
    assert told["health"]["state"] == "critical"
    found = told["incidents"]
    return next(one for one in found if one["kind"] == "nonfinite" and one["first_step"] == BAD)


def alerts_of(api: httpx.Client) -> list[dict[str, Any]]:
    """The alerts that rules made of incidents; they come a moment after the incidents."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        alerts = api.get("/api/v1/alerts", params={"run": "run-1"}).raise_for_status().json()["alerts"]
        found = [dict(one) for one in alerts if one["condition"] == "incident"]
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("no alert came")


def test_what_is_no_problem_is_told_to_all_and_turns_nothing_red(server: Running) -> None:
    incident = sick(server)
    base = "/api/v1/runs/run-1/incidents"
    path = f"{base}/{incident['id']}/dismissal"
    with server.owner() as api, Page(server) as page:
        page.say(type="follow", run="run-1")
        assert not any(one["acknowledged"] for one in alerts_of(api))
        assert not any("dismissed" in one for one in api.get(base).json()["incidents"])
        for one in api.get(base).json()["incidents"]:
            reply = api.post(f"{base}/{one['id']}/dismissal")
            assert reply.status_code == 200, reply.text
            assert reply.json()["dismissed"] == {"who": "server", "time": clock()}
        assert page.hear("event", kind="incident")["data"]["dismissed"] == {"who": "server", "time": clock()}
        assert page.hear("event", kind="health")["data"]["state"] in ("critical", "healthy")
        told = api.get(base).json()
        assert {one["id"]: one["dismissed"]["who"] for one in told["incidents"]}[incident["id"]] == "server"
        assert told["health"]["state"] == "healthy"
        assert told["health"]["sentence"].startswith("Said to be no problem: ")
        assert (
            api.get("/api/v1/health", params={"run": "run-1"}).json()["health"]["run-1"]["state"] == "healthy"
        )
        assert 'gradwatch_dismissed_incidents{kind="nonfinite"} 1' in api.get("/metrics").text
        assert all(one["acknowledged"] for one in alerts_of(api))
        whats = [entry["what"] for entry in api.get("/api/v1/audit").json()["entries"]]
        assert "POST /api/v1/runs/{run_id}/incidents/{incident_id}/dismissal" in whats

        assert api.delete(path).json() == {"dismissed": None}
        told = api.get(base).json()
        assert "dismissed" not in next(one for one in told["incidents"] if one["id"] == incident["id"])
        assert told["health"]["state"] == "critical"
        assert api.post(f"{base}/no-such/dismissal").status_code == 404


def test_a_link_sees_that_it_was_said_but_not_who_said_it(server: Running) -> None:
    incident = sick(server)
    path = f"/api/v1/runs/run-1/incidents/{incident['id']}/dismissal"
    with server.owner() as api:
        api.post(path).raise_for_status()
        token = api.post("/api/v1/shares", json={"run": "run-1"}).json()["token"]
    with server.client(**{"X-Gradwatch-Share": token}) as link:
        seen = link.get("/api/v1/runs/run-1/incidents").json()["incidents"]
        assert next(one for one in seen if one["id"] == incident["id"])["dismissed"] == {"time": clock()}
        assert link.post(path).status_code == 403
        assert link.delete(path).status_code == 403
    cookie, _page = server.browser()
    with server.client(**cookie) as forged:
        assert forged.post(path).status_code == 403, "a cookie without the page's own token"


def test_what_is_said_goes_with_the_run(server: Running) -> None:
    incident = sick(server)
    with server.owner() as api:
        api.post(f"/api/v1/runs/run-1/incidents/{incident['id']}/dismissal").raise_for_status()
        api.delete("/api/v1/runs/run-1").raise_for_status()
    assert server.services.store.database.read(lambda conn: sql.dismissed_in(conn, "run-1")) == {}
