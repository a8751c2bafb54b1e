"""Rules through the API, and what they do in a running server."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from tests.server.live_server import Page, Running, Trainer, batch, hello, schema
from tests.server.web.events import hear

RULE: dict[str, Any] = {"statistic": "grad_norm", "tensors": "*.weight", "threshold": 10, "recover_steps": 1}


def norms(*first: float) -> np.ndarray[Any, Any]:
    """Steps of three layers; the first layer's norms are given, the others are 1."""
    return np.array([[value, 1.0, 1.0] for value in first], np.float32)


def post(api: httpx.Client, path: str, body: Any, status: int = 201) -> dict[str, Any]:
    reply = api.post(f"/api/v1{path}", json=body)
    assert reply.status_code == status, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_a_rule_about_an_unknown_kind_of_incident_is_refused(server: Running) -> None:
    body = {"condition": "incident", "incidents": "explode"}
    with server.owner() as api:
        error = post(api, "/rules", body, 422)["error"]
        assert "There is no kind of incident 'explode'" in error["fields"]["incidents"]
        assert "exploding" in error["message"]
        assert post(api, "/rules", {**body, "incidents": "explod*, nonfinite"})["rule"]["state"] == "normal"


def test_rules_are_made_changed_and_removed(server: Running) -> None:
    with server.owner() as api:
        rule = post(api, "/rules", {**RULE, "name": "<b>hot</b>"})["rule"]
        assert (rule["name"], rule["version"], rule["state"], rule["threshold"]) == (
            "<b>hot</b>",
            1,
            "normal",
            10.0,
        )
        assert rule["sentence"] == "the gradient norm of *.weight is above 10"
        edited = api.put(f"/api/v1/rules/{rule['id']}", json={**rule, "threshold": 20}).json()["rule"]
        assert (edited["threshold"], edited["version"], edited["name"]) == (20.0, 2, "<b>hot</b>")
        listed = api.get("/api/v1/rules").json()["rules"]
        assert edited in listed
        assert api.delete(f"/api/v1/rules/{rule['id']}").status_code == 204
        assert rule["id"] not in [other["id"] for other in api.get("/api/v1/rules").json()["rules"]]
        assert api.delete(f"/api/v1/rules/{rule['id']}").status_code == 404
        assert api.put(f"/api/v1/rules/{rule['id']}", json=RULE).status_code == 404


def test_a_few_rules_are_on_from_the_start_and_can_be_switched_off(server: Running) -> None:
    with server.owner() as api:
        defaults = [r for r in api.get("/api/v1/rules").json()["rules"] if r["source"] == "default"]
        assert {rule["enabled"] for rule in defaults} == {True}
        reply = api.put(f"/api/v1/rules/{defaults[0]['id']}", json={"enabled": False})
        assert reply.json()["rule"]["enabled"] is False


def test_what_is_wrong_is_told_beside_each_field(server: Running) -> None:
    with server.owner() as api:
        error = post(api, "/rules", {**RULE, "threshold": "NaN", "for_steps": 0}, status=422)["error"]
        assert error["code"] == "invalid"
        assert set(error["fields"]) == {"threshold", "for_steps"}
        bodies: list[Any] = [[], 3, None, "x"]
        for body in bodies:
            assert api.post("/api/v1/rules", json=body).status_code == 422
        text = '{"statistic": "loss", "threshold": NaN}'
        reply = api.post("/api/v1/rules", content=text, headers={"Content-Type": "application/json"})
        assert reply.status_code in (400, 422)


def test_the_form_is_made_from_the_table(server: Running) -> None:
    with server.owner() as api:
        table = api.get("/api/v1/rules/kinds").json()
    keys = {parameter["key"] for parameter in table["parameters"]}
    assert set(table["common"]) <= keys
    assert {"above", "below", "nonfinite"} <= {kind["condition"] for kind in table["kinds"]}
    for kind in table["kinds"]:
        assert set(kind["parameters"]) <= keys


def test_a_rule_fires_and_clears_live_in_every_open_page(server: Running) -> None:
    with server.owner() as api, Trainer(server, hello()) as trainer, Page(server) as one, Page(server) as two:
        rule = post(api, "/rules", RULE)["rule"]
        for page in (one, two):
            page.say(type="follow", run=None)
            assert hear(page, "rule")["id"] == rule["id"]
        trainer.send(schema(), batch(1, [0, 1], norms(1, 50)))
        for page in (one, two):
            alert = hear(page, "alert")
            assert (alert["opened_step"], alert["cleared_step"], alert["worst"]) == (1, None, ["a.weight"])
            assert hear(page, "rule")["state"] == "firing"
        trainer.send(batch(2, [2], norms(1)))
        for page in (one, two):
            assert hear(page, "alert")["cleared_step"] == 2
        stored = api.get("/api/v1/alerts", params={"run": "run-1"}).json()["alerts"]
        assert [(a["peak"], a["cleared_step"]) for a in stored] == [(50.0, 2)]


def test_an_edit_closes_its_open_alert_and_judges_anew(server: Running) -> None:
    with server.owner() as api, Trainer(server, hello()) as trainer, Page(server) as page:
        rule = post(api, "/rules", RULE)["rule"]
        page.say(type="follow", run="run-1")
        trainer.send(schema(), batch(1, [0], norms(50)))
        opened = hear(page, "alert")
        api.put(f"/api/v1/rules/{rule['id']}", json={"threshold": 40})
        closed = hear(page, "alert")
        assert (closed["id"], closed["reason"]) == (opened["id"], "rule edited")
        trainer.send(batch(2, [1], norms(50)))
        again = hear(page, "alert")
        assert again["id"] != opened["id"] and again["threshold"] == 40.0
        api.delete(f"/api/v1/rules/{rule['id']}")
        assert hear(page, "alert")["reason"] == "rule removed"


def test_a_preview_says_when_it_would_have_fired(server: Running) -> None:
    values = np.ones((3000, 3), np.float32)
    values[1000:1005, 0] = 50
    values[2500, 2] = 70
    values[2600, 1] = 500
    with server.owner() as api, Trainer(server, hello()) as trainer:
        trainer.send(schema(), batch(1, range(3000), values))
        trainer.wait_acked(2)
        found = post(api, "/rules/preview", {"rule": RULE, "run": "run-1"}, status=200)
        assert [(f["step"], f["value"], f["series"]) for f in found["fired"]] == [
            (1000, 50.0, "a.weight"), (2500, 70.0, "b.weight"),
        ]  # fmt: skip
        assert (found["count"], found["series"], found["to_step"], found["complete"]) == (2, 2, 2999, True)
        assert found["sentence"] == "the gradient norm of *.weight is above 10"
        longer = post(api, "/rules/preview", {"rule": {**RULE, "for_steps": 5}, "run": "run-1"}, status=200)
        assert [f["step"] for f in longer["fired"]] == [1004]
        nothing = post(
            api, "/rules/preview", {"rule": {**RULE, "statistic": "lr"}, "run": "run-1"}, status=200
        )
        assert (nothing["count"], nothing["series"]) == (0, 0)
        assert api.get("/api/v1/alerts").json()["alerts"] == []
        assert api.post("/api/v1/rules/preview", json={"rule": RULE, "run": "none"}).status_code == 404


@pytest.mark.parametrize("who", ["nobody", "viewer", "stale page"])
def test_only_owners_see_and_change_rules(server: Running, who: str) -> None:
    with server.owner() as api, Trainer(server, hello()) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
        token = post(api, "/shares", {"run": "run-1"})["token"]
    headers = {"nobody": {}, "viewer": {"X-Gradwatch-Share": token}, "stale page": server.browser()[0]}[who]
    with server.client(**headers) as client:
        assert client.post("/api/v1/rules", json=RULE).status_code in (401, 403)
        if who != "stale page":
            assert client.get("/api/v1/rules").status_code in (401, 403)
