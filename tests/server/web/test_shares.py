"""Share links: what they open, for how long, and for whom."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.live_server import PATIENCE, Page, Running, Trainer, hello, schema, serving
from websockets.exceptions import ConnectionClosed

DAY = 86_400.0


class Clock:
    """A clock that moves when told to."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[Running]:
    with serving(tmp_path, clock=clock) as running:
        for run in ("run-1", "run-2"):
            with Trainer(running, hello(run)) as trainer:
                trainer.send(schema())
                trainer.finish(1)
        yield running


def share(server: Running, **fields: Any) -> dict[str, Any]:
    with server.owner() as api:
        reply = api.post("/api/v1/shares", json={"run": "run-1", **fields})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def opens(server: Running, token: str) -> int:
    with server.client(**{"X-Gradwatch-Share": token}) as viewer:
        return viewer.get("/api/v1/runs/run-1").status_code


def test_a_link_shows_its_run_and_nothing_else(server: Running) -> None:
    made = share(server, label="for Ana", view="?from=10&to=20")
    assert made["url"] == f"{server.url}/s/{made['token']}"
    assert len(made["token"]) == 32
    assert (made["share"]["label"], made["share"]["view"]) == ("for Ana", "from=10&to=20")
    with server.client(**{"X-Gradwatch-Share": made["token"]}) as viewer:
        run = viewer.get("/api/v1/runs/run-1").json()["run"]
        assert (run["id"], run["context"]) == ("run-1", {})
        assert viewer.get("/api/v1/runs/run-2").status_code == 404
        assert [r["id"] for r in viewer.get("/api/v1/runs").json()["runs"]] == ["run-1"]
        for path in ("/shares", "/rules", "/rules/kinds"):
            assert viewer.get(f"/api/v1{path}").status_code == 403
        for path in ("/shares", "/rules", "/rules/preview"):
            assert viewer.post(f"/api/v1{path}", json={"run": "run-1"}).status_code == 403
        assert viewer.delete(f"/api/v1/shares/{made['share']['id']}").status_code == 403
        assert viewer.patch("/api/v1/runs/run-1", json={"name": "x"}).status_code == 403


def test_the_token_is_nowhere_but_in_the_answer(server: Running, tmp_path: Path) -> None:
    made = share(server)
    assert made["token"] not in str(made["share"])
    with server.owner() as api:
        assert made["token"] not in api.get("/api/v1/shares").text
    with sqlite3.connect(tmp_path / "gradwatch.db") as database:
        assert made["token"] not in "\n".join(database.iterdump())


def test_links_expire_after_30_days_unless_said_otherwise(server: Running, clock: Clock) -> None:
    usual, brief, lasting = share(server), share(server, expires_in=60), share(server, expires_in=None)
    assert usual["share"]["expires_at"] - usual["share"]["created_at"] == 30 * DAY
    clock.now += 59
    assert opens(server, brief["token"]) == 200
    clock.now += 1
    assert opens(server, brief["token"]) == 410
    clock.now += 30 * DAY
    assert opens(server, usual["token"]) == 410
    assert opens(server, lasting["token"]) == 200


def test_revoking_cuts_open_pages_off_at_once(server: Running) -> None:
    made, other = share(server), share(server)
    with Page(server, share=made["token"]) as cut, Page(server, share=other["token"]) as stays:
        with server.owner() as api:
            assert api.delete(f"/api/v1/shares/{made['share']['id']}").status_code == 204
        with pytest.raises(ConnectionClosed):
            while True:
                cut.socket.recv(timeout=PATIENCE)
        stays.say(type="ping")
        stays.hear("pong")
    assert opens(server, made["token"]) == 410
    assert opens(server, other["token"]) == 200
    with server.owner() as api:
        states = {
            s["id"]: s["revoked_at"]
            for s in api.get("/api/v1/shares", params={"run": "run-1"}).json()["shares"]
        }
        assert states == {made["share"]["id"]: server.services.clock(), other["share"]["id"]: None}
        assert api.delete("/api/v1/shares/none").status_code == 404


def test_a_password_opens_a_link_in_the_browser_that_gave_it(server: Running, clock: Clock) -> None:
    made = share(server, password="sésame")
    token = made["token"]
    assert made["share"]["password"] is True
    assert opens(server, token) == opens(server, token + "." + "0" * 40) == 401
    with server.client() as browser:
        page = browser.get(f"/s/{token}")
        assert page.status_code == 401 and "password" in page.text and "run-1" not in page.text
        wrong = browser.post("/api/v1/unlock", json={"token": token, "password": "sesame"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "password")
        assert browser.post("/api/v1/unlock", json={"token": token, "password": "sésame"}).status_code == 204
        opened = browser.get(f"/s/{token}")
        assert opened.status_code == 200
        proven = re.search(rf"{token}\.[0-9a-f]{{40}}", opened.text)
        assert proven is not None and opens(server, proven[0]) == 200
    with Page(server, share=proven[0]) as page_by_socket:
        page_by_socket.say(type="ping")
        page_by_socket.hear("pong")
    other = share(server, password="sésame")
    assert opens(server, other["token"] + "." + proven[0].partition(".")[2]) == 401


def test_guessing_a_password_is_stopped(server: Running, clock: Clock) -> None:
    token = share(server, password="right")["token"]
    with server.client() as browser:
        for _ in range(10):
            assert (
                browser.post("/api/v1/unlock", json={"token": token, "password": "guess"}).status_code == 401
            )
        body = {"token": token, "password": "right"}
        assert browser.post("/api/v1/unlock", json=body).status_code == 429
        clock.now += 601
        assert browser.post("/api/v1/unlock", json=body).status_code == 204
        assert browser.post("/api/v1/unlock", json={**body, "token": "x" * 32}).status_code == 410


def test_views_are_counted(server: Running, clock: Clock) -> None:
    made = share(server)
    with server.client() as viewer:
        assert viewer.get(f"/s/{made['token']}").status_code == 200
        clock.now += 500
        assert viewer.get(f"/s/{made['token']}").status_code == 200
    with server.owner() as api:
        (seen,) = api.get("/api/v1/shares").json()["shares"]
    assert (seen["views"], seen["last_seen"]) == (2, clock.now)


@pytest.mark.parametrize("token", ["x", "x" * 32, "é" * 32, "x" * 5000])
def test_other_tokens_open_nothing(server: Running, token: str) -> None:
    share(server)
    with server.client() as viewer:
        assert viewer.get(f"/s/{token}").status_code in (404, 410)
    assert server.services.sharing.share_of(token) is None


@pytest.mark.parametrize(
    "body",
    [
        {"run": "run-1", "expires_in": 1},
        {"run": "run-1", "expires_in": "soon"},
        {"run": "run-1", "label": "x" * 201},
        {"run": "run-1", "label": "two\nlines"},
        {"run": "run-1", "view": "x" * 2001},
        {"run": "run-1", "colour": "red"},
        {"expires_in": 100},
    ],
)
def test_bad_links_are_refused_with_a_sentence(server: Running, body: dict[str, Any]) -> None:
    with server.owner() as api:
        reply = api.post("/api/v1/shares", json=body)
        assert reply.status_code == 422
        assert reply.json()["error"]["message"]
        assert api.post("/api/v1/shares", json={"run": "none"}).status_code == 404


def test_the_answer_says_who_can_open_the_link(server: Running, tmp_path: Path) -> None:
    alone = share(server)["reach"]
    assert (alone["who"], alone["public"]) == ("Only this computer can open this link.", False)
    assert "ssh -N -L" in alone["advice"] and "--host 0.0.0.0" in alone["advice"]
