"""The only engine: one thread that writes, groups and commits; connections of a pool that read.

Writes that wait while a commit runs share the next one. Each has a savepoint of its own, so one that fails takes nothing
with it, and each is told only when the whole group is durable.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..errors import StoreError
from ..histogram import Histogram
from .engines import Engines, explain
from .tables import counters

__all__ = ["Database", "Reader", "next_revision", "savepoint"]

T = TypeVar("T")

MAX_GROUP: Final = 512
"""Most writes in one commit, so that one that waits long can't be starved by a flood of others."""


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    fn: Callable[[Connection], T]
    future: Future[T]
    result: T | None = None
    error: BaseException | None = None


class Reader:
    """A database that is only read, be it that a server writes to it at the same time. Threads may share it."""

    def __init__(self, engines: Engines) -> None:
        self.dialect = engines.dialect
        self.url = engines.url
        self._engines = engines

    def read(self, fn: Callable[[Connection], T]) -> T:
        """Runs ``fn`` in the calling thread on a snapshot of what is committed.

        Raises:
            StoreError: the database can't be read.
        """
        try:
            with self._engines.reader.connect() as conn, conn.begin():
                return fn(conn)
        except (DBAPIError, sqlite3.Error) as error:
            raise explain(error, self.url) from error

    def close(self) -> None:
        """Closes all connections."""
        self._engines.dispose()


class Database(Reader):
    """A database that is written to, opened by :func:`.schema.open_database`.

    Args:
        engines: where to read and write.
        on_close: called after the last commit, e.g. to let go of a lock.
    """

    def __init__(self, engines: Engines, *, on_close: Callable[[], None] = lambda: None) -> None:
        super().__init__(engines)
        self._on_close = on_close
        self._checkpoints: sqlite3.Connection | None = None
        self._jobs: deque[_Job[Any]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.commits = Histogram()
        """How long groups of writes took, from the first statement to the durable commit."""
        self._thread = threading.Thread(target=self._run, name="gradwatch-writer", daemon=True)
        self._thread.start()

    def write(self, fn: Callable[[Connection], T]) -> Future[T]:
        """Runs ``fn`` in the writer thread. The future resolves after the durable commit that holds its work.

        It gets the exception that ``fn`` raised, or :class:`StoreError` when the database refused or the commit failed.
        """
        job = _Job(fn, Future[T]())
        with self._wake:
            if self._closing:
                raise StoreError("the database is closed: the server is shutting down")
            self._jobs.append(job)
            self._wake.notify()
        return job.future

    def checkpoint(self) -> None:
        """SQLite: moves what is in the log into the file, as far as nobody is hindered, so that commits have less of it to do.
        For one thread that isn't the writer's.

        Raises:
            StoreError: the disk is full, or another program holds the file.
        """
        if self.dialect != "sqlite":
            return
        try:
            if self._checkpoints is None:
                self._checkpoints = sqlite3.connect(
                    str(self.url.database), isolation_level=None, check_same_thread=False
                )
            self._checkpoints.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.url) from error

    def next_revision(self, conn: Connection) -> int:
        """See :func:`next_revision`."""
        return next_revision(conn)

    @property
    def waiting(self) -> int:
        """How many writes wait for a commit."""
        return len(self._jobs)

    def close(self) -> None:
        """Commits what waits, then closes. Calling it again does nothing."""
        with self._wake:
            first, self._closing = not self._closing, True
            self._wake.notify()
        self._thread.join()
        if first:
            if self._checkpoints is not None:
                self._checkpoints.close()
            super().close()
            self._on_close()

    def _run(self) -> None:
        while jobs := self._take():
            self._commit(jobs)

    def _take(self) -> list[_Job[Any]]:
        with self._wake:
            while not self._jobs and not self._closing:
                self._wake.wait()
            return [self._jobs.popleft() for _ in range(min(MAX_GROUP, len(self._jobs)))]

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        started = time.perf_counter()
        try:
            with self._engines.writer.connect() as conn, conn.begin():
                for job in jobs:
                    _attempt(conn, job)
        except (SQLAlchemyError, sqlite3.Error, StoreError) as error:
            reason = error if isinstance(error, StoreError) else explain(error, self.url)
            for job in jobs:
                job.error = job.error or reason
        self.commits.add(time.perf_counter() - started)
        for job in jobs:
            if job.error is not None:
                job.future.set_exception(self._told(job.error))
            else:
                job.future.set_result(job.result)

    def _told(self, error: BaseException) -> BaseException:
        return explain(error, self.url) if isinstance(error, SQLAlchemyError) else error


def _attempt(conn: Connection, job: _Job[Any]) -> None:
    """The boundary of the writer thread: whatever a write raises is its caller's, and undoes only its own work.

    Raises:
        SQLAlchemyError: the whole transaction is gone: the connection, or undone by the database itself on a full disk.
    """
    try:
        with savepoint(conn):
            job.result = job.fn(conn)
    except Exception as error:
        job.error = error
        if _is_lost(conn):
            raise


@contextmanager
def savepoint(conn: Connection) -> Iterator[None]:
    """Undoes what is done in it when that fails. If the database has undone everything already, the error is still that
    which began it."""
    conn.exec_driver_sql("SAVEPOINT gradwatch")  # SQLAlchemy's own costs four times as much
    try:
        yield
    except BaseException:
        with suppress(SQLAlchemyError):
            conn.exec_driver_sql("ROLLBACK TO SAVEPOINT gradwatch")
            conn.exec_driver_sql("RELEASE SAVEPOINT gradwatch")
        raise
    conn.exec_driver_sql("RELEASE SAVEPOINT gradwatch")


def _is_lost(conn: Connection) -> bool:
    """Whether the transaction that ``conn`` was in is no more."""
    if conn.invalidated:
        return True
    driver: object = conn.connection.dbapi_connection
    return isinstance(driver, sqlite3.Connection) and not driver.in_transaction


def next_revision(conn: Connection) -> int:
    """The next number of an event, rising over the whole database. Only inside a write."""
    name = counters.c.name == "revision"
    conn.execute(update(counters).where(name).values(value=counters.c.value + 1))
    return int(conn.execute(select(counters.c.value).where(name)).scalar_one())
