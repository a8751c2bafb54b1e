"""How fast a trainer's numbers become durable over one socket, beside what the parts of the way could do alone.

    python -m tests.benchmarks.ingest [--tensors 800] [--seconds 5] [--steps-per-batch 20]

Prints values per second, and ratios, of: a socket that only receives; the store alone, fed with decoded records; and the
whole server: received, decoded, mapped, group norms derived, judged by the default rules, committed, acknowledged. All
in one run, because other work on the machine moves all of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.server.live_server import hello, schema
from websockets.sync.client import connect

from gradwatch.protocol import Batch, Block, ClientSession, Record, encode
from gradwatch.protocol.session import Acked
from gradwatch_server.config import Config
from gradwatch_server.serving import _Server, bind
from gradwatch_server.store import Store

IN_FLIGHT = 16 * 1024 * 1024
"""Bytes sent and not yet acknowledged."""


def batches(tensors: int, steps: int, count: int) -> list[Batch]:
    """Norms that are hard to compress: a trend times log-normal noise."""
    random = np.random.default_rng(0)
    made = []
    for i in range(count):
        axis = np.arange(i * steps, (i + 1) * steps, dtype=np.float64)
        values = np.exp(random.normal(0, 0.1, (steps, tensors))).astype(np.float32)
        block = Block(statistic=0, steps=axis, times=axis + 1.7e9, values=values)
        made.append(Batch(seq=i + 1, schema=0, blocks=(block,)))
    return made


def names(tensors: int) -> list[str]:
    """Four tensors to a block of a deep model."""
    return [
        f"blocks.{i // 4}.{('attn.weight', 'attn.bias', 'mlp.weight', 'mlp.bias')[i % 4]}"
        for i in range(tensors)
    ]


def serve(pipe: Connection, directory: Path, health: bool = True) -> None:
    """The whole server, in a process of its own."""
    from gradwatch_server.app import create_app

    config = Config.build({}, directory=directory, port=0, health=health, max_size=0)
    listener = bind(config)
    port = int(listener.getsockname()[1])
    server = _Server(create_app(config), port, lambda services: pipe.send((port, services.keyring.key)))
    server.run(sockets=[listener])


def receive_only(pipe: Connection, directory: Path) -> None:
    """The same web server, which throws away what it gets."""

    async def sink(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.receive_bytes()
        except WebSocketDisconnect:
            pass

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            pipe.send((port, ""))

    listener = bind(Config.build({}, directory=directory, port=0))
    port = int(listener.getsockname()[1])
    app = Starlette(routes=[WebSocketRoute("/ws/ingest", sink)])
    config = uvicorn.Config(app, ws="websockets-sansio", ws_per_message_deflate=False, log_level="warning")
    Server(config).run(sockets=[listener])


def with_server(
    target: Callable[..., None], directory: Path, work: Callable[[int, str], float], *given: object
) -> float:
    """``work(port, key)`` beside a server process."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, directory, *given))
    process.start()
    try:
        port, key = ours.recv()
        return work(port, key)
    finally:
        process.terminate()
        process.join(10)


def send_raw(port: int, messages: list[bytes], seconds: float) -> float:
    """Messages per second into a socket that only receives."""
    with connect(f"ws://127.0.0.1:{port}/ws/ingest", compression=None, max_size=None, proxy=None) as socket:
        start = time.perf_counter()
        sent = 0
        while time.perf_counter() - start < seconds and sent < len(messages):
            socket.send(messages[sent])
            sent += 1
        socket.ping().wait()
        return sent / (time.perf_counter() - start)


def send_acknowledged(port: int, key: str, messages: list[bytes], first: Record, seconds: float) -> float:
    """Messages per second, from the first sent to the last acknowledged."""
    with connect(f"ws://127.0.0.1:{port}/ws/ingest", compression=None, max_size=None, proxy=None) as socket:
        session = ClientSession(hello(f"bench-{time.time_ns()}"), nonce="0123456789abcdef", key=key)
        socket.send(session.start())
        for _ in range(2):
            for text in session.receive(socket.recv())[0]:
                socket.send(text)
        socket.send(encode(first))
        acked = sent = 0
        window = max(1, IN_FLIGHT // len(messages[0]))
        start = time.perf_counter()
        while acked < sent + 1 or sent == 0:
            more = time.perf_counter() - start < seconds and sent < len(messages)
            while more and sent + 1 - acked < window and sent < len(messages):
                socket.send(messages[sent])
                sent += 1
                if sent % 64 == 0:
                    break
            try:
                data = socket.recv(timeout=0 if more and sent + 1 - acked < window else 30)
            except TimeoutError:
                continue
            for event in session.receive(data)[1]:
                if isinstance(event, Acked):
                    acked = event.next_seq
        return sent / (time.perf_counter() - start)


def store_alone(directory: Path, records: list[Batch], first: Record, seconds: float) -> float:
    """Batches per second into the store, without a server."""
    store = Store.open(f"sqlite:///{directory / 'bare.db'}")
    try:
        opened = store.open_stream(hello("bare"), now=time.time()).result()
        store.append(opened.stream, [first]).done.result()
        start = time.perf_counter()
        waiting = []
        sent = 0
        while time.perf_counter() - start < seconds and sent < len(records):
            waiting.append(store.append(opened.stream, records[sent : sent + 64]).done)
            sent += 64
            if len(waiting) > 16:
                waiting.pop(0).result()
        for done in waiting:
            done.result()
        return min(sent, len(records)) / (time.perf_counter() - start)
    finally:
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tensors", type=int, default=800)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--steps-per-batch", type=int, default=20)
    given = parser.parse_args()
    values = given.tensors * given.steps_per_batch
    count = max(64, min(int(given.seconds * 40e6 / values), 400_000_000 // values))
    records = batches(given.tensors, given.steps_per_batch, count)
    messages = [bytes(encode(record)) for record in records]  # type: ignore[arg-type]
    first = schema(names(given.tensors))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        raw = with_server(receive_only, path, lambda port, _: send_raw(port, messages, given.seconds))
        bare = store_alone(path, records, first, given.seconds)

        def send(port: int, key: str) -> float:
            return send_acknowledged(port, key, messages, first, given.seconds)

        whole = with_server(serve, path, send, False)
        judged = with_server(serve, path, send, True)
    print(
        f"{given.tensors} tensors, {given.steps_per_batch} steps a batch, {len(messages[0]):,} bytes a message"
    )
    for label, rate in (
        ("socket, receive only", raw),
        ("store alone, durable", bare),
        ("server, acknowledged", whole),
        ("the same, health on", judged),
    ):
        print(f"{label:22} {rate:10,.0f} messages/s {rate * values / 1e6:8.2f} M values/s")
    print(f"server / store alone   {whole / bare:10.2f}")
    print(f"server / receive only  {whole / raw:10.2f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
