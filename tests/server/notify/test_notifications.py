"""From a loss on the ingest socket to a message in a real HTTP or SMTP server."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.live_server import Running, Trainer, batch, hello, schema, serving

from gradwatch_server.notify.courier import backoff

from .sinks import HttpSink, http_sink, smtp_sink

RULE: dict[str, Any] = {"name": "hot", "statistic": "loss", "threshold": 10, "recover_steps": 1}
LOCAL = ("127.0.0.1",)


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
    with serving(tmp_path, clock=clock, notify_allow=LOCAL, public_url="https://lab.example") as running:
        yield running


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink() as running:
        yield running


def post(server: Running, path: str, body: Any, status: int = 201) -> dict[str, Any]:
    with server.owner() as api:
        reply = api.post(f"/api/v1{path}", json=body)
    assert reply.status_code == status, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def send(trainer: Trainer, seq: int, *losses: float) -> None:
    """Losses at the steps from ``100 * seq`` on; waits until they are stored."""
    steps = range(100 * seq, 100 * seq + len(losses))
    trainer.send(batch(seq, steps, np.ones((len(losses), 3), np.float32), losses))
    trainer.wait_acked(seq + 1)


def test_one_message_when_it_fires_and_one_when_it_clears(server: Running, sink: HttpSink) -> None:
    post(server, "/channels", {"kind": "webhook", "address": sink.url, "secret": "s3cret", "name": "ops"})
    rule = post(server, "/rules", RULE)["rule"]
    with Trainer(server, hello(name="x‮y")) as trainer:
        trainer.send(schema())
        send(trainer, 1, 20, 30, 40)
        (fired,) = sink.wait(1)
        send(trainer, 2, 1)
        fired, cleared = sink.wait(2)
    assert (fired["kind"], fired["severity"], fired["run"]) == ("fired", "warning", "run-1")
    assert fired["title"] == "Warning: hot (tests / x�y)"
    assert fired["text"] == "The loss is above 10 since step 100 (peak: 40)."
    assert fired["link"] == f"https://lab.example/runs/run-1?alert={fired['alert']}"
    assert (cleared["kind"], cleared["alert"]) == ("cleared", fired["alert"])
    assert cleared["text"] == "Fine again at step 200. It was open since step 100 (peak: 40)."
    headers, body = sink.got[0]
    signed = headers["X-Gradwatch-Time"].encode() + b"." + body
    assert (
        headers["X-Gradwatch-Signature"]
        == "sha256=" + hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    )
    assert headers["X-Gradwatch-Id"] == fired["id"]
    with server.owner() as api:
        api.delete(f"/api/v1/rules/{rule['id']}")


def test_at_most_three_a_day_unless_severity_rises(server: Running, sink: HttpSink, clock: Clock) -> None:
    post(server, "/channels", {"kind": "webhook", "address": sink.url})
    post(server, "/rules", RULE)
    post(server, "/rules", {**RULE, "name": "very hot", "threshold": 100, "severity": "critical"})
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        for seq in range(1, 6):
            send(trainer, seq, 20, 1)
        send(trainer, 6, 200, 1)
        sink.wait(8)
        clock.now += 86_401
        send(trainer, 7, 20, 1)
        sink.wait(10)
    sent = [(body["kind"], body["title"].partition(" (")[0]) for body in sink.wait(10)]
    fired = [title for kind, title in sent if kind == "fired"]
    assert sorted(fired) == ["Critical: very hot", *["Warning: hot"] * 4]
    assert len(sent) == 10


def test_a_dead_channel_is_tried_again_also_after_a_restart(tmp_path: Path, sink: HttpSink) -> None:
    clock = Clock()
    sink.status = 503
    with serving(tmp_path, clock=clock, notify_allow=LOCAL) as first:
        made = post(first, "/channels", {"kind": "webhook", "address": sink.url})["channel"]
        post(first, "/rules", RULE)
        with Trainer(first, hello()) as trainer:
            trainer.send(schema())
            send(trainer, 1, 20)
            sink.wait(1)
    sink.status = 200
    clock.now += 3600
    with serving(tmp_path, clock=clock, notify_allow=LOCAL) as second:
        bodies = sink.wait(2)
        assert bodies[0] == bodies[1]
        with Trainer(second, hello()) as trainer:
            send(trainer, 2, 20, 1)
            assert sink.wait(3)[2]["kind"] == "cleared"
        with second.owner() as api:
            (channel,) = api.get("/api/v1/channels").json()["channels"]
    assert (channel["id"], channel["last_error"]) == (made["id"], "")
    assert len(sink.got) == 3


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_mail_arrives_through_apprise(server: Running) -> None:
    with smtp_sink() as mail:
        address = f"mailto://127.0.0.1:{mail.port}?from=gradwatch@lab.example&to=me@lab.example&mode=insecure"
        post(server, "/channels", {"kind": "apprise", "address": address})
        post(server, "/rules", RULE)
        with Trainer(server, hello()) as trainer:
            trainer.send(schema())
            send(trainer, 1, 20)
            (message,) = mail.wait(1)
    assert message["Subject"] == "Warning: hot (tests / a run)"
    part = message.get_payload()[0] if message.is_multipart() else message  # type: ignore[index]
    text = part.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert "The loss is above 10 since step 100" in text
    assert "https://lab.example/runs/run-1?alert=" in text


def test_severity_choice_and_switch_decide_who_hears(server: Running, sink: HttpSink) -> None:
    address = {"kind": "webhook", "address": sink.url}
    post(server, "/channels", {**address, "name": "only critical", "least": "critical"})
    post(server, "/channels", {**address, "name": "off", "enabled": False})
    chosen = post(server, "/channels", {**address, "name": "chosen", "secret": "chosen"})["channel"]
    post(server, "/channels", {**address, "name": "not chosen"})
    with server.owner() as api:
        assert len(api.get("/api/v1/rules/kinds").json()["channels"]) == 4
    post(server, "/rules", {**RULE, "channels": [chosen["id"]]})
    with Trainer(server, hello()) as trainer:
        trainer.send(schema())
        send(trainer, 1, 20)
        sink.wait(1)
        send(trainer, 2, 1)
        sink.wait(2)
    assert ["X-Gradwatch-Signature" in headers for headers, _ in sink.got] == [True, True]


def test_a_muted_alert_sends_nothing(server: Running, sink: HttpSink) -> None:
    post(server, "/channels", {"kind": "webhook", "address": sink.url})
    post(server, "/rules", RULE)
    with Trainer(server, hello()) as trainer, server.owner() as api:
        trainer.send(schema())
        send(trainer, 1, 20)
        (fired,) = sink.wait(1)
        post(server, f"/alerts/{fired['alert']}/mute", {"seconds": 3600}, 200)
        send(trainer, 2, 1)
        send(trainer, 3, 20)
        assert sink.wait(2)[1]["kind"] == "fired"
        assert [a["cleared_step"] for a in api.get("/api/v1/alerts").json()["alerts"]] == [None, 200]


def test_private_addresses_are_refused_with_the_way_out(tmp_path: Path, sink: HttpSink) -> None:
    with serving(tmp_path) as server:
        channel = post(server, "/channels", {"kind": "webhook", "address": sink.url})["channel"]
        result = post(server, f"/channels/{channel['id']}/test", {}, 200)
        assert result["delivered"] is False
        assert "GRADWATCH_NOTIFY_ALLOW=127.0.0.1" in result["error"]
    assert sink.got == []


def test_a_test_message_says_how_it_went(server: Running, sink: HttpSink) -> None:
    channel = post(server, "/channels", {"kind": "webhook", "address": sink.url})["channel"]
    assert post(server, f"/channels/{channel['id']}/test", {}, 200) == {"delivered": True, "error": ""}
    sink.status = 404
    error = post(server, f"/channels/{channel['id']}/test", {}, 200)["error"]
    assert error == "the address answered with status 404"
    sink.status, sink.location = 302, sink.url
    assert (
        post(server, f"/channels/{channel['id']}/test", {}, 200)["error"]
        == "the address answered with status 302"
    )
    post(server, "/channels/none/test", {}, 404)


def test_secrets_go_in_and_never_come_out(server: Running) -> None:
    address = "https://hooks.example/T000/B000/very-secret"
    channel = post(server, "/channels", {"kind": "webhook", "address": address, "secret": "key-secret"})[
        "channel"
    ]
    with server.owner() as api:
        edit = {"kind": "webhook", "name": "renamed", "least": "critical"}
        edited = api.put(f"/api/v1/channels/{channel['id']}", json=edit)
        assert edited.json()["channel"]["name"] == "renamed"
        for text in (api.get("/api/v1/channels").text, edited.text, api.get("/api/v1/rules/kinds").text):
            assert "very-secret" not in text and "key-secret" not in text
        stored = server.services.store.database.read(
            lambda conn: conn.exec_driver_sql("SELECT address, secret FROM channels").all()
        )
        assert [tuple(row) for row in stored] == [(address, "key-secret")]
        assert api.delete(f"/api/v1/channels/{channel['id']}").status_code == 204
        assert api.delete(f"/api/v1/channels/{channel['id']}").status_code == 404
        error = api.post("/api/v1/channels", json={"kind": "webhook", "address": "gopher://x"}).json()[
            "error"
        ]
        assert set(error["fields"]) == {"address"}


def test_waits_double_up_to_an_hour() -> None:
    assert [backoff(n) for n in (1, 2, 3, 12)] == [5.0, 10.0, 20.0, 3600.0]
