"""What a chat shows of a link that somebody pastes: a title and how the run does, and nothing that is private."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..alerts.sentences import clean
from ..models import Run

__all__ = ["LOCKED", "Unfurl", "is_previewer", "unfurl"]

LONGEST: Final = 200
"""Characters of title and text: chats cut off more."""

_PREVIEWERS: Final = (
    "bot",
    "crawl",
    "embed",
    "externalhit",
    "mastodon",
    "preview",
    "skypeuri",
    "spider",
    "unfurl",
    "whatsapp",
)
"""What the programs that fetch a link to show it have in their User-Agent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfurl:
    """The tags of a page, plain text."""

    title: str
    text: str


LOCKED: Final = Unfurl(title="A shared run", text="This link opens with a password.")


def unfurl(runs: Sequence[Run], health: Mapping[str, Mapping[str, Any]]) -> Unfurl:
    """The tags of a link to these runs. ``health``: what is known of how they do, by run id."""
    texts = [str(health.get(run.id, {}).get("sentence", "")) or _state(run) for run in runs]
    if len(runs) == 1:
        title, text = f"{runs[0].project} / {runs[0].name}", texts[0]
    else:
        title = f"Comparison of {len(runs)} runs: " + ", ".join(run.name for run in runs)
        text = " ".join(f"{run.name}: {text}" for run, text in zip(runs, texts, strict=True))
    return Unfurl(title=clean(title)[:LONGEST], text=clean(text)[:LONGEST])


def _state(run: Run) -> str:
    return f"{run.state.capitalize()}, {max(run.last_step + 1, 0):,} steps."


def is_previewer(agent: str) -> bool:
    """Whether a User-Agent is a program that shows links in chats: its visit is no view."""
    lower = agent.lower()
    return any(word in lower for word in _PREVIEWERS)
