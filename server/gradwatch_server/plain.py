"""Runs as plain data for JSON: all of them for owners, without what is private for share links."""

from __future__ import annotations

from typing import Any, Final

from gradwatch.protocol.codec import to_plain

from .models import Run
from .privacy import sift

__all__ = ["PRIVATE", "run_plain", "status_plain"]

PRIVATE: Final = ("context", "private", "error", "reason", "notes", "who")
"""Fields of a run that a share link never shows as they are: host, arguments, paths, private settings, exception texts, words
among colleagues, who they are."""

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


def run_plain(run: Run, *, full: bool, listed: bool = False) -> dict[str, Any]:
    """The run. Unless ``full``, the fields of :data:`PRIVATE` are there but empty; of ``context`` the configuration is there
    without what is private. With it, ``private`` tells the dotted names of those settings, None where all are; it is left out
    in lists, where it would cost half a millisecond for each run."""
    plain: dict[str, Any] = to_plain(run)
    if full and listed:
        return plain
    sifted = sift(run.context)
    if full:
        return {**plain, "private": sifted.private}
    shown = {"config": sifted.config} if sifted.config else {}
    plain.update(context=shown, private=None, error=None, reason="", notes="", who="")
    return plain


def status_plain(run: Run) -> dict[str, Any]:
    """What changes all the time while it runs, for ``status`` events."""
    return {name: to_plain(getattr(run, name)) for name in _STATUS}
