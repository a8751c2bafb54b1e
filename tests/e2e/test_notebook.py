"""What `run.show()` puts below a cell works in a page like a notebook's: it signs in once, and shows the run from then on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import gradwatch
from gradwatch import local, notebook

from .harness import Server


@contextmanager
def a_notebook_with(*outputs: str) -> Iterator[str]:
    """Pages /0, /1 ... of another origin, with an output of a cell each."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = self.path.strip("/")
            self.send_response(200 if number.isdigit() else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            if number.isdigit():
                self.wfile.write(f"<!doctype html><title>notebook</title>{outputs[int(number)]}".encode())

        def log_message(self, format: str, *args: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def seen_in(page: Page, url: str) -> None:
    """The run's page is there, in the frame."""
    page.goto(url)
    expect(page.frame_locator("iframe").locator("body[data-ready][data-last-step='19']")).to_be_attached()


def test_the_page_inside_a_notebook(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    server = Server(tmp_path, "--frame-ancestors", local.NOTEBOOKS)
    server.start()
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    try:
        with gradwatch.watch(project="notebook", name="inline", autostart=False) as run:
            for step in range(20):
                run.record(step, {"a": 1.0 + step, "b": 2.0}, loss=1 / (step + 1))
        address = run.url.replace("127.0.0.1", "localhost")
        signed = f"{address}#code={server.code()}"
        outputs = [notebook.Page(url, 800, "inline")._repr_html_() for url in (signed, address)]
        with a_notebook_with(*outputs) as base:
            page = context.new_page()
            seen_in(page, f"{base}/0")
            seen_in(page, f"{base}/1")
            expect(page.locator("p a")).to_have_attribute("href", address)
    finally:
        context.close()
        server.stop()
