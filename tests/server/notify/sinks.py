"""Real places to send to, on this computer: an HTTP server and an SMTP server that keep what they get."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.ports import free_port

PATIENCE = 60.0


@dataclass
class HttpSink:
    """``status`` is what it answers with, ``location`` where it redirects to."""

    url: str = ""
    status: int = 200
    location: str = ""
    hold: threading.Event | None = None
    """Set: an answer waits for it."""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, count: int) -> list[dict[str, Any]]:
        """The JSON bodies of the first ``count`` requests."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got) >= count, PATIENCE)
            return [json.loads(body) for _, body in self.got]


@contextlib.contextmanager
def http_sink() -> Iterator[HttpSink]:
    """An HTTP server on a free port."""
    sink = HttpSink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with sink.arrived:
                sink.got.append((dict(self.headers.items()), body))
                sink.arrived.notify_all()
            if sink.hold is not None:
                sink.hold.wait(PATIENCE)
            self.send_response(sink.status)
            if sink.location:
                self.send_header("Location", sink.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class SmtpSink:
    """``mails`` are the messages that arrived."""

    port: int = 0
    mails: list[Message] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keeps a message; called by the SMTP server."""
        with self.arrived:
            self.mails.append(message_from_bytes(envelope.content))
            self.arrived.notify_all()
        return "250 OK"

    def wait(self, count: int) -> list[Message]:
        """The first ``count`` messages."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.mails) >= count, PATIENCE)
            return list(self.mails)


@contextlib.contextmanager
def smtp_sink() -> Iterator[SmtpSink]:
    """An SMTP server on a free port."""
    from aiosmtpd.controller import Controller

    port = free_port()
    sink = SmtpSink(port)
    controller = Controller(sink, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()
