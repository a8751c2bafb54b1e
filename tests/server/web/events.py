"""What a page hears."""

from __future__ import annotations

from typing import Any

from tests.server.live_server import Page


def hear(page: Page, kind: str) -> dict[str, Any]:
    """The data of the next event of a kind; other messages are dropped."""
    while True:
        event = page.hear("event")
        if event["kind"] == kind:
            data: dict[str, Any] = event["data"]
            return data
