"""What every fault test has: a home of its own, and the switch between the short and the long form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

LONG = os.environ.get("GRADWATCH_LONG", "") not in ("", "0")
"""``make faults`` sets it: the same tests, more often and for longer."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``GRADWATCH_DIR``; nothing of the user's own settings reaches a test."""
    for name in [name for name in os.environ if name.startswith("GRADWATCH_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("GRADWATCH_DIR", str(folder))
    monkeypatch.setenv("GRADWATCH_AUTOSTART", "0")
    return folder
