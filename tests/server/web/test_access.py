"""Every route of the OpenAPI schema, asked by everybody: made from the schema, so that a new route can't be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.server.live_server import Running, Trainer, batch, hello, schema, serving

from gradwatch.protocol import Batch, Block, Schema, Statistic, histogram
from gradwatch_server.app import create_app
from gradwatch_server.config import Config
from gradwatch_server.web.access import SHARED

OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("POST", "/api/v1/codes"),
    ("POST", "/api/v1/session"),
    ("POST", "/api/v1/unlock"),
}
"""What nobody needs to be known for. The POSTs check a proof of their own."""

SECRETS = ("secret-", "train.py", "Traceback", "token_hash")
"""Among them the values of all that ``CONTEXT`` of a trainer keeps from links."""


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path template and description of each operation."""
    app = create_app(Config.build({}, directory=Path("unused")))
    found = []
    for path, methods in app.openapi()["paths"].items():
        found += [(method.upper(), path, operation) for method, operation in methods.items()]
    return found


OPERATIONS = operations()
IDS = [f"{method} {path}" for method, path, _ in OPERATIONS]


def global_norm() -> tuple[Schema, Batch]:
    """Records 2 and 3: a norm over all tensors, and their histograms."""
    steps = np.array([0.0, 1.0])
    block = Block(statistic=0, steps=steps, times=steps + 1.7e9, values=np.ones((2, 1)))
    statistic = Statistic(name="global_grad_norm", scope="run", dtype="f8")
    width = 3 * histogram.CELLS
    cells = Statistic(name="grad_histogram", scope="histogram", width=width)
    counted = Block(statistic=1, steps=steps, times=block.times, values=np.ones((2, width)))
    schema = Schema(seq=2, id=1, statistics=(statistic, cells))
    return schema, Batch(seq=3, schema=1, blocks=(block, counted))


class World:
    """A server with two runs, a rule, an alert-free history and a link to the first run."""

    def __init__(self, server: Running) -> None:
        self.server = server
        for run in ("run-1", "run-2"):
            with Trainer(server, hello(run)) as trainer:
                trainer.send(schema(), batch(1, [0, 1], np.ones((2, 3)), [1.0, 2.0]), *global_norm())
                trainer.wait_acked(4)
        with server.owner() as api:
            self.share = api.post("/api/v1/shares", json={"run": "run-1"}).json()
        self.cookie, self.page = server.browser()

    def ask(
        self, method: str, path: str, operation: dict[str, Any], run: str, **headers: str
    ) -> httpx.Response:
        """The operation on ``run``, with what its parameters need."""
        filled = re.sub(r"\{run_id\}", run, path)
        filled = re.sub(r"\{\w+\}", "no-such-thing", filled)
        query = {"statistic": "grad_norm"} if "statistic" in str(operation.get("parameters")) else {}
        names = [parameter["name"] for parameter in operation.get("parameters", [])]
        query.update({name: value for name, value in (("run", run), ("tensor", "0")) if name in names})
        with self.server.client(**headers) as client:
            return client.request(method, filled, params=query)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server lives on after a test, with threads that came during it; ``serving`` sees to their end."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving(tmp_path_factory.mktemp("access")) as server:
        yield World(server)


def test_there_are_routes_to_test() -> None:
    assert len(OPERATIONS) > 20
    assert {path for _, path, _ in OPERATIONS} >= SHARED


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_nobody_gets_nothing(world: World, method: str, path: str, operation: dict[str, Any]) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": world.cookie["Cookie"][:-4] + "0000"}):
        reply = world.ask(method, path, operation, "run-1", **headers)
        if (method, path) in OPEN:
            assert reply.status_code in (200, 401, 422), reply.text
        else:
            assert reply.status_code == 401, reply.text
            assert reply.json()["error"]["code"] == "sign_in"
        assert not any(secret in reply.text for secret in SECRETS)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_a_link_reads_its_run_and_nothing_else(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    headers = {"X-Gradwatch-Share": world.share["token"]}
    own = world.ask(method, path, operation, "run-1", **headers)
    other = world.ask(method, path, operation, "run-2", **headers)
    for reply in (own, other):
        assert not any(secret in reply.text for secret in SECRETS)
        assert "run-2" not in reply.text
    if (method, path) in OPEN:
        return
    if method == "GET" and path in SHARED:
        assert own.status_code == 200, own.text
        assert other.status_code == (200 if path == "/api/v1/runs" else 404), other.text
    else:
        assert own.status_code == 403, own.text
        assert other.status_code == 403, other.text


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_a_link_in_an_owners_browser_is_still_a_link(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    headers = {**world.cookie, "X-Gradwatch-Share": world.share["token"], "X-Gradwatch-Page": world.page}
    reply = world.ask(method, path, operation, "run-2", **headers)
    assert (method, path) in OPEN or path == "/api/v1/runs" or reply.status_code in (403, 404), reply.text


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_a_cookie_alone_changes_nothing(
    world: World, method: str, path: str, operation: dict[str, Any]
) -> None:
    if method == "GET" or (method, path) in OPEN:
        return
    bare = world.ask(method, path, operation, "run-2", **world.cookie)
    assert bare.status_code == 403, bare.text
    forged = world.ask(
        method, path, operation, "run-2", **world.cookie, **{"X-Gradwatch-Page": world.page[::-1]}
    )
    assert forged.status_code == 403, forged.text
    foreign = world.ask(
        method,
        path,
        operation,
        "run-2",
        **world.cookie,
        **{"X-Gradwatch-Page": world.page, "Origin": "https://evil.example"},
    )
    assert foreign.status_code == 403, foreign.text


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=IDS)
def test_an_owner_gets_through(world: World, method: str, path: str, operation: dict[str, Any]) -> None:
    if path.endswith("/session/end"):
        return
    run = "no-such-run" if method == "DELETE" else "run-2"
    for headers in (
        {**world.cookie, "X-Gradwatch-Page": world.page, "Origin": world.server.url},
        {"Authorization": f"Bearer {world.server.services.token}"},
    ):
        reply = world.ask(method, path, operation, run, **headers)
        assert (method, path) in OPEN or reply.status_code in (200, 204, 404, 422), reply.text
        assert reply.status_code != 404 or method != "GET" or "{run_id}" not in path


PAGES = ["/", "/runs/run-1", "/compare", "/alerts", "/rules", "/settings", "/help"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_for_owners(world: World, path: str) -> None:
    with world.server.client() as nobody:
        reply = nobody.get(path)
        assert reply.status_code == 401
        assert "run-1" not in reply.text or path == "/runs/run-1"
        assert "gradwatch open" in reply.text
        assert not any(secret in reply.text for secret in SECRETS)
    with world.server.client(**world.cookie) as owner:
        assert owner.get(path).status_code == 200
    with world.server.client(**{"X-Gradwatch-Share": world.share["token"]}) as link:
        assert link.get(path).status_code == 403


def test_a_shared_page_holds_its_run_without_what_is_private(world: World) -> None:
    with world.server.client() as anybody:
        reply = anybody.get(f"/s/{world.share['token']}")
        assert reply.status_code == 200
        assert '"role": "viewer"' in reply.text
        assert "secret-" not in reply.text
        assert world.server.services.token not in reply.text
        assert reply.headers["referrer-policy"] == "no-referrer"
        ended = anybody.get("/s/0123456789abcdef0123456789abcdef")
        assert ended.status_code == 410
        assert "expired or was withdrawn" in ended.text


def test_what_every_answer_says_to_browsers(world: World) -> None:
    with world.server.client(**world.cookie) as owner:
        page = owner.get("/").headers
        api = owner.get("/api/v1/runs").headers
    policy = page["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'self'" in policy
    assert page["cache-control"] == api["cache-control"] == "no-store"
    assert page["x-content-type-options"] == api["x-content-type-options"] == "nosniff"


def test_an_open_server_still_wants_the_page_token(tmp_path: Path) -> None:
    with serving(tmp_path, insecure_open=True) as server, server.client() as anybody:
        assert anybody.get("/api/v1/runs").status_code == 200
        assert anybody.post("/api/v1/shares", json={"run": "run-1"}).status_code == 403
        page = re.search(r'"page": "(\w+)"', anybody.get("/").text)
        assert page is not None
        reply = anybody.post("/api/v1/shares", json={"run": "x"}, headers={"X-Gradwatch-Page": page[1]})
        assert reply.status_code == 404
