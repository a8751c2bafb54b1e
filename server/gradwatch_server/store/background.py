"""The thread that keeps the store in order while runs stream: compaction, limits, and the space of what is gone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from ..errors import StoreError
from . import block_queries, writes
from .compactor import Compactor, Lane
from .correcting import correct
from .database import Database
from .retention import Limits, Retention
from .series import CHUNK_STEPS
from .tail import Piece

__all__ = ["Background"]

RETRY_S: Final = 2.0
BEHIND_BYTES: Final = 256 << 20
"""How much may wait to be put in order before acknowledgements are held back. It is durable all the same."""

LOOK_BYTES: Final = 64 << 20
LOOK_S: Final = 600.0
"""After so many new bytes, or so long, it is looked again whether limits are passed."""

_TRASH_ROWS: Final = 64
"""Big rows removed in one transaction, so that deleting a long run holds nobody up."""

_SHRINK_PAGES: Final = 256
"""Pages given back in one transaction."""

log = logging.getLogger("gradwatch.store")


class Background:
    """Told of what was stored, it does the rest when it is due. :meth:`work` does one thing and may be called by hand.

    ``start`` begins with what an earlier process left over.
    """

    def __init__(self, database: Database, limits: Limits, clock: Callable[[], float]) -> None:
        self._database = database
        self._compactor = Compactor(database)
        self._retention = Retention(database, limits, clock)
        self._due_retention = True
        self._fresh = 0
        self._one = threading.Lock()
        self._wake = threading.Condition()
        self._due: dict[Lane, bool] = {}
        self._busy: tuple[Lane, ...] = ()
        self._begun: dict[Lane, int] = {}
        self._bytes: dict[Lane, int] = {}
        self._held: list[Callable[[], None]] = []
        self._trash = self._shrink = False
        self._gone: list[int] = []
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="gradwatch-compactor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after what it is doing; the rest is done after the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._let_go()

    def stored(self, lane: Lane, last_step: int, nbytes: int, *, ended: bool) -> None:
        """Rows of ``lane`` were committed. It is due when they go beyond a chunk, or when its stream has ended."""
        number = last_step // CHUNK_STEPS
        with self._wake:
            self._bytes[lane] = self._bytes.get(lane, 0) + nbytes
        begun = self._begun.setdefault(lane, number)
        if number > begun or ended:
            self._begun[lane] = max(number, begun)
            with self._wake:
                self._due[lane] = self._due.get(lane, False) or ended
                self._wake.notify()

    def when_keeping_up(self, fn: Callable[[], None]) -> None:
        """Calls ``fn`` at once, or later if compaction is far behind: whoever waits for it then sends no more meanwhile."""
        with self._wake:
            late = self._thread is not None and not self._stopping and self._behind() > BEHIND_BYTES
            if late:
                self._held.append(fn)
        if not late:
            fn()

    @property
    def waiting_bytes(self) -> int:
        """What has been stored and is not in order yet."""
        with self._wake:
            return sum(self._bytes.values())

    def _behind(self) -> int:
        return sum(self._bytes.get(lane, 0) for lane in {*self._due, *self._busy})

    def _let_go(self) -> None:
        with self._wake:
            if self._behind() > BEHIND_BYTES and not self._stopping:
                return
            held, self._held = self._held, []
        for fn in held:
            fn()

    def deleted(self, run_no: int) -> None:
        """A run was deleted."""
        with self._wake:
            self._trash = True
            self._gone.append(run_no)
            self._wake.notify()

    def catch_up(self) -> None:
        """Looks for everything that there is to do, and does it in the calling thread."""
        self._look()
        while self.work():
            pass

    def work(self) -> bool:
        """One pass of one lane, or a bit of the trash. False if there was nothing to do.

        Raises:
            StoreError: the database failed; it stays to be done.
        """
        with self._one:
            lane, everything = self._next()
            if lane is not None:
                self._compact(lane, everything)
                self._database.checkpoint()
                if self._fresh > LOOK_BYTES:
                    self._fresh, self._due_retention = 0, True
                if self._due_retention:  # else a store that is never idle would grow without end
                    self._thin()
                return True
            if self._due_retention:
                self._thin()
                return True
            if self._trash:
                self._trash = self._database.write(
                    lambda conn: writes.empty_trash(conn, _TRASH_ROWS)
                ).result()
                self._shrink = not self._trash
                return True
            if self._shrink:
                self._shrink = self._database.write(
                    lambda conn: writes.shrink_file(conn, _SHRINK_PAGES)
                ).result()
                return True
        return False

    def correct(self, lane: Lane, pieces: Sequence[Piece]) -> None:
        """Puts ``pieces`` in the place of what is stored at their steps. Blocks.

        Raises:
            StoreError: the database failed; nothing is changed then.
        """
        with self._one:
            more = True
            while more:
                more, nbytes = self._compactor.compact(lane, everything=True)
                with self._wake:
                    self._bytes[lane] = max(0, self._bytes.get(lane, 0) - nbytes)
            self._compactor.reopen(lane)
            self._database.write(lambda conn: correct(conn, lane.run_no, lane.segment, pieces)).result()

    def _thin(self) -> None:
        self._due_retention = self._retention.work()
        self._shrink = self._shrink or self._due_retention

    def _next(self) -> tuple[Lane | None, bool]:
        with self._wake:
            while self._gone:
                self._compactor.forget(self._gone.pop())
            lane = next(iter(self._due), None)
            if lane is None:
                return None, False
            self._busy = (lane,)
            return lane, self._due.pop(lane)

    def _compact(self, lane: Lane, everything: bool) -> None:
        more, nbytes = True, 0
        try:
            more, nbytes = self._compactor.compact(lane, everything=everything)
        finally:
            with self._wake:
                self._busy = ()
                self._bytes[lane] = max(0, self._bytes.get(lane, 0) - nbytes)
                self._fresh += nbytes
                if more:
                    self._due[lane] = self._due.get(lane, False) or everything
                elif everything and not self._due:  # nobody streams any more: the tail needs no room
                    self._shrink = True
            self._let_go()

    def _is_due(self) -> bool:
        return bool(self._due) or self._trash or self._shrink or self._due_retention

    def _look(self) -> None:
        lanes = self._database.read(block_queries.tail_lanes)
        with self._wake:
            self._trash = self._due_retention = True
            for lane in lanes:
                self._due.setdefault(Lane(*lane), False)

    def _run(self) -> None:
        looked = False
        while True:
            with self._wake:
                while looked and not (self._stopping or self._is_due()):
                    if not self._wake.wait(LOOK_S):
                        self._due_retention = True
                if self._stopping:
                    return
            try:
                if not looked:
                    self._look()
                    looked = True
                self.work()
            except StoreError as error:
                log.warning("putting the store in order failed and is tried again: %s", error)
                with self._wake:
                    self._wake.wait(RETRY_S)
