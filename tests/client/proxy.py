"""A TCP proxy that misbehaves on demand."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType


class Proxy:
    """Passes bytes between clients and ``127.0.0.1:target``.

    Attributes:
        chunk: pass at most this many bytes at once.
        delay: seconds to wait before each chunk.
        swallow: while set, nothing passes and nothing is read: the other side sees a connection that is open and dead.
    """

    def __init__(self, target: int) -> None:
        self.chunk = 65536
        self.delay = 0.0
        self.swallow = False
        self.connections = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._over = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Breaks every connection, in the middle of whatever passes."""
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _run(self, work: object, *args: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=args, name="test-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                continue
            self.connections += 1
            self._open |= {client, server}
            self._run(self._pass, client, server)
            self._run(self._pass, server, client)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while not self._over:
                if self.swallow:
                    time.sleep(0.01)
                    continue
                data = source.recv(self.chunk)
                if not data:
                    break
                if self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for sock in (source, sink):
                self._open.discard(sock)
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()
