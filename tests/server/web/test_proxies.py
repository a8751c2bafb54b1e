"""Behind a real nginx with TLS and a path prefix, and through a forwarded port as SSH makes it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.client.proxy import Proxy as Forward
from tests.nginx import PREFIX, Proxy, nginx
from tests.ports import free_port
from tests.server.live_server import PATIENCE, Page, Running, Trainer, batch, hello, schema, serving
from websockets.exceptions import InvalidStatus

from gradwatch.links import fetch_code


class Through(Running):
    """A server as it is reached by another address."""

    def __init__(self, server: Running, url: str) -> None:
        super().__init__(server.services, server.port)
        self.url = url
        self.socket_url = "ws" + url.removeprefix("http")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Proxy]]:
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    with (
        serving(folder / "server", public_url=f"https://localhost:{port}{PREFIX}") as server,
        nginx(folder / "nginx", server.port, port) as proxy,
    ):
        with Trainer(server, hello("run-1")) as trainer:
            trainer.send(schema())
            trainer.finish(1)
        yield server, proxy


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server lives on after a test, with threads that came during it; ``serving`` sees to their end."""


@pytest.fixture
def through(proxied: tuple[Running, Proxy], monkeypatch: pytest.MonkeyPatch) -> Through:
    server, proxy = proxied
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificate))
    return Through(server, proxy.origin + PREFIX)


def signed_in(url: str, code: str, origin: str) -> tuple[httpx.Client, str]:
    """A browser that spent a code, and its page token."""
    browser = httpx.Client(timeout=PATIENCE, headers={"Origin": origin})
    reply = browser.post(f"{url}/api/v1/session", json={"code": code})
    assert reply.status_code == 204, reply.text
    assert ("secure" in reply.headers["set-cookie"].lower()) is url.startswith("https")
    found = re.search(r'"page": "(\w+)"', browser.get(f"{url}/").text)
    assert found is not None
    return browser, found[1]


def changes(browser: httpx.Client, url: str, page: str) -> int:
    headers = {"X-Gradwatch-Page": page}
    return browser.patch(f"{url}/api/v1/runs/run-1", json={"notes": "x"}, headers=headers).status_code


def test_nginx_pages_lead_below_the_prefix(through: Through) -> None:
    with through.client() as anybody:
        page = anybody.get("/")
        assert page.status_code == 401
        assert "\n" in page.text
        addresses = re.findall(r'(?:src|href)="(/[^"]*)"', page.text)
        assert addresses and all(address.startswith(PREFIX + "/") for address in addresses)
        origin = through.url.removesuffix(PREFIX)
        assert all(
            anybody.get(origin + address).status_code == 200 for address in addresses if "static" in address
        )


def test_nginx_lets_browsers_sign_in_and_change_things(through: Through) -> None:
    origin = through.url.removesuffix(PREFIX)
    browser, page = signed_in(through.url, fetch_code(through.url, through.key), origin)
    with contextlib.closing(browser):
        assert changes(browser, through.url, page) == 200
        assert changes(browser, through.url, page[::-1]) == 403
        browser.headers["Origin"] = "https://evil.example"
        assert changes(browser, through.url, page) == 403


def test_nginx_passes_both_sockets(through: Through) -> None:
    origin = through.url.removesuffix(PREFIX)
    with Page(through, origin=origin) as page, Trainer(through, hello("live")) as trainer:
        trainer.send(schema(), batch(1, [0, 1], np.ones((2, 3)), [1.0, 2.0]))
        trainer.wait_acked(2)
        page.say(type="subscribe", id=1, run="live", statistic="loss", scope="run")
        while (view := page.view(1)).series.last.size == 0:
            pass
        assert view.series.last.tolist() == [[1.0, 2.0]]
        trainer.send(batch(2, [2], np.ones((1, 3)), [3.0]))
        assert page.view(1).series.last[0, -1] == 3.0
    with pytest.raises(InvalidStatus):
        Page(through, origin="https://evil.example")


def test_nginx_links_lead_to_the_public_address(through: Through) -> None:
    with through.owner() as api:
        made = api.post("/api/v1/shares", json={"run": "run-1"}).json()
    assert made["url"].startswith(through.url + "/s/")
    with httpx.Client(timeout=PATIENCE) as anybody:
        opened = anybody.get(made["url"])
    assert opened.status_code == 200
    assert f'"base": "{PREFIX}"' in opened.text and '"role": "viewer"' in opened.text


@pytest.fixture
def forwarded(tmp_path: Path) -> Iterator[Through]:
    with serving(tmp_path) as server, Forward(server.port) as forward:
        with Trainer(server, hello("run-1")) as trainer:
            trainer.send(schema())
            trainer.finish(1)
        yield Through(server, f"http://localhost:{forward.port}")


def test_a_forwarded_port_serves_pages_changes_and_sockets(forwarded: Through) -> None:
    browser, page = signed_in(forwarded.url, fetch_code(forwarded.url, forwarded.key), forwarded.url)
    with contextlib.closing(browser):
        assert changes(browser, forwarded.url, page) == 200
        browser.headers["Origin"] = forwarded.url.replace("localhost", "evil.example")
        assert changes(browser, forwarded.url, page) == 403
    with Page(forwarded, origin=forwarded.url) as live:
        live.say(type="subscribe", id=1, run="run-1", statistic="grad_norm")
        assert live.view(1).subscription == 1
    with Trainer(forwarded, hello("by-tunnel")) as trainer:
        trainer.send(schema())
        trainer.wait_acked(1)
