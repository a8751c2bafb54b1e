"""Signing in: codes are proved, single-use and short-lived; sessions outlive a restart and end when told to."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.server.live_server import Running, serving

from gradwatch.links import code_request, fetch_code
from gradwatch.protocol import auth
from gradwatch_server.web.sessions import (
    CODE_SECONDS,
    SESSION_SECONDS,
    Codes,
    Nonces,
    Sessions,
    check_code_request,
)


def key_for(key_id: str) -> str | None:
    """A server that knows one key."""
    return "00" * 32 if key_id == auth.key_id("00" * 32) else None


def code_header(key: str, now: float, nonce: str = "0123456789abcdef") -> str:
    return str(code_request("http://x", key, now, nonce).get_header("Authorization"))


def sign_in(server: Running, code: str, **headers: str) -> httpx.Response:
    with server.client(**headers) as browser:
        return browser.post("/api/v1/session", json={"code": code})


def test_the_client_gets_a_code_and_a_browser_spends_it_once(server: Running) -> None:
    code = fetch_code(server.url, server.key)
    assert code
    reply = sign_in(server, code)
    assert reply.status_code == 204
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert cookie.startswith(f"gradwatch_{server.services.instance}=")
    with server.client(Cookie=cookie.split(";")[0]) as browser:
        assert browser.get("/api/v1/runs").status_code == 200
    again = sign_in(server, code)
    assert again.status_code == 401
    assert "used already" in again.json()["error"]["message"]


def test_a_stranger_gets_no_code(server: Running) -> None:
    assert fetch_code(server.url, auth.key_of("another token")) == ""


def test_the_token_itself_signs_in_but_may_not_be_guessed_for_long(server: Running) -> None:
    with server.client() as browser:
        assert browser.post("/api/v1/session", json={"token": server.services.token}).status_code == 204
        replies = [browser.post("/api/v1/session", json={"token": "guess"}).status_code for _ in range(11)]
        assert replies == [401] * 10 + [429]


def test_another_origin_cannot_sign_a_browser_in(server: Running) -> None:
    code = server.services.codes.mint(server.services.clock())
    assert sign_in(server, code, Origin="https://evil.example").status_code == 403
    assert sign_in(server, code, Origin=server.url).status_code == 204


def test_a_session_outlives_a_restart_and_ends_when_told_to(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        headers, _ = first.browser()
    with serving(tmp_path) as second, second.client(**headers) as browser:
        assert browser.get("/api/v1/runs").status_code == 200
        session = second.services.sessions.check(headers["Cookie"].partition("=")[2], second.services.clock())
        assert session is not None
        page = second.services.sessions.page_token(session)
        assert browser.post("/api/v1/session/end", headers={"X-Gradwatch-Page": page}).status_code == 204
        assert browser.get("/api/v1/runs").status_code == 401


def test_behind_tls_the_cookie_is_for_tls_only(server: Running) -> None:
    code = server.services.codes.mint(server.services.clock())
    reply = sign_in(server, code, **{"X-Forwarded-Proto": "https"})
    assert "Secure" in reply.headers["set-cookie"]


def test_cookies_expire_and_cannot_be_made_up() -> None:
    sessions = Sessions("00" * 32)
    cookie = sessions.start(1000.0)
    assert sessions.check(cookie, 1000.0 + SESSION_SECONDS - 1) is not None
    assert sessions.check(cookie, 1000.0 + SESSION_SECONDS) is None
    expires, session, signature = cookie.split(".")
    for forged in (
        "",
        ".",
        "..",
        f"{int(expires) + 9}.{session}.{signature}",
        f"{expires}.x.{signature}",
        "é.é.é",
    ):
        assert sessions.check(forged, 1000.0) is None
    assert Sessions("11" * 32).check(cookie, 1000.0) is None


def test_an_ended_session_stays_ended() -> None:
    sessions = Sessions("00" * 32)
    cookie = sessions.start(0.0)
    session = sessions.check(cookie, 1.0)
    assert session is not None
    assert not sessions.is_page_token(session, sessions.page_token("another"))
    sessions.end(session, 1.0)
    assert sessions.check(cookie, 2.0) is None


def test_codes_are_single_use_and_short_lived() -> None:
    codes = Codes()
    one, two = codes.mint(0.0), codes.mint(0.0)
    assert codes.spend(one, 1.0) == ""
    assert codes.spend(one, 1.0) is None
    assert codes.spend(two, CODE_SECONDS) is None
    assert codes.spend("", 1.0) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Gradwatch",
        "Gradwatch a.b.c.d",
        "Bearer " + code_header("00" * 32, 1000).partition(" ")[2],
        code_header("11" * 32, 1000),
        code_header("00" * 32, 600),
        code_header("00" * 32, 1400),
        code_header("00" * 32, 1000)[:-1] + "0",
        code_header("00" * 32, 1000, nonce="short"),
    ],
)
def test_a_code_request_must_prove_the_key_in_time(header: str) -> None:
    assert check_code_request(header, key_for, Nonces(), 1000.0) is None


def test_a_code_request_counts_once() -> None:
    nonces = Nonces()
    header = code_header("00" * 32, 1000)
    assert check_code_request(header, key_for, nonces, 1001.0) == auth.key_id("00" * 32)
    assert check_code_request(header, key_for, nonces, 1002.0) is None
