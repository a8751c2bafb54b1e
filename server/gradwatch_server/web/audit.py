"""Who changed what: every change through the API that succeeded leaves an entry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from ..store.audit_queries import AuditEntry, add_entry, list_entries
from .access import identify, require_manager, route_of, services_of
from .replies import reply

__all__ = ["audited", "router"]

router = APIRouter(prefix="/audit", tags=["Server"], dependencies=[Depends(require_manager)])

UNCHANGING = frozenset({"GET", "HEAD", "OPTIONS"})
HARMLESS = frozenset({"/api/v1/rules/preview"})
"""Routes that take a POST and change nothing."""


class AuditOut(BaseModel):
    """One change."""

    time: float
    who: str
    address: str
    what: str
    target: str


class AuditReply(BaseModel):
    """The newest changes, newest first."""

    entries: list[AuditOut]


@router.get("", summary="Who changed what", response_model=AuditReply)
async def get_audit(request: Request, limit: Annotated[int, Query(ge=1, le=10_000)] = 200) -> Response:
    """For owners only. What was sent is not kept, since it may hold secrets."""
    database = services_of(request).store.database
    found = await run_in_threadpool(database.read, lambda conn: list_entries(conn, limit=limit))
    return reply({"entries": found})


async def audited(request: Request) -> AsyncIterator[None]:
    """Dependency of the whole API: writes an entry when a change has succeeded. An error passes by without one."""
    path = route_of(request)
    yield
    if request.method in UNCHANGING or path in HARMLESS:
        return
    services = services_of(request)
    identity = await identify(request)
    entry = AuditEntry(
        time=services.clock(),
        who=identity.who[:128],
        address=(request.client.host if request.client else "")[:64],
        what=f"{request.method} {path}"[:128],
        target=" ".join(request.path_params.values())[:512],
    )
    services.store.database.write(lambda conn: add_entry(conn, entry))
