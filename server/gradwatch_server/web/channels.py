"""The API of notification channels. For owners only; addresses and secrets go in and never come out again."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ..errors import Invalid, NotFound, TooMany
from ..models import Channel, Severity
from ..notify.channels import CHANNEL_KIND, CHANNEL_KINDS, check_address, masked
from ..notify.messages import a_test
from ..store import notify_queries as sql
from .access import require_owner, services_of
from .bodies import _In
from .replies import reply

__all__ = ["router"]

router = APIRouter(prefix="/channels", tags=["Notification channels"], dependencies=[Depends(require_owner)])

MOST_CHANNELS = 50


class ChannelIn(_In):
    """A channel. In a change, an address or secret that is left out stays."""

    name: Annotated[str, Field(max_length=120)] = ""
    kind: str = Field(default="webhook", description="webhook or apprise")
    address: str = Field(default="", max_length=2_000)
    secret: str | None = Field(default=None, max_length=200, description="Signs the messages of a webhook.")
    least: Severity = Field(default="info", description="Alerts below this severity are not sent here.")
    enabled: bool = True


class ChannelOut(BaseModel):
    """A channel without what opens it."""

    id: str
    name: str
    kind: str
    address: str = Field(description="Only what may be shown.")
    signed: bool
    least: str
    enabled: bool
    created_at: float
    updated_at: float
    last_sent: float | None
    last_error: str = Field(description="What went wrong with the last message, empty if nothing did.")


class ChannelReply(BaseModel):
    """One channel."""

    channel: ChannelOut


class ChannelsReply(BaseModel):
    """All channels, and the kinds that there are."""

    channels: list[ChannelOut]
    kinds: list[dict[str, Any]]


class TestReply(BaseModel):
    """Whether a test message got through."""

    delivered: bool
    error: str


@router.get("", summary="List channels", response_model=ChannelsReply)
async def list_channels(request: Request) -> Response:
    """The oldest first."""
    kinds = [
        {name: getattr(kind, name) for name in ("kind", "label", "address", "help", "example", "signs")}
        for kind in CHANNEL_KINDS
    ]
    return reply({"channels": [_plain(channel) for channel in await _channels(request)], "kinds": kinds})


@router.post("", summary="Add a channel", response_model=ChannelReply, status_code=201)
async def add_channel(request: Request, body: ChannelIn) -> Response:
    """Alerts are sent there from now on."""
    if len(await _channels(request)) >= MOST_CHANNELS:
        raise TooMany(f"There are {MOST_CHANNELS} channels already. Remove one that is no longer needed.")
    now = services_of(request).clock()
    return reply({"channel": _plain(await _save(request, _checked(body, secrets.token_hex(8), now)))}, 201)


@router.put("/{channel_id}", summary="Change a channel", response_model=ChannelReply)
async def edit_channel(request: Request, channel_id: str, body: ChannelIn) -> Response:
    """An address or secret that is left out stays."""
    before = await _find(request, channel_id)
    now = services_of(request).clock()
    return reply({"channel": _plain(await _save(request, _checked(body, channel_id, now, before)))})


@router.delete("/{channel_id}", summary="Remove a channel", status_code=204)
async def remove_channel(request: Request, channel_id: str) -> Response:
    """What waits to be sent there is dropped."""
    write = services_of(request).store.database.write(lambda conn: sql.delete_channel(conn, channel_id))
    if not await asyncio.wrap_future(write):
        raise NotFound("There is no such channel.")
    return Response(status_code=204)


@router.post("/{channel_id}/test", summary="Send a test", response_model=TestReply)
async def test_channel(request: Request, channel_id: str) -> Response:
    """Sends a message now and says how that went."""
    services = services_of(request)
    channel = await _find(request, channel_id)
    message = a_test(channel, link=services.link, now=services.clock(), id=secrets.token_hex(12))
    error = await services.courier.send(channel, message)
    return reply({"delivered": not error, "error": error})


async def _channels(request: Request) -> list[Channel]:
    return await run_in_threadpool(services_of(request).store.database.read, sql.list_channels)


async def _find(request: Request, channel_id: str) -> Channel:
    for channel in await _channels(request):
        if channel.id == channel_id:
            return channel
    raise NotFound("There is no such channel.")


async def _save(request: Request, channel: Channel) -> Channel:
    write = services_of(request).store.database.write(lambda conn: sql.save_channel(conn, channel))
    return await asyncio.wrap_future(write)


def _checked(body: ChannelIn, id: str, now: float, before: Channel | None = None) -> Channel:
    address = body.address.strip() or (before.address if before and before.kind == body.kind else "")
    wrong = check_address(body.kind, address)
    if wrong:
        raise Invalid(wrong, {"address" if body.kind in CHANNEL_KIND else "kind": wrong})
    if not body.name.isprintable():
        raise Invalid("A name can't contain line breaks.", {"name": "A name can't contain line breaks."})
    secret = body.secret if body.secret is not None else before.secret if before else ""
    return Channel(
        id=id,
        name=body.name.strip() or CHANNEL_KIND[body.kind].label,
        kind=CHANNEL_KIND[body.kind].kind,
        address=address,
        secret=secret,
        least=body.least,
        enabled=body.enabled,
        created_at=before.created_at if before else now,
        updated_at=now,
        last_sent=before.last_sent if before else None,
    )


def _plain(channel: Channel) -> dict[str, Any]:
    shown = ("id", "name", "kind", "least", "enabled", "created_at", "updated_at", "last_sent", "last_error")
    plain = {name: getattr(channel, name) for name in shown}
    return {**plain, "address": masked(channel), "signed": bool(channel.secret)}
