"""The kinds of channels (a table), and what their addresses must look like. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, urlsplit

from ..models import Channel

__all__ = ["CHANNEL_KIND", "CHANNEL_KINDS", "ChannelKind", "check_address", "masked"]

MAX_ADDRESS: Final = 2_000

_WEB: Final = frozenset({"http", "https"})
_LOCAL: Final = frozenset({
    "config", "dbus", "file", "glib", "gnome", "include", "kde", "macosx", "qt", "rsyslog", "syslog", "windows",
})  # fmt: skip
"""Apprise schemes that speak to the server's own desktop or log."""

_FILES: Final = frozenset(
    {"attach", "cert", "config", "include", "key", "keyfile", "path", "pgp", "pgpkey", "subfile", "template"}
)
"""Apprise parameters that may name a file on the server."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelKind:
    """How a kind is shown in a form; ``wrong`` gives a sentence about an address that can't be, "" if it can."""

    kind: Literal["webhook", "apprise"]
    label: str
    address: str
    help: str
    example: str
    signs: bool
    wrong: Callable[[str], str]


def _wrong_webhook(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in _WEB or not parts.hostname:
        return "Give an address that begins with https:// (or http://)."
    if parts.username or parts.password:
        return "Leave user and password out of the address; use a secret to sign messages instead."
    return ""


def _wrong_apprise(address: str) -> str:
    scheme, found, _ = address.partition("://")
    scheme = scheme.lower()
    if not found or not scheme:
        return "Give an Apprise address, such as slack://... or mailtos://..."
    if scheme in _WEB:
        return "For a plain web address choose the kind webhook; Slack, Teams and others have addresses of their own."
    if scheme in _LOCAL:
        return f"{scheme}:// speaks to the server's own computer, so it can't be used here."
    try:
        named = {
            key.strip(" +-:").lower() for key, _ in parse_qsl(urlsplit(address).query, keep_blank_values=True)
        }
    except ValueError:
        return "This address can't be read."
    if named & _FILES:
        return f"The parameter {sorted(named & _FILES)[0]!r} may name a file of the server, so it can't be used here."
    return ""


CHANNEL_KINDS: Final[tuple[ChannelKind, ...]] = (
    ChannelKind(
        kind="webhook",
        label="Webhook",
        address="URL",
        help="Each message is sent as JSON by POST. With a secret, the header X-Gradwatch-Signature proves that it is ours.",
        example="https://example.com/hooks/training",
        signs=True,
        wrong=_wrong_webhook,
    ),
    ChannelKind(
        kind="apprise",
        label="Slack, Discord, Teams, e-mail and others",
        address="Apprise address",
        help="One of the services of the Apprise library: slack://, discord://, msteams://, mailtos://, tgram://, ntfys:// ...",
        example="slack://TokenA/TokenB/TokenC/#training",
        signs=False,
        wrong=_wrong_apprise,
    ),
)
CHANNEL_KIND: Final[dict[str, ChannelKind]] = {kind.kind: kind for kind in CHANNEL_KINDS}


def check_address(kind: str, address: str) -> str:
    """What is wrong with an address, "" if nothing is."""
    if kind not in CHANNEL_KIND:
        return "Choose one of the kinds: " + ", ".join(CHANNEL_KIND) + "."
    if not address or len(address) > MAX_ADDRESS or not address.isprintable():
        return f"Give an address of at most {MAX_ADDRESS:,} characters, without line breaks."
    try:
        return CHANNEL_KIND[kind].wrong(address)
    except ValueError:
        return "This address can't be read."


def masked(channel: Channel) -> str:
    """The address for lists: the service, and the host of a webhook, but nothing that opens it."""
    parts = channel.address.partition("://")
    if channel.kind != "webhook":
        return f"{parts[0]}://…"
    return f"{parts[0]}://{urlsplit(channel.address).hostname}/…"
