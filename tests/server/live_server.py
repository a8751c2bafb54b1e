"""A real server in a thread, and the two kinds of real clients: a trainer and a page. Shared by the tests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gradwatch.protocol import (
    Batch,
    Block,
    Bye,
    ClientSession,
    Hello,
    Record,
    Schema,
    Statistic,
    Tensor,
    encode,
)
from gradwatch.protocol.session import Acked, Opened
from gradwatch_server.app import create_app
from gradwatch_server.config import Config
from gradwatch_server.connections import Patience
from gradwatch_server.load import CALM, LATE_S
from gradwatch_server.services import Services
from gradwatch_server.serving import _Server, bind
from gradwatch_server.store.schema import open_database
from gradwatch_server.web.access import cookie_name
from gradwatch_server.web.view_codec import View, decode_view

PATIENCE = 60.0
TRY_AGAIN = 1013
"""How a socket is closed whose client should come back later."""
"""Seconds after which a test gives up waiting; nothing is asserted about how long things take."""


class Running:
    """A server that listens. ``now`` may be set to move its clock."""

    def __init__(self, services: Services, port: int) -> None:
        self.services = services
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.socket_url = f"ws://127.0.0.1:{port}"
        self.key = services.keyring.key

    def owner(self, **headers: str) -> httpx.Client:
        """A script with the server's token."""
        return self.client(Authorization=f"Bearer {self.services.token}", **headers)

    def client(self, **headers: str) -> httpx.Client:
        """A client that sends these headers. Reading the certificates that it would verify by takes longer than most requests."""
        encrypted = self.url.startswith("https:")
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, verify=encrypted)

    def browser(self) -> tuple[dict[str, str], str]:
        """The headers of a signed-in browser, and its page token."""
        cookie = self.services.sessions.start(self.services.clock())
        session = self.services.sessions.check(cookie, self.services.clock())
        assert session is not None
        headers = {"Cookie": f"{cookie_name(self.services.instance)}={cookie}"}
        return headers, self.services.sessions.page_token(session)

    def on_loop(self, fn: Callable[[], Any]) -> None:
        """Runs ``fn`` on the server's loop, and waits for it."""
        done = threading.Event()

        def work() -> None:
            fn()
            done.set()

        self.services.pipeline.loop.call_soon_threadsafe(work)
        assert done.wait(PATIENCE)


@functools.cache
def _new_database() -> bytes:
    """The file that a server makes when it starts for the first time, made once for all that tests start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gradwatch.db"
        open_database(str(path)).close()
        return path.read_bytes()


class _Prompt(_Server):
    """Ends soon after it is told to: uvicorn looks ten times a second."""

    async def main_loop(self) -> None:
        while not self.should_exit:
            await self.on_tick(0)
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def serving(directory: Path, **given: Any) -> Iterator[Running]:
    """A server on a free port, stopped at the end."""
    environ: Mapping[str, str] = {}
    clock = given.pop("clock", None)
    patience = given.pop("patience", Patience())
    config = Config.build(environ, directory=directory, **{"port": 0, **given})
    new = directory / "gradwatch.db"
    if "database" not in given and not new.exists():
        directory.mkdir(parents=True, exist_ok=True)
        new.write_bytes(_new_database())
    app = create_app(config, **({"clock": clock} if clock else {}))
    listener = bind(config)
    port = int(listener.getsockname()[1])
    ready = threading.Event()
    server = _Prompt(app, port, lambda services: ready.set(), patience)
    failed: list[SystemExit] = []

    def run() -> None:
        try:
            server.run(sockets=[listener])
        except SystemExit as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="gradwatch-test-server")
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        if failed:
            raise failed[0]
        yield Running(app.state.services, port)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive()


CONTEXT: dict[str, Any] = {
    "host": "secret-host",
    "argv": ["train.py"],
    "who": "secret-ann",
    "config": {
        "lr": 0.125,
        "data": {"seed": 7, "shards": "secret-shards"},
        "cache": "/secret-place",
        "api_key": "secret-key",
    },
    "private": ["data.shards"],
}
"""What a trainer captured. Of its configuration, links show the learning rate and the seed."""

SHOWN: dict[str, Any] = {"config": {"lr": 0.125, "data": {"seed": 7}}}


def hello(run_id: str = "run-1", **changes: Any) -> Hello:
    """A trainer's introduction."""
    fields: dict[str, Any] = {
        "run_id": run_id,
        "run_key": "key of " + run_id,
        "project": "tests",
        "name": "a run",
        "stream": "stream of " + run_id,
        "segment": "segment of " + run_id,
        "started_at": 1_700_000_000.0,
        "context": CONTEXT,
    }
    return Hello(**{**fields, **changes})


def schema(names: Sequence[str] = ("a.weight", "a.bias", "b.weight"), *, seq: int = 0, id: int = 0) -> Schema:
    """Tensors with a norm each, and a loss."""
    return Schema(
        seq=seq,
        id=id,
        tensors=tuple(
            Tensor(name=name, shape=(2, 2), numel=4, depth=i, module=name.rpartition(".")[0])
            for i, name in enumerate(names)
        ),
        statistics=(
            Statistic(name="grad_norm", scope="tensor", width=len(names)),
            Statistic(name="loss", scope="run", dtype="f8", cadence=0, logged=True),
        ),
    )


def batch(
    seq: int,
    steps: Sequence[int],
    norms: npt.NDArray[Any],
    losses: Sequence[float] | None = None,
    schema: int = 0,
) -> Batch:
    """Norms ``[n, tensors]`` at ``steps``, and losses if given. Times are 1,700,000,000 + step."""
    axis = np.array(steps, dtype=np.float64)
    times = axis + 1_700_000_000.0
    blocks = [Block(statistic=0, steps=axis, times=times, values=np.asarray(norms, dtype=np.float32))]
    if losses is not None:
        blocks.append(Block(statistic=1, steps=axis, times=times, values=np.array(losses)[:, None]))
    return Batch(seq=seq, schema=schema, blocks=tuple(blocks))


class Trainer:
    """A client on the ingest socket, as the SDK's sender speaks: sync, one message at a time."""

    def __init__(self, server: Running, hello: Hello, key: str | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(f"{server.socket_url}/ws/ingest", compression=None, max_size=None, proxy=None)
        )
        self.session = ClientSession(hello, nonce="0123456789abcdef", key=server.key if key is None else key)
        self.acked = 0
        with contextlib.ExitStack() as undo:
            undo.push(self._stack)
            self.socket.send(self.session.start())
            self.welcome = self._until(lambda event: isinstance(event, Opened)).welcome
            undo.pop_all()

    def send(self, *records: Record) -> None:
        """Sends records; doesn't wait."""
        for record in records:
            self.socket.send(encode(record))

    def wait_acked(self, next_seq: int) -> None:
        """Waits until everything below ``next_seq`` is durable."""
        while self.acked < next_seq:
            self.acked = self._until(lambda event: isinstance(event, Acked)).next_seq

    def finish(self, seq: int) -> None:
        """Says goodbye, and waits until that is durable."""
        self.send(Bye(seq=seq, state="finished", time=1_700_001_000.0))
        self.wait_acked(seq + 1)

    def _until(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            data = self.socket.recv(timeout=PATIENCE)
            out, events = self.session.receive(data)
            for text in out:
                self.socket.send(text)
            for event in events:
                if wanted(event):
                    return event

    def __enter__(self) -> Trainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class Page:
    """A client on the live socket, as the browser speaks."""

    def __init__(
        self,
        server: Running,
        *,
        share: str = "",
        since: int | None = None,
        origin: str = "",
        bearer: str = "",
    ) -> None:
        headers, token = server.browser() if not share and not bearer else ({}, "")
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if origin:
            headers["Origin"] = origin
        greeting: dict[str, Any] = {"share": share} if share else {"page": token}
        if since is not None:
            greeting["since"] = since
        until = time.monotonic() + PATIENCE
        for attempt in itertools.count():
            try:
                return self._open(server, headers, greeting)
            except ConnectionClosed as closed:
                # As a browser does, where this machine is so busy that the server's loop comes late. The loop may be in time
                # again when the refusal is read: the second attempt tells.
                code = None if closed.rcvd is None else closed.rcvd.code
                late = attempt == 0 or server.services.load.late >= CALM * LATE_S
                if code != TRY_AGAIN or not late or time.monotonic() > until:
                    raise
                time.sleep(0.25)

    def _open(self, server: Running, headers: Mapping[str, str], greeting: Mapping[str, Any]) -> None:
        self._stack = contextlib.ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(
                f"{server.socket_url}/ws/live",
                compression=None,
                max_size=None,
                proxy=None,
                additional_headers=headers,
            )
        )
        with contextlib.ExitStack() as undo:
            undo.push(self._stack)
            self.say(type="hello", **greeting)
            self.welcome = self.hear("welcome")
            undo.pop_all()

    def say(self, **message: Any) -> None:
        """Sends a message."""
        self.socket.send(json.dumps(message))

    def next(self) -> View | dict[str, Any]:
        """What comes next."""
        data = self.socket.recv(timeout=PATIENCE)
        if isinstance(data, bytes):
            return decode_view(data)
        message: dict[str, Any] = json.loads(data)
        return message

    def hear(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        """The next message of that type (with these fields); others are dropped."""
        while True:
            message = self.next()
            if isinstance(message, View) or message["type"] != kind:
                continue
            if all(message.get(name) == value for name, value in fields.items()):
                return message

    def view(self, subscription: int) -> View:
        """The next snapshot or delta of a subscription; others are dropped."""
        while True:
            message = self.next()
            if isinstance(message, View) and message.subscription == subscription:
                return message

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
