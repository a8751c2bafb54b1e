"""SQLAlchemy engines for the two kinds of database, and what their errors mean in plain words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from ..errors import StoreError
from .tail_cache import OPTION, TailCache

__all__ = ["Engines", "explain", "parse_url"]

PAGE_BYTES: Final = 16384
"""SQLite page size of a new file. Blocks are tens of kilobytes to a megabyte: large pages make short overflow chains."""

WAL_BYTES: Final = 64 << 20
"""What the write-ahead log is cut back to after a burst: as much as is written between two checkpoints."""

_READERS: Final = 8
_LOCK: Final = 0x67726164
"""Key of the PostgreSQL advisory lock: "grad"."""


@dataclass(frozen=True, slots=True)
class Engines:
    """A writing engine with one connection, and a reading one with a few."""

    url: URL
    writer: Engine
    reader: Engine

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        """Which kind of database it is."""
        return "sqlite" if self.url.get_backend_name() == "sqlite" else "postgresql"

    def dispose(self) -> None:
        """Closes all connections."""
        self.reader.dispose()
        self.writer.dispose()

    @staticmethod
    def to(url: URL) -> Engines:
        """Engines for ``url``; nothing is connected yet."""
        if url.get_backend_name() == "sqlite":
            return Engines(url, _sqlite(url, writes=True), _sqlite(url, writes=False))
        try:
            writer = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        except ImportError:
            raise StoreError('PostgreSQL needs its driver: pip install "gradwatch[postgres]"') from None
        event.listen(writer, "connect", _hold)
        reader = create_engine(
            url,
            pool_size=_READERS,
            max_overflow=_READERS,
            pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
            execution_options={OPTION: TailCache()},
        )
        return Engines(url, writer, reader)


def parse_url(text: str) -> URL:
    """The database of ``--db``: a path (SQLite), ``sqlite:///path`` or ``postgresql://...``.

    Raises:
        StoreError: another kind of database.
    """
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser().resolve()))
    try:
        url = make_url(text)
    except ArgumentError:
        raise StoreError(f"--db {text.split('@')[-1]!r} is neither a file nor a database address") from None
    if url.get_backend_name() == "sqlite" and url.database:
        return URL.create("sqlite", database=str(Path(url.database).expanduser().resolve()))
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"databases of the kind {url.drivername!r} are not supported: give a file for SQLite, or postgresql://..."
    )


def _sqlite(url: URL, *, writes: bool) -> Engine:
    size = 1 if writes else _READERS
    engine = create_engine(
        url,
        pool_size=size,
        max_overflow=0 if writes else _READERS,
        connect_args={"check_same_thread": False, "timeout": 20.0},
        execution_options={} if writes else {OPTION: TailCache()},
    )
    pragmas = [
        f"page_size = {PAGE_BYTES}",
        "auto_vacuum = INCREMENTAL",
        "synchronous = FULL",
        "cache_size = -65536" if writes else "cache_size = -8192",
        "mmap_size = 1073741824",
        "temp_store = MEMORY",
    ]
    pragmas += (
        ["journal_mode = WAL", "wal_autocheckpoint = 4000", f"journal_size_limit = {WAL_BYTES}"]
        if writes
        else ["query_only = ON"]
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed from statements
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _hold(connection: Any, _: Any) -> None:
    """One server at a time: the connection that writes holds a lock of the database as long as it lives."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,))
        (held,) = cursor.fetchone()
    connection.commit()
    if not held:
        raise StoreError(
            "another gradwatch server writes to this PostgreSQL database. Stop that one, or give this one another database "
            "with --db."
        )


# What a driver says, in lower case, and what that means to whoever runs the server.
_MEANINGS: Final[tuple[tuple[tuple[str, ...], Callable[[str], str]], ...]] = (
    (
        ("not a database", "malformed", "file is encrypted"),
        lambda db: (
            f"{db} is not a gradwatch database, or is damaged. Give another file with --db, or restore a backup."
        ),
    ),
    (
        ("disk is full", "no space left", "disk full", "could not extend file"),
        lambda db: (
            f"the disk of {db} is full: nothing more can be stored until there is room. Nothing stored is lost."
        ),
    ),
    (
        ("readonly", "read-only", "permission denied"),
        lambda db: f"{db} can't be written. Give this user the right to write the file and its folder.",
    ),
    (
        ("unable to open",),
        lambda db: f"{db} can't be opened. Check that its folder exists and that this user may write there.",
    ),
    (
        ("database is locked", "database table is locked"),
        lambda db: (
            f"{db} is locked by another program. Close what else has it open (an SQL shell, a copy, a backup)."
        ),
    ),
    (
        (
            "connection refused",
            "connection failed",
            "could not connect",
            "server closed",
            "terminat",
            "no such file",
        ),
        lambda db: f"the database server of {db} can't be reached. It is tried again with the next write.",
    ),
    (
        ("authentication failed", "no password", "role"),
        lambda db: f"the database server refused the user or password of {db}.",
    ),
)


def explain(error: BaseException, url: URL) -> StoreError:
    """The sentence for the person who runs the server."""
    place = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    raw = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    for words, sentence in _MEANINGS:
        if any(word in raw.lower() for word in words):
            return StoreError(sentence(str(place)))
    return StoreError(
        f"the database {place} refused: {raw.strip().splitlines()[0][:300] if raw.strip() else error!r}"
    )
