"""What the health engine finds becomes an alert, and a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server.alerts.test_incidents import incident
from tests.server.live_server import Page, Trainer, hello, schema, serving
from tests.server.notify.sinks import http_sink
from tests.server.web.events import hear
from tests.server.web.test_alerts import losses


def test_an_incident_opens_an_alert_and_closes_it(tmp_path: Path) -> None:
    with http_sink() as sink, serving(tmp_path, notify_allow=("127.0.0.1",)) as server, server.owner() as api:
        api.post("/api/v1/channels", json={"kind": "webhook", "address": sink.url})
        with Trainer(server, hello()) as trainer, Page(server) as page:
            page.say(type="follow", run="run-1")
            trainer.send(schema(), losses(1, 0, 1.0))
            trainer.wait_acked(2)

            def found(**fields: Any) -> None:
                server.on_loop(lambda: server.services.alerting.incident_found("run-1", incident(**fields)))

            found(severity="warning")
            found()
            alert = hear(page, "alert")
            assert (alert["rule_name"], alert["severity"]) == (
                "Something is wrong with the gradients",
                "critical",
            )
            assert alert["sentence"] == "Exploding since step 7."
            (fired,) = sink.wait(1)
            assert fired["text"].startswith(
                "Exploding since step 7.\nWorst: a.weight, b.weight, c.weight and 10 more"
            )
            found(closed_step=40, closed_time=1040.0)
            assert hear(page, "alert")["cleared_step"] == 40
            assert sink.wait(2)[1]["text"] == "Fine again at step 40. It was open since step 9."
            found()
            assert len(api.get("/api/v1/alerts").json()["alerts"]) == 1
            assert api.get("/api/v1/alerts", params={"open": True}).json()["alerts"] == []


def test_an_incident_that_is_part_of_another_closes_its_alert(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Trainer(server, hello()) as trainer, Page(server) as page:
        page.say(type="follow", run="run-1")
        trainer.send(schema(), losses(1, 0, 1.0))
        trainer.wait_acked(2)
        alerting = server.services.alerting
        server.on_loop(lambda: alerting.incident_found("run-1", incident(id="never", merged_into="i0")))
        server.on_loop(lambda: alerting.incident_found("run-1", incident()))
        opened = hear(page, "alert")
        server.on_loop(lambda: alerting.incident_found("run-1", incident(merged_into="i0")))
        closed = hear(page, "alert")
        assert (closed["id"], closed["reason"]) == (opened["id"], "part of another incident")


def test_what_is_found_of_a_run_that_has_just_ended_is_told_and_closed(tmp_path: Path) -> None:
    with http_sink() as sink, serving(tmp_path, notify_allow=("127.0.0.1",)) as server, server.owner() as api:
        api.post("/api/v1/channels", json={"kind": "webhook", "address": sink.url})
        with Trainer(server, hello()) as trainer, Page(server) as page:
            page.say(type="follow", run="run-1")
            trainer.send(schema(), losses(1, 0, 1.0))
            trainer.finish(2)
            alerting = server.services.alerting
            for _ in range(2):
                server.on_loop(lambda: alerting.incident_found("run-1", incident()))
            alert = hear(page, "alert")
            assert (alert["severity"], alert["reason"], alert["cleared_step"]) == ("critical", "run ended", 0)
            (fired,) = sink.wait(1)
            assert fired["kind"] == "fired"
        assert len(api.get("/api/v1/alerts").json()["alerts"]) == 1


def test_old_runs_are_not_told_of_again(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Trainer(server, hello()) as trainer:
        trainer.send(schema(), losses(1, 0, 1.0))
        trainer.finish(2)
    with serving(tmp_path) as server, server.owner() as api:
        server.on_loop(lambda: server.services.alerting.incident_found("run-1", incident()))
        assert api.get("/api/v1/alerts").json()["alerts"] == []
