"""SQL of share links."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from ..visitors import Share
from .alert_tables import shares

__all__ = [
    "count_views",
    "find_share",
    "find_share_by_hash",
    "list_shares",
    "revoke_share",
    "save_share",
]


def save_share(conn: Connection, share: Share) -> Share:
    """Adds a link."""
    conn.execute(
        insert(shares).values(
            id=share.id,
            run_id=share.run_id,
            token_hash=share.token_hash,
            created_at=share.created_at,
            expires_at=share.expires_at,
            label=share.label,
            view=share.view,
            views=share.views,
            password_hash=share.password_hash,
            others=json.dumps(share.others),
        )
    )
    return share


def find_share(conn: Connection, share_id: str) -> Share | None:
    """The link of this id."""
    row = conn.execute(select(shares).where(shares.c.id == share_id)).one_or_none()
    return None if row is None else _share(row)


def find_share_by_hash(conn: Connection, token_hash: str) -> Share | None:
    """The link whose token has this SHA-256, revoked and expired ones too."""
    row = conn.execute(select(shares).where(shares.c.token_hash == token_hash)).one_or_none()
    return None if row is None else _share(row)


def list_shares(conn: Connection, run_id: str | None = None) -> list[Share]:
    """Links that show a run, or all, newest first; those that don't work any more too."""
    query = select(shares).order_by(shares.c.created_at.desc(), shares.c.id)
    if run_id is not None:
        among = shares.c.others.contains(json.dumps(run_id), autoescape=True)
        query = query.where((shares.c.run_id == run_id) | among)
    return [_share(row) for row in conn.execute(query).all()]


def _share(row: Row[Any]) -> Share:
    return Share(**{**row._mapping, "others": tuple(json.loads(row._mapping["others"]))})


def revoke_share(conn: Connection, share_id: str, *, now: float) -> Share | None:
    """Ends a link; the first time counts. None if there is no such link."""
    open_one = (shares.c.id == share_id) & shares.c.revoked_at.is_(None)
    conn.execute(update(shares).where(open_one).values(revoked_at=now))
    return find_share(conn, share_id)


def count_views(conn: Connection, share_id: str, *, views: int, last_seen: float) -> None:
    """Adds views to a link."""
    conn.execute(
        update(shares)
        .where(shares.c.id == share_id)
        .values(views=shares.c.views + views, last_seen=last_seen)
    )
