"""Share links: what they open, for how long, and for whom."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.live_server import CONTEXT, PATIENCE, SHOWN, Page, Running, Trainer, hello, schema, serving
from websockets.exceptions import ConnectionClosed

from gradwatch.protocol import Mark

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
        assert (run["id"], run["context"], run["private"]) == ("run-1", SHOWN, None)
        page = viewer.get(f"/s/{made['token']}").text
        assert "0.125" in page and "secret-" not in page
        assert viewer.get("/api/v1/runs/run-2").status_code == 404
        assert [r["id"] for r in viewer.get("/api/v1/runs").json()["runs"]] == ["run-1"]
        for guess in ("secret-ann", "who:secret-ann", "who:"):
            assert viewer.get("/api/v1/runs", params={"q": guess}).json()["runs"] == [], guess
        for path in ("/shares", "/rules", "/rules/kinds"):
            assert viewer.get(f"/api/v1{path}").status_code == 403
        for path in ("/shares", "/rules", "/rules/preview"):
            assert viewer.post(f"/api/v1{path}", json={"run": "run-1"}).status_code == 403
        assert viewer.delete(f"/api/v1/shares/{made['share']['id']}").status_code == 403
        assert viewer.patch("/api/v1/runs/run-1", json={"name": "x"}).status_code == 403


def test_what_goes_on_can_only_make_more_private(server: Running) -> None:
    resumed = {"stream": "second", "segment": "second"}
    more = {**CONTEXT, "private": ["lr"], "config": {"lr": 9}}
    made = share(server)
    with (
        server.client(**{"X-Gradwatch-Share": made["token"]}) as viewer,
        Page(server, share=made["token"]) as page,
    ):
        with Trainer(server, hello(**resumed, context=more)):
            event = page.hear("event", kind="run")["data"]
        expected = {"config": {"data": {"seed": 7}}}
        assert event["context"] == viewer.get("/api/v1/runs/run-1").json()["run"]["context"] == expected
        with Trainer(server, hello(stream="third", segment="third", context={**CONTEXT, "private": []})):
            page.hear("event", kind="run")
            assert viewer.get("/api/v1/runs/run-1").json()["run"]["context"] == expected


def test_marks_are_shown_without_what_leads_to_a_machine(server: Running) -> None:
    sent = {
        "path": "/secret-place/7.pt",
        "shards": "secret",
        "epoch": 3,
        "at": {"host": "secret-box", "best": True},
    }
    made = share(server)
    with server.client(**{"X-Gradwatch-Share": made["token"]}) as viewer, server.owner() as api:
        with Page(server, share=made["token"]) as page, Page(server) as own:
            resumed = hello(stream="again", segment="again", context={**CONTEXT, "private": ["shards"]})
            with Trainer(server, resumed) as trainer:
                trainer.send(Mark(seq=0, step=1, time=1.7e9, kind="checkpoint", data=sent))
                trainer.wait_acked(1)
            shown = {"epoch": 3, "at": {"best": True}}
            assert page.hear("event", kind="mark")["data"]["data"] == shown
            assert own.hear("event", kind="mark")["data"]["data"] == sent
        path = "/api/v1/runs/run-1/marks"
        assert [mark["data"] for mark in viewer.get(path).json()["marks"]] == [shown]
        assert [mark["data"] for mark in api.get(path).json()["marks"]] == [sent]


def test_runs_from_before_keys_could_be_private_show_no_configuration(server: Running) -> None:
    old = {"config": {"lr": 0.5}}
    with Trainer(server, hello("old", context=old)), server.owner() as api:
        token = api.post("/api/v1/shares", json={"run": "old"}).json()["token"]
        run = api.get("/api/v1/runs/old").json()["run"]
        assert (run["context"], run["private"]) == (old, None)
    later = hello("old", context=CONTEXT, stream="later", segment="later")
    with Trainer(server, later), server.client(**{"X-Gradwatch-Share": token}) as viewer:
        assert viewer.get("/api/v1/runs/old").json()["run"]["context"] == {}


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


@pytest.mark.slow
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
    deadline = time.monotonic() + PATIENCE
    with server.owner() as api:
        while True:  # the page is answered before the view is written
            (seen,) = api.get("/api/v1/shares").json()["shares"]
            if seen["views"] == 2 or time.monotonic() > deadline:
                break
            time.sleep(0.02)
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
    bind, tunnel = (way["command"] for way in alone["ways"])
    assert "serve --host 0.0.0.0 --token" in bind
    assert tunnel.startswith(f"ssh -N -L {server.port}:127.0.0.1:{server.port} ")
    with serving(tmp_path / "named", public_url="https://lab.example") as named:
        with Trainer(named, hello()) as trainer:
            trainer.send(schema())
            trainer.finish(1)
        known = share(named)
    assert known["url"].startswith("https://lab.example/s/")
    assert (known["reach"]["public"], known["reach"]["ways"]) == (True, [])


def test_a_comparison_shows_its_runs_and_no_other(server: Running) -> None:
    with Trainer(server, hello("run-3")) as trainer:
        trainer.send(schema())
        trainer.finish(1)
    made = share(server, others=["run-2", "run-1", "run-2"], view="?x=time")
    assert (made["share"]["run_id"], made["share"]["others"]) == ("run-1", ["run-2"])
    with server.client(**{"X-Gradwatch-Share": made["token"]}) as viewer:
        assert {r["id"] for r in viewer.get("/api/v1/runs").json()["runs"]} == {"run-1", "run-2"}
        seen = {run: viewer.get(f"/api/v1/runs/{run}").status_code for run in ("run-1", "run-2", "run-3")}
        assert seen == {"run-1": 200, "run-2": 200, "run-3": 404}
        assert viewer.get("/api/v1/alerts", params={"run": "run-2"}).status_code == 200
        assert viewer.get("/api/v1/alerts", params={"run": "run-3"}).status_code == 404
    with Page(server, share=made["token"]) as page:
        page.say(type="subscribe", id=1, run="run-2", statistic="grad_norm")
        assert page.view(1).subscription == 1
        page.say(type="subscribe", id=2, run="run-3", statistic="grad_norm")
        assert page.hear("error", id=2)["code"] == "not_found"
    with server.client() as anybody:
        opened = anybody.get(f"/s/{made['token']}")
    assert opened.status_code == 200
    assert '"runs": ["run-1", "run-2"]' in opened.text and '"view": "x=time"' in opened.text
    assert "run-3" not in opened.text and "secret-" not in opened.text
    with server.owner() as api:
        for run in ("run-1", "run-2"):
            listed = api.get("/api/v1/shares", params={"run": run}).json()["shares"]
            assert [one["id"] for one in listed] == [made["share"]["id"]]
        assert api.get("/api/v1/shares", params={"run": "run-3"}).json()["shares"] == []
        body = {"run": "run-1", "others": ["none"]}
        assert api.post("/api/v1/shares", json=body).status_code == 404
        assert api.post("/api/v1/shares", json={**body, "others": list("abcde")}).status_code == 422
        assert api.delete("/api/v1/runs/run-2").status_code == 204
    assert opens(server, made["token"]) == 200
    with server.client() as anybody:
        assert '"runs": ["run-1"]' in anybody.get(f"/s/{made['token']}").text


PREVIEWERS = [
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "TelegramBot (like TwitterBot)",
    "facebookexternalhit/1.1",
    "WhatsApp/2.23.20.0",
]


@pytest.mark.parametrize("agent", PREVIEWERS)
def test_a_chat_that_unfurls_a_link_is_no_view(server: Running, agent: str) -> None:
    made = share(server)
    with server.client(**{"User-Agent": agent}) as chat:
        text = chat.get(f"/s/{made['token']}").text
    assert '<meta property="og:title" content="tests / a run">' in text
    with server.owner() as api:
        assert api.get("/api/v1/shares").json()["shares"][0]["views"] == 0


def test_what_unfurls_is_title_and_health_sentence(server: Running) -> None:
    with Trainer(server, hello("hostile", name='"><script>x</script>\u202e', project="p")) as trainer:
        trainer.send(schema())
        trainer.finish(1)

    def tags(**fields: Any) -> dict[str, str]:
        made = share(server, **fields)
        with server.client() as chat:
            text = chat.get(f"/s/{made['token']}").text
        return dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)">', text))

    plain = tags()
    assert (plain["title"], plain["type"]) == ("tests / a run", "website")
    assert plain["description"]
    assert tags(others=["run-2"])["title"] == "Comparison of 2 runs: a run, a run"
    hostile = tags(run="hostile")["title"]
    assert hostile == "p / &#34;&gt;&lt;script&gt;x&lt;/script&gt;\ufffd"
    assert tags(password="secret") == {
        "site_name": "gradwatch",
        "title": "A shared run",
        "type": "website",
        "description": "This link opens with a password.",
    }
