"""Who may come in, and what they may do: share links, tokens, and whoever asks. Frozen and pure, like :mod:`.models`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

TokenRole: TypeAlias = Literal["owner", "member", "trainer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A read-only link to a run or a comparison. The token itself is shown once; ``token_hash`` is what is stored."""

    id: str
    run_id: str
    token_hash: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None = None
    label: str = ""
    view: str = ""
    """Query string of the shared view, "" for the plain live page."""
    views: int = 0
    last_seen: float | None = None
    password_hash: str = ""
    """"" for a link that opens without a password."""
    others: tuple[str, ...] = ()
    """Further runs of a comparison; none for a link to one run. The link goes with ``run_id``, its first one."""

    @property
    def runs(self) -> tuple[str, ...]:
        """All that it shows."""
        return (self.run_id, *self.others)


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A named way in. ``key`` is the SHA-256 of the secret, which is shown once; ``id`` is the key's public name."""

    id: str
    name: str
    role: TokenRole
    key: str
    project: str = "*"
    """A trainer's: glob over the projects it may send to."""
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None

    def works(self, now: float) -> bool:
        """Whether it still opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewer:
    """Who asks: an owner of this server, a member (who edits, but manages no tokens), or the holder of a share link."""

    role: Literal["owner", "member", "viewer"]
    runs: frozenset[str] | None = None
    """The runs it may see, None for all."""
    share_id: str = ""

    @property
    def may_edit(self) -> bool:
        """Whether this viewer may change anything."""
        return self.role != "viewer"

    @property
    def may_manage(self) -> bool:
        """Whether this viewer may say who else comes in."""
        return self.role == "owner"

    def may_see(self, run_id: str) -> bool:
        """Whether this viewer may see the run."""
        return self.runs is None or run_id in self.runs
