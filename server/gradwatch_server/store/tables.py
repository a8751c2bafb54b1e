"""The tables that runs and their numbers stand in. One schema for SQLite and PostgreSQL.

Texts named as JSON hold what :func:`gradwatch.protocol.codec.to_plain` makes. Big rows (blocks, tail) are found by small
covering indexes and never scanned. Runs have a short number ``no`` here, so that the millions of rows below them stay
narrow; the world outside knows only ``runs.id``.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "blocks",
    "counters",
    "lost",
    "marks",
    "metadata",
    "run_sizes",
    "runs",
    "schemas",
    "segments",
    "series",
    "streams",
    "tail",
    "tensor_groups",
    "tensors",
    "thinned",
    "trash",
]

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_SERIAL: Final = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key that SQLite takes for its own row number."""

runs: Final = Table(
    "runs",
    metadata,
    Column("no", _SERIAL, primary_key=True),
    Column("id", String(512), nullable=False, unique=True),
    Column("project", String(512), nullable=False),
    Column("name", String(512), nullable=False),
    Column("key_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("last_time", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("steps", BigInteger, nullable=False),
    Column("steps_per_s", Double, nullable=False),
    Column("finished_at", Double),
    Column("reason", Text, nullable=False),
    Column("error", Text),
    Column("context", Text, nullable=False),
    Column("optimizers", Text, nullable=False),
    Column("cost", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("lost_frames", BigInteger, nullable=False),
    Column("tags", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("who", String(64)),
    Column("tensor_count", Integer, nullable=False),
    Index(None, "project", "created_at"),
    Index(None, "state", "last_seen"),
)

segments: Final = Table(
    "segments",
    metadata,
    Column("run_no", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("id", String(512), nullable=False),
    Column("start_step", BigInteger, nullable=False),
    Column("started_at", Double, nullable=False),
    UniqueConstraint("run_no", "id"),
)

streams: Final = Table(
    "streams",
    metadata,
    Column("no", _SERIAL, primary_key=True),
    Column("run_no", BigInteger, nullable=False),
    Column("stream", String(512), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("segment", Integer, nullable=False),
    Column("next_seq", BigInteger, nullable=False),
    Column("fenced", Boolean, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("opened_at", Double, nullable=False),
    UniqueConstraint("run_no", "stream"),
)

schemas: Final = Table(
    "schemas",
    metadata,
    Column("stream_no", BigInteger, primary_key=True, autoincrement=False),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("run_no", BigInteger, nullable=False, index=True),
    Column("statistics", Text, nullable=False),
    Column("rows", LargeBinary, nullable=False),
)
"""What a stream declared: ``statistics`` JSON, ``rows`` int32, the run-wide tensor of each column."""

tensors: Final = Table(
    "tensors",
    metadata,
    Column("run_no", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("name", String(512), nullable=False),
    Column("shape", Text, nullable=False),
    Column("numel", BigInteger, nullable=False),
    Column("dtype", String(64), nullable=False),
    Column("depth", Integer, nullable=False),
    Column("module", Text, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("trainable", Boolean, nullable=False),
    Column("optimizer", Integer, nullable=False),
    Column("param_group", Integer, nullable=False),
    Column("fan_in", BigInteger),
    Column("init_std", Double),
    Column("sparse", Boolean, nullable=False),
)

tensor_groups: Final = Table(
    "tensor_groups",
    metadata,
    Column("run_no", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("parent", Integer, nullable=False),
    Column("members", LargeBinary, nullable=False),
)
"""Nodes of the module tree; ``members`` int32, run-wide tensor indexes."""

series: Final = Table(
    "series",
    metadata,
    Column("run_no", BigInteger, primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("rank", Integer, nullable=False),
    Column("scope", String(16), nullable=False),
    Column("name", String(512), nullable=False),
    Column("width", Integer, nullable=False),
    Column("dtype", String(2), nullable=False),
    Column("cadence", Integer, nullable=False),
    Column("logged", Boolean, nullable=False),
    UniqueConstraint("run_no", "rank", "scope", "name"),
)
"""The statistics of a run, over all its schemas, one row per rank. Columns are run-wide rows, so a schema that comes later
needs no new series."""

tail: Final = Table(
    "tail",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("run_no", BigInteger, nullable=False),
    Column("segment", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "run_no", "segment", "rank", "id", "last_step", "size"),
    sqlite_autoincrement=True,
)
"""What has arrived and isn't in blocks yet, as it came (:mod:`.tail`). The compactor empties it."""

blocks: Final = Table(
    "blocks",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("run_no", BigInteger, nullable=False),
    Column("series", Integer, nullable=False),
    Column("segment", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "run_no", "series", "segment", "level", "first_step", "last_step", unique=True),
)
"""Level 0: exact values of an aligned stretch (:mod:`.chunks`). Level L >= 2: buckets of 4**L steps (:mod:`.pyramid`).
``first_step`` is the aligned start of the stretch, ``last_step`` the newest step that is in it."""

marks: Final = Table(
    "marks",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("run_no", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time", Double, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("data", Text, nullable=False),
    Index(None, "run_no", "revision"),
)

lost: Final = Table(
    "lost",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("run_no", BigInteger, nullable=False, index=True),
    Column("segment", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("from_step", BigInteger, nullable=False),
    Column("to_step", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Frames that will never arrive, and why."""

counters: Final = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""``revision``: rises with every event of the database."""

trash: Final = Table("trash", metadata, Column("run_no", BigInteger, primary_key=True, autoincrement=False))
"""Deleted runs whose big rows are still to be removed, bit by bit."""

run_sizes: Final = Table(
    "run_sizes",
    metadata,
    Column("run_no", BigInteger, primary_key=True, autoincrement=False),
    Column("exact", BigInteger, nullable=False),
    Column("buckets", BigInteger, nullable=False),
)
"""Bytes of a run's chunks, and of its pyramid: kept up with every change, since looking at every block takes long."""

thinned: Final = Table(
    "thinned",
    metadata,
    Column("run_no", BigInteger, primary_key=True, autoincrement=False),
    Column("series", Integer, primary_key=True, autoincrement=False),
    Column("segment", Integer, primary_key=True, autoincrement=False),
    Column("before", BigInteger, nullable=False),
)
"""Exact values of steps below ``before`` are gone, but for what was worth keeping (:mod:`.retention`)."""
