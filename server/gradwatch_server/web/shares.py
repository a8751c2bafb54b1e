"""The API of share links. For owners only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from ..errors import Invalid, NotFound
from ..sharing import reach_of, share_plain
from . import share_bodies as bodies
from .access import require_owner, services_of
from .replies import reply

__all__ = ["router"]

router = APIRouter(prefix="/shares", tags=["Share links"], dependencies=[Depends(require_owner)])


@router.get("", summary="List share links", response_model=bodies.SharesReply)
async def list_shares(
    request: Request,
    run: Annotated[str | None, Query(max_length=512, description="Only those that show this run.")] = None,
) -> Response:
    """The newest first, expired and revoked ones too. Tokens can't be read again."""
    sharing = services_of(request).sharing
    found = await run_in_threadpool(sharing.links, run or None)
    return reply({"shares": [share_plain(share) for share in found]})


@router.post("", summary="Make a share link", response_model=bodies.ShareMade, status_code=201)
async def create_share(request: Request, body: bodies.ShareIn) -> Response:
    """A read-only link to one run, or to a comparison of several. `reach` says who can open it."""
    services = services_of(request)
    if not body.view.isprintable() or not body.label.isprintable():
        raise Invalid("Label and view can't contain line breaks or control characters.")
    others = [run_id for run_id in dict.fromkeys(body.others) if run_id != body.run]
    for run_id in (body.run, *others):
        if await run_in_threadpool(services.store.run, run_id) is None:
            raise NotFound("There is no such run. It may have been deleted.")
    share, token = await services.sharing.create(
        body.run,
        expires_in=body.expires_in,
        label=body.label.strip(),
        view=body.view,
        password=body.password,
        others=others,
    )
    plain = share_plain(share)
    services.announce("share", share.run_id, plain)
    reach = reach_of(services.config, services.port or services.config.port, request.headers.get("host", ""))
    return reply(
        {
            "share": plain,
            "url": f"{reach.address}/s/{token}",
            "token": token,
            "reach": {
                "who": reach.who,
                "public": reach.public,
                "advice": reach.advice,
                "ways": [{"label": label, "command": command} for label, command in reach.ways],
            },
        },
        201,
    )


@router.delete("/{share_id}", summary="Revoke a share link", status_code=204)
async def revoke_share(request: Request, share_id: str) -> Response:
    """It opens nothing from now on, and pages that it opened are cut off."""
    services = services_of(request)
    share = await services.sharing.revoke(share_id)
    services.announce("share", share.run_id, {**share_plain(share), "revoked": True})
    return Response(status_code=204)
