"""The fake server behind a real WebSocket, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from gradwatch.errors import ConnectionRefused, ProtocolError
from gradwatch.protocol import Error, encode
from gradwatch.testing import FakeServer


@contextmanager
def serving(fake: FakeServer, port: int = 0) -> Iterator[int]:
    """Serves ``fake`` at ``ws://127.0.0.1:<port>/ws/ingest``; gives the port."""

    def handle(socket: ServerConnection) -> None:
        receive = fake.open()
        try:
            for data in socket:
                for reply in receive(data):
                    socket.send(reply)
        except ConnectionClosed:
            return
        except (ProtocolError, ConnectionRefused) as error:
            socket.send(encode(Error(code=error.code, message=str(error))))

    with serve(handle, "127.0.0.1", port, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, name="test-server", daemon=True)
        thread.start()
        try:
            yield int(server.socket.getsockname()[1])
        finally:
            server.shutdown()
            thread.join()
