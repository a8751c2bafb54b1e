"""Databases to test on: a SQLite file, and an own PostgreSQL where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import PrivatePostgres, binaries

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)] if binaries() else ["sqlite"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """A running server of our own."""
    server = PrivatePostgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "gradwatch.db")
    server: PrivatePostgres = request.getfixturevalue("postgres")
    return server.create()
