"""Named tokens: each role gets what it is for and nothing else, until it is revoked or expires."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server.live_server import Page, Running, Trainer, hello, schema, serving

from gradwatch.errors import ConnectionRefused, GradwatchError
from gradwatch.links import fetch_code
from gradwatch.protocol import auth
from gradwatch_server import token_commands
from gradwatch_server.web.tokens import TokensReply


def make(server: Running, role: str, **more: Any) -> tuple[str, str]:
    """Id and secret of a new token."""
    with server.owner() as api:
        reply = api.post("/api/v1/tokens", json={"name": f"a {role}", "role": role, **more})
    assert reply.status_code == 201, reply.text
    return reply.json()["token"]["id"], reply.json()["secret"]


def bearer(server: Running, secret: str) -> httpx.Client:
    return server.client(Authorization=f"Bearer {secret}")


def revoke(server: Running, token: str) -> None:
    with server.owner() as api:
        assert api.delete(f"/api/v1/tokens/{token}").status_code == 204


def test_a_trainer_sends_to_its_projects_and_sees_nothing(server: Running) -> None:
    _, secret = make(server, "trainer", project="vision-*")
    key = auth.key_of(secret)
    with Trainer(server, hello(project="vision-a"), key=key) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
    with pytest.raises(ConnectionRefused, match="projects like 'vision-\\*'") as refused:
        Trainer(server, hello("run-2", project="text"), key=key)
    assert refused.value.code == "auth"
    with bearer(server, secret) as api:
        assert api.get("/api/v1/runs").status_code == 403
        assert api.post("/api/v1/session", json={"token": secret}).status_code == 403
    assert fetch_code(server.url, key) == ""


def test_a_member_sees_and_edits_but_manages_no_tokens(server: Running) -> None:
    _, secret = make(server, "member")
    with Trainer(server, hello()) as trainer, bearer(server, secret) as api:
        trainer.send(schema())
        trainer.wait_acked(1)
        assert api.patch("/api/v1/runs/run-1", json={"name": "renamed"}).status_code == 200
        assert api.get("/api/v1/tokens").status_code == 403
        assert api.post("/api/v1/tokens", json={"name": "x", "role": "owner"}).status_code == 403
    with server.client() as browser:
        code = fetch_code(server.url, auth.key_of(secret))
        assert browser.post("/api/v1/session", json={"code": code}).status_code == 204
        assert browser.get("/api/v1/runs").status_code == 200
        assert browser.get("/api/v1/tokens").status_code == 403
        assert '"manages": false' in browser.get("/").text


def test_an_owner_by_token_may_make_tokens(server: Running) -> None:
    _, secret = make(server, "owner")
    with bearer(server, secret) as api:
        assert api.post("/api/v1/tokens", json={"name": "x", "role": "trainer"}).status_code == 201


def test_a_revoked_token_ends_sessions_trainers_and_pages_at_once(server: Running) -> None:
    member, secret = make(server, "member")
    trainer_id, trainer_secret = make(server, "trainer")
    with Trainer(server, hello(), key=auth.key_of(trainer_secret)) as trainer, server.client() as browser:
        trainer.send(schema())
        trainer.wait_acked(1)
        assert browser.post("/api/v1/session", json={"token": secret}).status_code == 204
        assert browser.get("/api/v1/runs").status_code == 200
        with Page(server, bearer=secret) as page, Page(server) as other:
            revoke(server, member)
            page.hear("revoked")
            other.say(type="ping")
            other.hear("pong")
        assert browser.get("/api/v1/runs").status_code == 401
        revoke(server, trainer_id)
        with pytest.raises(ConnectionRefused):
            trainer.wait_acked(2)
    with pytest.raises(ConnectionRefused):
        Trainer(server, hello(), key=auth.key_of(trainer_secret))


def test_tokens_expire_and_outlive_a_restart(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    with serving(tmp_path, clock=lambda: now[0]) as first:
        _, short = make(first, "member", expires_in=60)
        _, long = make(first, "member")
    with serving(tmp_path, clock=lambda: now[0]) as second:
        with bearer(second, short) as api:
            assert api.get("/api/v1/runs").status_code == 200
        now[0] += 61
        for secret, status in ((short, 401), (long, 200)):
            with bearer(second, secret) as api:
                assert api.get("/api/v1/runs").status_code == status


def test_secrets_are_shown_once_and_not_stored(server: Running, tmp_path: Path) -> None:
    _, secret = make(server, "owner")
    with server.owner() as api:
        listed = api.get("/api/v1/tokens")
    TokensReply.model_validate(listed.json())
    assert secret not in listed.text
    assert auth.key_of(secret) not in listed.text
    for file in tmp_path.rglob("gradwatch.db*"):
        assert secret.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "", "role": "owner"},
        {"name": "x", "role": "god"},
        {"name": "x", "role": "member", "project": "vision"},
        {"name": "x\n", "role": "owner"},
        {"name": "x", "role": "owner", "expires_in": -1},
    ],
)
def test_what_cannot_be_used_is_refused(server: Running, body: dict[str, Any]) -> None:
    with server.owner() as api:
        assert api.post("/api/v1/tokens", json=body).status_code == 422


def command(server: Running, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    token_commands.configure(parser)
    found = parser.parse_args(arguments)
    found.action(found, {"GRADWATCH_SERVER": server.url, "GRADWATCH_TOKEN": server.services.token})


def test_the_commands(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    command(server, "create", "for the cluster", "--project", "vision", "--days", "1")
    secret = capsys.readouterr().out.strip()
    command(server, "list")
    line = capsys.readouterr().out
    assert "trainer" in line
    assert "for the cluster" in line
    assert "until " in line
    token = line.split()[0]
    assert token == auth.key_id(auth.key_of(secret))
    command(server, "revoke", token)
    command(server, "list")
    assert "revoked" in capsys.readouterr().out
    with pytest.raises(GradwatchError, match="no such token"):
        command(server, "revoke", "nothing")


def test_a_proxy_with_single_sign_on_may_say_who_asks(tmp_path: Path) -> None:
    with serving(tmp_path, trusted_user_header="X-User") as server:
        with server.client(**{"X-User": "ada"}) as ada:
            assert ada.get("/api/v1/runs").status_code == 200
            assert ada.get("/api/v1/tokens").status_code == 403
            page = re.search(r'"page": "(\w+)"', ada.get("/").text)
            assert page is not None
            assert ada.post("/api/v1/shares", json={"run": "none"}).status_code == 403
            mine = {"X-Gradwatch-Page": page[1]}
            assert ada.post("/api/v1/shares", json={"run": "none"}, headers=mine).status_code == 404
            with server.client(**{"X-User": "bob"}, **mine) as bob:
                assert bob.post("/api/v1/shares", json={"run": "none"}).status_code == 403
        with server.client() as nobody:
            assert nobody.get("/api/v1/runs").status_code == 401


def test_anybody_elses_word_counts_for_nothing(tmp_path: Path) -> None:
    elsewhere = {"trusted_user_header": "X-User", "trusted_proxies": "10.0.0.0/8"}
    for given in (elsewhere, {}):
        with serving(tmp_path, **given) as server, server.client(**{"X-User": "ada"}) as liar:
            assert liar.get("/api/v1/runs").status_code == 401
