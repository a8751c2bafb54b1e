"""How a message gets to a channel: one function per kind. They block; :mod:`.courier` calls them in a thread, guarded."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final

from gradwatch import __version__

from ..models import Channel, Notification
from .messages import body_of

__all__ = ["SENDERS", "Undelivered", "send_apprise", "send_webhook", "signature"]

TIMEOUT_S: Final = 15.0


class Undelivered(Exception):
    """The message didn't get through; the sentence says why, without secrets."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that points elsewhere is an error: a signed body goes only where its owner said."""

    def redirect_request(self, *_: Any) -> None:
        return None


def signature(secret: str, time: str, body: bytes) -> str:
    """HMAC-SHA256 over ``time.body`` with the channel's secret, in hex."""
    return hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256).hexdigest()


def send_webhook(channel: Channel, message: Notification) -> None:
    """POSTs the message as JSON.

    Raises:
        Undelivered: anything but a status of 200 to 299.
    """
    body = json.dumps(body_of(message), ensure_ascii=False).encode()
    time = str(int(message.created_at))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"gradwatch/{__version__}",
        "X-Gradwatch-Id": message.id,
        "X-Gradwatch-Time": time,
    }
    if channel.secret:
        headers["X-Gradwatch-Signature"] = "sha256=" + signature(channel.secret, time, body)
    request = urllib.request.Request(channel.address, data=body, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S) as reply:
            reply.read(1024)
    except urllib.error.HTTPError as error:
        with error:
            raise Undelivered(f"the address answered with status {error.code}") from None
    except urllib.error.URLError as error:
        raise Undelivered(f"the address can't be reached: {_plain(error.reason)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Undelivered(f"the address can't be reached: {_plain(error)}") from None


def send_apprise(channel: Channel, message: Notification) -> None:
    """Hands the message to the Apprise library.

    Raises:
        Undelivered: the library doesn't know the address, or couldn't deliver.
    """
    import apprise

    kinds = {"info": apprise.NotifyType.INFO, "warning": apprise.NotifyType.WARNING}
    kind = kinds.get(message.severity, apprise.NotifyType.FAILURE)
    if message.kind == "cleared":
        kind = apprise.NotifyType.SUCCESS
    service = apprise.Apprise.instantiate(channel.address, suppress_exceptions=True)
    if not service:
        raise Undelivered("the Apprise library can't read this address")
    text = f"{message.text}\n{message.link}"
    if not service.notify(body=text, title=message.title, notify_type=kind, body_format="text"):
        raise Undelivered("the service didn't take the message; check the address and its tokens")


SENDERS: Final[dict[str, Callable[[Channel, Notification], None]]] = {
    "webhook": send_webhook,
    "apprise": send_apprise,
}


def _plain(reason: object) -> str:
    return str(reason)[:300]
