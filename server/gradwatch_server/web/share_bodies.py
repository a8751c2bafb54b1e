"""The bodies of share links."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, Field

from .bodies import _In

__all__ = ["MOST_COMPARED", "ShareIn", "ShareMade", "SharesReply"]

MOST_COMPARED: Final = 5
"""Runs that one comparison shows."""


class ShareIn(_In):
    """A link to be made."""

    run: str = Field(min_length=1, max_length=512)
    others: list[Annotated[str, Field(min_length=1, max_length=512)]] = Field(
        default=[], max_length=MOST_COMPARED - 1, description="Further runs, for a link to a comparison."
    )
    expires_in: float | None = Field(
        default=30 * 86_400.0, ge=60, le=10 * 366 * 86_400, description="Seconds; null until revoked."
    )
    label: str = Field(default="", max_length=200)
    password: str = Field(default="", max_length=256, description="Empty for a link that opens without one.")
    view: str = Field(
        default="", max_length=2_000, description="Query string of the page; empty for the live page."
    )


class ShareOut(BaseModel):
    """A share link, without what opens it."""

    id: str
    run_id: str
    others: list[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    label: str
    view: str
    views: int
    last_seen: float | None
    password: bool


class SharesReply(BaseModel):
    """Links, newest first; those that don't work any more too."""

    shares: list[ShareOut]


class WayOut(BaseModel):
    """One way to let others in: for whom it is good, and what to type."""

    label: str
    command: str


class ReachOut(BaseModel):
    """Who can open a link."""

    who: str
    public: bool
    advice: str
    ways: list[WayOut] = Field(description="What to do so that others can open it; none where they can.")


class ShareMade(BaseModel):
    """A new link. The token is in no other answer."""

    share: ShareOut
    url: str
    token: str
    reach: ReachOut
