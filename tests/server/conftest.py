"""A running server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .live_server import Running, serving


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A server on a free port with an empty database."""
    with serving(tmp_path) as running:
        yield running
