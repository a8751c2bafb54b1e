"""Runs as plain data for JSON: all of them for owners, without what identifies a machine for share links."""

from __future__ import annotations

from typing import Any, Final

from gradwatch.protocol.codec import to_plain

from .models import Run

__all__ = ["PRIVATE", "run_plain", "status_plain"]

PRIVATE: Final = ("context", "error", "reason", "notes", "who")
"""Fields of a run that a share link never shows: host, arguments, paths, exception texts, words among colleagues, who they are."""

_STATUS: Final = (
    "state",
    "first_step",
    "last_step",
    "last_time",
    "last_seen",
    "steps",
    "steps_per_s",
    "finished_at",
    "lost_frames",
    "tensor_count",
    "cost",
    "summary",
)


def run_plain(run: Run, *, full: bool) -> dict[str, Any]:
    """The run. Unless ``full``, the fields of :data:`PRIVATE` are there but empty."""
    plain: dict[str, Any] = to_plain(run)
    if not full:
        plain.update(context={}, error=None, reason="", notes="", who="")
    return plain


def status_plain(run: Run) -> dict[str, Any]:
    """What changes all the time while it runs, for ``status`` events."""
    return {name: to_plain(getattr(run, name)) for name in _STATUS}
