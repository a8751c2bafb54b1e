"""A database of every released version is brought up to date, and then is what the tables say."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from gradwatch_server.store import Store, schema
from gradwatch_server.store.engines import parse_url
from gradwatch_server.store.schema import HEAD, metadata, open_database

RELEASED = Path(__file__).parent / "released"
VERSIONS = sorted({path.name.split(".")[0] for path in RELEASED.glob("*.sql")})
"""Tables as they were released, written down apart from the migrations."""


def differences(conn: Connection) -> list[object]:
    context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def stands_at(conn: Connection) -> str:
    return str(conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def release(address: str, version: str) -> None:
    """Makes the empty database at ``address`` one of ``version``."""
    url = parse_url(address)
    script = (RELEASED / f"{version}.{url.get_backend_name()}.sql").read_text()
    engine = create_engine(url)
    with engine.begin() as conn:
        for statement in script.split(";\n"):
            if statement.strip():
                conn.exec_driver_sql(statement)
    engine.dispose()


def made(path: Path) -> Iterator[str]:
    """The statements that made everything in a SQLite file, without their spaces."""
    db = sqlite3.connect(path)
    for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"):
        yield re.sub(r"\s+", "", sql)
    db.close()


def test_a_new_database_is_what_the_tables_say(address: str) -> None:
    database = open_database(address)
    try:
        assert database.read(differences) == []
        assert database.read(stands_at) == HEAD
    finally:
        database.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_of_each_release_is_brought_up_to_date(address: str, version: str) -> None:
    release(address, version)
    store = Store.open(address)
    try:
        assert store.database.read(differences) == []
        assert store.database.read(stands_at) == HEAD
        assert store.runs() == []
        assert store.database.write(store.database.next_revision).result(30) == 1
    finally:
        store.close()


def test_the_first_migration_makes_what_was_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    monkeypatch.setattr(command, "upgrade", lambda config, _, run=command.upgrade: run(config, "0001"))
    release(str(tmp_path / "released.db"), "0001")
    open_database(str(tmp_path / "migrated.db")).close()
    assert list(made(tmp_path / "migrated.db")) == list(made(tmp_path / "released.db"))


def test_there_is_one_line_of_migrations_and_its_end_is_known() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
