"""The printed link, in a terminal, in a log file, and through proxies."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gradwatch.config import Config
from gradwatch.console import Console, proxied, tunnel_hint
from gradwatch.links import RunLinks, fetch_code
from gradwatch.local import LocalServer
from gradwatch.protocol import Welcome, auth

URL = "http://127.0.0.1:8642"
KEY = auth.key_of("token")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def answering(body: bytes) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_the_code_is_asked_for_with_a_signature_and_not_with_the_token() -> None:
    with answering(b'{"code": "abc-1"}') as (url, seen):
        assert fetch_code(url, KEY) == "abc-1"
    ((path, header),) = seen
    scheme, _, rest = header.partition(" ")
    name, stamp, nonce, signature = rest.split(".")
    assert (path, scheme, name) == ("/api/v1/codes", "Gradwatch", auth.key_id(KEY))
    expected = hmac.new(bytes.fromhex(KEY), f"code|{stamp}|{nonce}".encode(), hashlib.sha256).hexdigest()
    assert signature == expected and "token" not in header and KEY not in header


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"code": 5}', b'{"code": "\xc3\xa9"}', b"<html>", b'{"other": 1}']
)
def test_an_answer_that_is_no_code_gives_none(body: bytes) -> None:
    with answering(body) as (url, _):
        assert fetch_code(url, KEY) == ""


def local_links(url: str, environ: dict[str, str] | None = None, public: str = "") -> RunLinks:
    links = RunLinks("r1", Config(public_url=public), environ or {}, Path("/spool"))
    links.use(LocalServer(url=url, port=int(url.rpartition(":")[2]), pid=1, token="token"))
    return links


def test_only_a_person_gets_a_code() -> None:
    with answering(json.dumps({"code": "c0de"}).encode()) as (url, _):
        terminal, log, err = Terminal(), io.StringIO(), io.StringIO()
        local_links(url).prologue(Console(terminal, err))
        local_links(url).prologue(Console(log, err))
    assert terminal.getvalue() == f"gradwatch: {url}/runs/r1#code=c0de\n"
    assert log.getvalue() == ""
    assert err.getvalue() == f"gradwatch: {url}/runs/r1\ngradwatch: open it with: gradwatch open r1\n"


def test_proxies_and_public_address() -> None:
    hub = {"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"}
    assert proxied(URL, hub) == "/user/me/proxy/8642"
    assert (
        proxied(URL, {**hub, "JUPYTERHUB_HOST": "https://hub.example"})
        == "https://hub.example/user/me/proxy/8642"
    )
    assert (
        proxied(URL, {"VSCODE_PROXY_URI": "https://code.example/proxy/{{port}}/"})
        == "https://code.example/proxy/8642"
    )
    assert proxied("https://watch.example", hub) == "https://watch.example"
    assert local_links(URL, hub, public="https://public.example").url == "https://public.example/runs/r1"
    assert local_links(URL, hub).url == "/user/me/proxy/8642/runs/r1"


def test_under_ssh_the_forwarding_command_is_given() -> None:
    assert "ssh -N -L 8642:127.0.0.1:8642" in tunnel_hint(URL, {"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"})
    assert tunnel_hint(URL, {}) == ""
    assert tunnel_hint("https://watch.example", {"SSH_CONNECTION": "x"}) == ""


def test_a_server_found_later_is_said_once() -> None:
    links = RunLinks("r1", Config(), {}, Path("/spool"))
    out = io.StringIO()
    links.prologue(Console(io.StringIO(), out))
    assert "gradwatch sync /spool" in out.getvalue() and links.late_link() == ""
    links.use(LocalServer(url=URL, port=8642, pid=1, token="t"))
    assert f"{URL}/runs/r1" in links.late_link()
    assert links.late_link() == ""


def test_the_last_word_says_where_the_run_is_and_whether_a_server_was_tried(tmp_path: Path) -> None:
    def last_word(spool: Path = tmp_path, **given: str) -> str:
        config = Config.build({}, **given)  # type: ignore[arg-type]
        links = RunLinks("r", config, {}, spool)
        assert links.epilogue(True) == ""
        return links.epilogue(False)

    command = f"in {tmp_path}. Deliver it with: gradwatch sync {tmp_path}"
    assert last_word(tmp_path / "never made") == ""
    assert last_word() == f"no server has this run yet; it is {command}"
    assert last_word(server=URL, mode="offline") == f"no server has this run yet; it is {command}"
    assert last_word(server=URL) == f"not all of it has reached a server; what is left is {command}"


def test_the_server_says_its_public_address() -> None:
    links = RunLinks("r1", Config(server=URL), {}, Path())
    links.opened(Welcome(next_seq=0, run_url="http://127.0.0.1:8642/runs/r1"))
    assert links.url == f"{URL}/runs/r1"
    links.opened(Welcome(next_seq=0, run_url="https://watch.example/team/runs/r1"))
    assert links.url == "https://watch.example/team/runs/r1"
