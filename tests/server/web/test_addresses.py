"""What one client address may do, that it harms no other, and that this computer is not limited."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection
from tests.server.live_server import PATIENCE, Page, Running, Trainer, hello, serving
from websockets.sync.client import connect

from gradwatch.errors import ConfigError
from gradwatch_server.config import Config
from gradwatch_server.errors import TooMany
from gradwatch_server.web.addresses import Addresses, AddressLimits, client_of
from gradwatch_server.web.rates import Attempts, Rates

FEW = AddressLimits(connections=2, sockets=2, per_second=1, burst=3, passwords=2, password_seconds=60)


def trusts(address: str) -> bool:
    return address in ("127.0.0.1", "10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),
        ("127.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["6.6.6.6", "1.1.1.1, 10.0.0.1 ,10.0.0.2"], "1.1.1.1"),
        ("127.0.0.1", ["10.0.0.1"], "10.0.0.1"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", ["1.1.1.1, <script>, 10.0.0.1"], "10.0.0.1"),
        ("127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_only_a_proxy_that_is_believed_says_who_asks(peer: str, forwarded: list[str], client: str) -> None:
    assert client_of(peer, forwarded, trusts) == client


def asked_from(peer: str, forwarded: str = "") -> HTTPConnection:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return HTTPConnection({"type": "http", "client": (peer, 1), "headers": headers})


def few(**given: Any) -> tuple[Addresses, list[str]]:
    refused: list[str] = []
    return Addresses(Config.build({}, directory=Path("unused"), **given), refused.append, FEW), refused


def asks(addresses: Addresses, connection: HTTPConnection, times: int, now: float = 0.0) -> int:
    """How many of so many requests are let in."""
    taken = 0
    for _ in range(times):
        try:
            addresses.check_request(connection, now)
        except TooMany:
            continue
        taken += 1
    return taken


def test_an_address_asks_so_often_and_harms_no_other() -> None:
    addresses, refused = few()
    assert asks(addresses, asked_from("8.8.8.8"), 5) == 3
    assert refused == ["requests"] * 2
    assert asks(addresses, asked_from("8.8.4.4"), 1) == 1
    assert asks(addresses, asked_from("8.8.8.8"), 5, now=2.0) == 2
    assert asks(addresses, asked_from("::ffff:8.8.4.4"), 5) == 2


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    addresses, _ = few()
    assert sum(asks(addresses, asked_from(f"2001:db8::{i}"), 1) for i in range(1, 9)) == 3
    assert asks(addresses, asked_from("2001:db8:0:1::1"), 1) == 1


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.3.4.5", ""])
def test_this_computer_and_named_networks_are_not_limited(peer: str) -> None:
    addresses, refused = few(unlimited="10.3.0.0/16")
    connection = asked_from(peer)
    assert asks(addresses, connection, 20) == 20
    assert all(addresses.connect(peer) for _ in range(9))
    with contextlib.ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(addresses.holding(connection, 0.0))
    assert refused == []


def test_a_request_through_a_proxy_counts_for_whom_it_is_from() -> None:
    addresses, _ = few()
    assert asks(addresses, asked_from("127.0.0.1", "8.8.8.8"), 5) == 3
    assert asks(addresses, asked_from("127.0.0.1", "8.8.4.4"), 5) == 3
    assert all(addresses.connect("127.0.0.1") for _ in range(9))


def test_connections_come_and_go() -> None:
    addresses, refused = few()
    assert [addresses.connect("8.8.8.8") for _ in range(3)] == [True, True, False]
    assert addresses.connect("8.8.4.4")
    addresses.disconnect("8.8.8.8")
    assert [addresses.connect("8.8.8.8") for _ in range(2)] == [True, False]
    assert refused == ["connections"] * 2


def test_sockets_come_and_go() -> None:
    addresses, refused = few()
    connection = asked_from("8.8.8.8")
    with addresses.holding(connection, 0.0), addresses.holding(connection, 0.0):
        third = addresses.holding(connection, 0.0)
        with pytest.raises(TooMany, match=r"2 trainers and pages are connected from 8\.8\.8\.8"):
            third.__enter__()
    with addresses.holding(connection, 100.0):
        assert refused == ["sockets"]


def test_a_right_password_does_not_count_and_wrong_ones_do_for_everybody() -> None:
    addresses, refused = few()
    connection = asked_from("127.0.0.1")
    for now in range(5):
        addresses.try_password(connection, float(now))()
    for now in (10.0, 11.0):
        addresses.try_password(connection, now)
    with pytest.raises(TooMany, match="from your address"):
        addresses.try_password(connection, 12.0)
    assert refused == ["passwords"]
    addresses.try_password(asked_from("8.8.8.8"), 12.0)
    addresses.try_password(connection, 71.0)


def test_many_attempts_at_once_get_no_further() -> None:
    attempts = Attempts(5, 60)
    begun: list[bool] = []
    threads = [threading.Thread(target=lambda: begun.append(attempts.begin("a", 1.0))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(begun) == 5


def test_of_many_names_the_one_that_tried_least_lately_is_forgotten() -> None:
    attempts = Attempts(1, 60, most_names=2)
    assert [attempts.begin(name, 0.0) for name in "aba"] == [True, True, False]
    assert attempts.begin("c", 0.0)
    assert [attempts.begin(name, 0.0) for name in "acb"] == [False, False, True]


def test_networks_that_are_none_are_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="--unlimited"):
        Config.build({"GRADWATCH_UNLIMITED": "the lab"}, directory=Path("unused"))


FAR = {"X-Forwarded-For": "203.0.113.9"}
"""As if asked from elsewhere: the proxy on this computer is believed."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path, clock=lambda: 1_700_000_000.0) as running:
        yield running


def allow(server: Running, **limits: Any) -> None:
    addresses = server.services.addresses
    addresses.limits = replace(addresses.limits, **limits)
    addresses._rates = Rates(per_second=addresses.limits.per_second, burst=addresses.limits.burst)


def counted(server: Running) -> dict[str, float]:
    """What ``/metrics`` says was refused."""
    with server.owner() as api:
        lines = [
            line
            for line in api.get("/metrics").text.splitlines()
            if line.startswith("gradwatch_refused_total{")
        ]
    return {line.split('"')[1]: float(line.split()[1]) for line in lines}


def test_who_asks_too_often_is_told_so_on_every_path_and_nobody_else_is(server: Running) -> None:
    allow(server, burst=3.0)
    with server.client(**FAR) as far, server.owner() as near:
        replies = [far.get(path) for path in ("/healthz", "/", "/static/none", "/api/v1/runs", "/healthz")]
        assert [reply.status_code for reply in replies] == [200, 401, 404, 429, 429]
        error = replies[-1].json()["error"]
        assert (
            error["code"] == "too_many" and "203.0.113.9" in error["message"] and "Wait" in error["message"]
        )
        assert int(replies[-1].headers["retry-after"]) > 0
        assert {near.get("/api/v1/runs").status_code for _ in range(20)} == {200}
    assert counted(server) == {"connections": 0, "sockets": 0, "requests": 2, "passwords": 0, "link": 0}


def test_sockets_of_an_address_are_limited_and_trainers_of_this_computer_are_not(server: Running) -> None:
    allow(server, sockets=0)
    assert refusal(server, "/ws/live") == "too_many"
    assert refusal(server, "/ws/ingest") == "too_many"
    assert counted(server)["sockets"] == 2
    with Trainer(server, hello()) as trainer, Page(server) as page:
        assert trainer.welcome.next_seq == 0
        page.say(type="ping")
        page.hear("pong")


def refusal(server: Running, path: str) -> str:
    """The code with which a socket from elsewhere is refused, told before it has said anything."""
    with connect(server.socket_url + path, additional_headers=FAR, proxy=None) as socket:
        found: str = json.loads(socket.recv(timeout=PATIENCE))["code"]
    return found


def test_guessing_tokens_from_elsewhere_locks_nobody_here_out(server: Running) -> None:
    with server.client(**FAR) as far, server.client() as near:
        wrong = [far.post("/api/v1/session", json={"token": "guess"}).status_code for _ in range(12)]
        assert wrong == [401] * 10 + [429] * 2
        right = {"token": server.services.token}
        assert far.post("/api/v1/session", json=right).status_code == 429
        assert near.post("/api/v1/session", json=right).status_code == 204
    assert counted(server)["passwords"] == 3


@pytest.mark.slow
def test_guessing_a_links_password_stops_who_guesses_first_and_then_everybody(server: Running) -> None:
    with Trainer(server, hello()), server.owner() as api:
        link = api.post("/api/v1/shares", json={"run": "run-1", "password": "right"}).json()["token"]

    def tries(address: str, password: str) -> int:
        with server.client(**{"X-Forwarded-For": address}) as browser:
            body = {"token": link, "password": password}
            return browser.post("/api/v1/unlock", json=body).status_code

    assert [tries("203.0.113.1", "guess") for _ in range(11)] == [401] * 10 + [429]
    assert tries("203.0.113.2", "right") == 204
    for address in ("203.0.113.2", "203.0.113.3"):
        assert [tries(address, "guess") for _ in range(10)] == [401] * 10
    assert tries("203.0.113.4", "right") == 429
    assert counted(server)["passwords"] == 2


def test_a_connection_too_many_is_told_why(server: Running) -> None:
    server.services.addresses.connect = lambda peer: False  # type: ignore[method-assign]
    with pytest.raises(httpx.HTTPStatusError) as refused, server.client() as client:
        client.get("/healthz").raise_for_status()
    assert refused.value.response.status_code == 429
    assert "Too many connections from your address" in refused.value.response.text
