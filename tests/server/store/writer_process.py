"""A server's store in a process of its own, to be killed: takes batches as fast as it can and says what is durable.

``python -m tests.server.store.writer_process ADDRESS``. What each batch holds follows from its sequence number alone.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt
from tests.server.store.helpers import NAMES, WAIT, batch, declared, opened

from gradwatch_server.store import Store

IN_FLIGHT = 6


def frames(seq: int) -> int:
    """How many steps batch ``seq`` (1 is the first) has."""
    return 1 + seq * 7919 % 120


def first_step(seq: int) -> int:
    """The first step of batch ``seq``."""
    return sum(frames(before) for before in range(1, seq))


def values(seq: int) -> npt.NDArray[np.float32]:
    """The values of batch ``seq``, some of them not finite."""
    random = np.random.default_rng(seq)
    found = random.random((frames(seq), len(NAMES)), dtype=np.float32)
    found[random.random(found.shape) < 0.01] = np.nan
    return found


def main(address: str) -> None:
    """Goes on for ever, from where the store stands."""
    store = Store.open(address)
    stream = opened(store)
    seq, step = stream.next_seq, first_step(stream.next_seq)
    waiting: deque[Future[int]] = deque()
    lock = threading.Lock()

    def durable(done: Future[int]) -> None:
        with lock:
            print(done.result(), flush=True)

    while True:
        record = declared() if seq == 0 else batch(seq, step, values(seq))
        waiting.append(store.append(stream.stream, [record]).done)
        waiting[-1].add_done_callback(durable)
        step += frames(seq) if seq else 0
        seq += 1
        if len(waiting) > IN_FLIGHT:
            waiting.popleft().result(WAIT)


if __name__ == "__main__":
    main(sys.argv[1])
