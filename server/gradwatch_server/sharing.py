"""Share links: read-only, to a run or a comparison, for a time. The token is shown once; what is stored is its SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from gradwatch.protocol.codec import to_plain

from . import passwords
from .config import Config, is_loopback
from .errors import LinkEnded, NotFound, PasswordNeeded, TooMany
from .store import Database
from .store import share_queries as sql
from .visitors import Share
from .web.rates import Attempts

__all__ = ["MONTH", "Reach", "Sharing", "reach_of", "share_plain"]

MONTH: Final = 30 * 86_400.0
MOST_LINKS: Final = 1_000
"""Working links to one run."""

MOST_WRONG: Final = 30
WRONG_SECONDS: Final = 600.0
"""So many wrong passwords of a link in so many seconds, and no more are tried, whoever tries. One address has fewer."""

SEEN_SECONDS: Final = 60.0
"""How often "last seen" of a link is written, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """Who can open a link, in a sentence. ``address``: what the link begins with."""

    who: str
    address: str
    public: bool = False
    advice: str = ""
    ways: tuple[tuple[str, str], ...] = ()
    """What lets others in where they can't: for whom it is good, and the command."""


class Sharing:
    """The links of this server. Methods block, but for the async ones; any thread may call them.

    Whoever gave a link's password holds a proof of it, made with ``key``: ``TOKEN.PROOF`` then opens what ``TOKEN`` alone
    does for a link without password.
    """

    def __init__(self, database: Database, clock: Callable[[], float], key: str) -> None:
        self._database = database
        self._clock = clock
        self._key = key.encode()
        self._wrong = Attempts(MOST_WRONG, WRONG_SECONDS)
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}

    def share_of(self, token: str) -> Share | None:
        """The link that a token opens; None if it never did, has expired or was revoked.

        Raises:
            PasswordNeeded: it has a password, of which there is no proof (any more).
        """
        secret, _, proof = token.partition(".")
        share = self._find(secret)
        if share is None:
            return None
        given = proof.encode("utf-8", "surrogateescape")
        if share.password_hash and not hmac.compare_digest(given, self._proof(share).encode()):
            raise PasswordNeeded
        self._saw(share.id)
        return share

    def unlock(self, token: str, password: str) -> tuple[Share, str]:
        """The link, and the token with the proof that its password was given. Slow on purpose.

        Raises:
            LinkEnded, PasswordNeeded, TooMany: it doesn't open.
        """
        share = self._find(token)
        if share is None:
            raise LinkEnded
        now = self._clock()
        if not self._wrong.begin(share.id, now):
            raise TooMany("Too many wrong passwords. Wait ten minutes and try again.")
        if not share.password_hash or not passwords.matches(share.password_hash, password):
            raise PasswordNeeded("That isn't the password of this link.")
        self._wrong.right(share.id, now)
        return share, f"{token}.{self._proof(share)}"

    def _find(self, secret: str) -> Share | None:
        if not 16 <= len(secret) <= 128:
            return None
        digest = _digest(secret)
        share = self._database.read(lambda conn: sql.find_share_by_hash(conn, digest))
        if share is None or not hmac.compare_digest(share.token_hash, digest):
            return None
        return share if works(share, self._clock()) else None

    def _proof(self, share: Share) -> str:
        text = f"share|{share.id}|{share.password_hash}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:40]

    def opened(self, share: Share) -> None:
        """Counts a view: its page was opened. Doesn't wait."""
        now = self._clock()
        self._database.write(lambda conn: sql.count_views(conn, share.id, views=1, last_seen=now))

    def _saw(self, share_id: str) -> None:
        now = self._clock()
        with self._lock:
            if now - self._seen.get(share_id, 0.0) < SEEN_SECONDS:
                return
            self._seen[share_id] = now
        self._database.write(lambda conn: sql.count_views(conn, share_id, views=0, last_seen=now))

    def links(self, run_id: str | None = None) -> list[Share]:
        """Links to a run, or all, newest first; those that don't work any more too."""
        return self._database.read(lambda conn: sql.list_shares(conn, run_id))

    async def create(
        self,
        run_id: str,
        *,
        expires_in: float | None = MONTH,
        label: str = "",
        view: str = "",
        password: str = "",
        others: Sequence[str] = (),
    ) -> tuple[Share, str]:
        """A new link to a run, or with ``others`` to a comparison, and its token, which nobody can read again.

        Raises:
            TooMany, StoreError: it can't be made.
        """
        now = self._clock()
        links = await asyncio.to_thread(self.links, run_id)
        if sum(works(link, now) for link in links) >= MOST_LINKS:
            raise TooMany(
                f"There are {MOST_LINKS} links to this run already. Withdraw some that are no longer needed."
            )
        token = secrets.token_urlsafe(24)
        share = Share(
            id=secrets.token_hex(8),
            run_id=run_id,
            token_hash=_digest(token),
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
            label=label,
            view=view.lstrip("?"),
            password_hash=await asyncio.to_thread(passwords.hashed, password) if password else "",
            others=tuple(others),
        )
        await asyncio.wrap_future(self._database.write(lambda conn: sql.save_share(conn, share)))
        return share, token

    async def revoke(self, share_id: str) -> Share:
        """Ends a link.

        Raises:
            NotFound, StoreError: it can't be.
        """
        now = self._clock()
        write = self._database.write(lambda conn: sql.revoke_share(conn, share_id, now=now))
        share = await asyncio.wrap_future(write)
        if share is None:
            raise NotFound("There is no such link. Its run may have been deleted.")
        return share


def works(share: Share, now: float) -> bool:
    """Whether the link still opens anything."""
    return share.revoked_at is None and (share.expires_at is None or now < share.expires_at)


def share_plain(share: Share) -> dict[str, Any]:
    """The link for JSON, without anything that would open it."""
    plain: dict[str, Any] = to_plain(share)
    hidden = plain.pop("token_hash"), plain.pop("password_hash")
    return {**plain, "password": bool(hidden[1])}


def reach_of(config: Config, port: int, asked: str) -> Reach:
    """Who can open a link of this server. ``asked`` is the host (and port) that the owner's browser used."""
    public = urlsplit(config.public_url)
    if public.hostname and not is_loopback(public.hostname):
        who = f"Whoever has the link and can reach {public.hostname} can open it."
        return Reach(who=who, public=True, address=config.public_url)
    alone = is_loopback(config.host) or bool(public.hostname)
    host = "" if alone else _reachable_host(config.host, asked)
    if not host:
        ways = (_BIND if alone else _NAMED, _tunnel(port))
        return Reach(who="Only this computer can open this link.", ways=ways, address=config.link(port))
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}{config.root_path}"
    return Reach(
        who=f"Whoever has the link and can reach {host} (port {port}) can open it.",
        public=True,
        advice="If it doesn't open elsewhere, a firewall is in between, or the address is another from there: give "
        "--public-url.",
        address=address,
    )


_BIND: Final = (
    "For everybody on your network: start the server so that they can reach it",
    "gradwatch stop; gradwatch serve --host 0.0.0.0 "
    """--token="$(python3 -c 'import secrets; print(secrets.token_urlsafe(24))')\"""",
)
_NAMED: Final = (
    "For everybody on your network: say under which address they reach this computer",
    "gradwatch serve --host 0.0.0.0 --token YOUR_TOKEN --public-url http://ADDRESS:PORT",
)


def _tunnel(port: int) -> tuple[str, str]:
    return (
        "For somebody with an account on this computer: let them run this, and then open the link",
        f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}",
    )


def _reachable_host(bound: str, asked: str) -> str:
    """A host name for a server that listens on a network: as bound, as the owner reached it, or this machine's address;
    "" where none is known that isn't this computer alone."""
    if bound not in ("", "0.0.0.0", "::"):
        return bound
    seen = urlsplit(f"//{asked}").hostname or ""
    if seen and not is_loopback(seen) and seen != "0.0.0.0":
        return seen
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # a documentation address: chooses the interface, sends nothing
            found = str(probe.getsockname()[0])
    except OSError:
        return ""
    return "" if is_loopback(found) else found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
