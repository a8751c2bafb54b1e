"""Opens a database: creates it, brings an older one up to date, and says in a sentence why it won't.

The tables of every module listed here belong to :data:`~.tables.metadata`; migrations are Alembic's, run from inside.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Engine, MetaData, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StoreError
from . import alert_tables, audit_tables, health_tables, tables, token_tables
from .database import Database, Reader
from .engines import Engines, explain, parse_url
from .sqlite_file import MOUNTS, FileLock, network_file_system

__all__ = ["HEAD", "metadata", "open_database", "open_reader"]

HEAD: Final = "0005"
"""The newest migration in :mod:`.migrations`."""

TABLE_MODULES: Final = (tables, alert_tables, health_tables, token_tables, audit_tables)
"""The modules whose tables make up the database."""

metadata: Final[MetaData] = tables.metadata


def open_database(address: str, *, mounts: Path = MOUNTS) -> Database:
    """The database of ``--db``, created or brought up to date, held for this process alone.

    Raises:
        StoreError: it is held by another server, lies on a network file system, is read-only, of a newer version, full, or
            no database of ours; the sentence says what to do.
    """
    url = parse_url(address)
    if url.get_backend_name() == "sqlite":
        lock = _hold(Path(str(url.database)), mounts)
        release = lock.release
    else:

        def release() -> None:
            return None

    engines = Engines.to(url)
    try:
        _bring_up_to_date(engines, url)
        with (
            engines.writer.connect() as conn,
            conn.begin(),
        ):  # holds the lock, and shows whether it can be written
            conn.execute(text("SELECT 1"))
    except BaseException as error:
        engines.dispose()
        release()
        if isinstance(error, (SQLAlchemyError, sqlite3.Error)):
            raise explain(error, url) from error
        raise
    return Database(engines, on_close=release)


def open_reader(address: str) -> Reader:
    """The database of ``--db`` as it is, beside whatever server writes to it.

    Raises:
        StoreError: there is none, or it is of another version.
    """
    url = parse_url(address)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise StoreError(f"there is no database {url.database}")
    engines = Engines.to(url)
    try:
        found = _version(engines.reader, url)
    except (SQLAlchemyError, sqlite3.Error) as error:
        engines.dispose()
        raise explain(error, url) from error
    if found != HEAD:
        engines.dispose()
        raise StoreError(
            f"the database {url.render_as_string(hide_password=True)} has tables of version {found}, this gradwatch reads "
            f"{HEAD}. Start its server once with this version to bring it up to date, or upgrade gradwatch."
        )
    return Reader(engines)


def _hold(path: Path, mounts: Path) -> FileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the folder {path.parent} can't be made: {error.strerror}") from None
    kind = network_file_system(path.parent, mounts)
    if kind:
        raise StoreError(
            f"{path} lies on a network file system ({kind}), where SQLite loses data. Give a path on a local disk with "
            "--db, for example /tmp/gradwatch.db on a compute node, or a PostgreSQL address."
        )
    try:
        return FileLock(path.with_name(path.name + ".lock"))
    except OSError as error:
        raise StoreError(
            f"{path} can't be written: {error.strerror}. Give this user the right to write its folder, or another file "
            "with --db."
        ) from None


def _bring_up_to_date(engines: Engines, url: URL) -> None:
    found = _version(engines.reader, url)  # which can't change what may be somebody else's
    if found == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            f"the database {url.render_as_string(hide_password=True)} was written by a newer gradwatch (version {found} "
            f"of its tables, this one knows {HEAD}). Upgrade gradwatch, or give another database with --db."
        )
    with engines.writer.connect() as conn, conn.begin():
        config.attributes["connection"] = conn
        command.upgrade(config, "head")


def _version(engine: Engine, url: URL) -> str | None:
    """The migration that the database stands at, None if it is empty."""
    with engine.connect() as conn, conn.begin():
        names = set(inspect(conn).get_table_names())
        if "alembic_version" in names and "blocks" in names:
            return str(conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
        if names:
            raise StoreError(
                f"{url.render_as_string(hide_password=True)} is a database, but not one of gradwatch. Nothing was changed. "
                "Give another one with --db."
            )
        return None
