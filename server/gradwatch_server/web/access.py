"""Who asks, and what they may do. Every route of the API goes through :func:`guard`; pages and sockets use the same.

A request is, in this order, of whoever holds the share token in ``X-Gradwatch-Share`` (a page under ``/s/`` acts as that
viewer even in an owner's browser), the bearer token in ``Authorization``, or the session cookie. A change made with a
cookie also needs the page token, and where the browser says from which origin it comes, that must be ours.

A share link sees only what :data:`SHARED` lists, and only with its own run: a new route is closed to it until listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from ..errors import Forbidden, LinkEnded, NotFound, NotSignedIn, TooMany
from ..models import Run
from ..visitors import Share, Viewer
from .keyring import Grant

if TYPE_CHECKING:
    from ..services import Services

__all__ = [
    "SHARED",
    "CurrentViewer",
    "Identity",
    "VisibleRun",
    "check_rate",
    "cookie_name",
    "guard",
    "identify",
    "require_manager",
    "require_owner",
    "require_run",
    "route_of",
    "same_origin",
    "services_of",
    "share_viewer",
    "viewer_of",
]

SHARE_HEADER: Final = "x-gradwatch-share"
PAGE_HEADER: Final = "x-gradwatch-page"
OWNER: Final = Viewer(role="owner")
MEMBER: Final = Viewer(role="member")
OPEN_SESSION: Final = "open"
"""The session that everybody shares on a server without authentication."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

SHARED: Final[frozenset[str]] = frozenset(
    {
        "/api/v1/runs",
        "/api/v1/runs/{run_id}",
        "/api/v1/runs/{run_id}/tensors",
        "/api/v1/runs/{run_id}/series",
        "/api/v1/runs/{run_id}/values",
        "/api/v1/runs/{run_id}/normals",
        "/api/v1/runs/{run_id}/histogram",
        "/api/v1/runs/{run_id}/marks",
        "/api/v1/runs/{run_id}/incidents",
        "/api/v1/runs/{run_id}/actions",
        "/api/v1/runs/{run_id}/what-if",
        "/api/v1/health",
        "/api/v1/alerts",
    }
)
"""Routes that a share link may GET. ``/runs`` gives its own runs only, those without ``{run_id}`` need ``?run=`` with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """A viewer and how it showed who it is. ``session`` is set where a browser did it by cookie."""

    viewer: Viewer
    session: str = ""
    who: str = ""
    """For the audit log: the id of the token, "server" for the server's own."""


def services_of(connection: HTTPConnection) -> Services:
    """What the app is made of."""
    services: Services = connection.app.state.services
    return services


def cookie_name(instance: str) -> str:
    """Cookies don't know ports, so ours is named by the server's instance."""
    return f"gradwatch_{instance}"


async def identify(connection: HTTPConnection, *, share: str | None = None) -> Identity:
    """Who asks. ``share`` is a share token that came in the path.

    Raises:
        LinkEnded: a share token that opens nothing.
        NotSignedIn: nothing says who it is.
    """
    services = services_of(connection)
    if share is not None:
        return Identity(viewer=await share_viewer(services, share))
    known = getattr(connection.state, "identity", None)
    if isinstance(known, Identity):
        return known
    connection.state.identity = await _identify(connection, services)
    identity: Identity = connection.state.identity
    return identity


async def _identify(connection: HTTPConnection, services: Services) -> Identity:
    token = connection.headers.get(SHARE_HEADER, "")
    if token:
        return Identity(viewer=await share_viewer(services, token))
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        grant = services.keyring.grant_of(secret.strip())
        return Identity(viewer=viewer_with(grant), who=_name(grant))
    user = _user_of_proxy(connection, services)
    if user:
        return Identity(viewer=MEMBER, session=f"user {user}", who=user)
    cookie = connection.cookies.get(cookie_name(services.instance), "")
    session = services.sessions.check(cookie, services.clock()) if cookie else None
    if session is None and services.config.insecure_open:
        return Identity(viewer=OWNER, session=OPEN_SESSION, who=OPEN_SESSION)
    if session is None:
        raise NotSignedIn
    grant = services.keyring.grant(services.sessions.key_of(session))
    return Identity(viewer=viewer_with(grant), session=session, who=_name(grant))


def _user_of_proxy(connection: HTTPConnection, services: Services) -> str:
    """Whom a trusted proxy names, "" where there is none. Any other's word counts for nothing."""
    header = services.config.trusted_user_header
    if not header or connection.client is None or not services.config.trusts(connection.client.host):
        return ""
    return connection.headers.get(header, "").strip()[:128]


def _name(grant: Grant | None) -> str:
    return "" if grant is None else grant.id or "server"


def viewer_with(grant: Grant | None) -> Viewer:
    """The viewer that a key stands for.

    Raises:
        NotSignedIn: it opens nothing.
        Forbidden: it is for trainers.
    """
    if grant is None:
        raise NotSignedIn(
            "This token is not right, has expired or was revoked. Ask whoever runs the server for one."
        )
    if grant.role == "trainer":
        raise Forbidden("This token is for training scripts; it doesn't open the dashboard.")
    return OWNER if grant.role == "owner" else MEMBER


async def share_viewer(services: Services, token: str) -> Viewer:
    """The viewer that a share token stands for.

    Raises:
        LinkEnded: no such link (any more).
    """
    share: Share | None = await run_in_threadpool(services.sharing.share_of, token)
    if share is None:
        raise LinkEnded
    return Viewer(role="viewer", runs=frozenset(share.runs), share_id=share.id)


async def viewer_of(request: HTTPConnection) -> Viewer:
    """Dependency: who asks. Refuses those who are nobody."""
    return (await identify(request)).viewer


CurrentViewer = Annotated[Viewer, Depends(viewer_of)]


async def require_owner(request: Request) -> Viewer:
    """Dependency: somebody who may edit (owner or member), and for changes from a page, that it is our page."""
    identity = await identify(request)
    if not identity.viewer.may_edit:
        raise Forbidden("This link is for looking only.")
    if request.method not in _SAFE:
        check_page(request, identity)
    return identity.viewer


def check_page(request: Request, identity: Identity) -> None:
    """Refuses a change that a page of another origin may have caused.

    Raises:
        Forbidden: a foreign origin, or a cookie without the page token.
    """
    if not same_origin(request):
        raise Forbidden("This request comes from a page of another address.")
    if identity.session:
        given = request.headers.get(PAGE_HEADER, "")
        if not services_of(request).sessions.is_page_token(identity.session, given):
            raise Forbidden("This page is out of date. Reload it and try again.")


async def require_manager(request: Request) -> Viewer:
    """Dependency: an owner in the strict sense, who says who else comes in."""
    viewer = await require_owner(request)
    if not viewer.may_manage:
        raise Forbidden("Only owners of this server manage tokens.")
    return viewer


async def require_run(run_id: str, request: Request, viewer: CurrentViewer) -> Run:
    """Dependency of routes with ``{run_id}``: the run, if there is one that the viewer may see.

    Raises:
        NotFound: otherwise, with the same words for both.
    """
    services = services_of(request)
    run = await run_in_threadpool(services.store.run, run_id) if viewer.may_see(run_id) else None
    if run is None:
        raise NotFound("There is no such run. It may have been deleted.")
    return run


VisibleRun = Annotated[Run, Depends(require_run)]


async def guard(request: Request) -> None:
    """Dependency of the whole API: owners may do all; a share link may GET what :data:`SHARED` lists for its run."""
    if request.method not in _SAFE:
        await require_owner(request)
        return
    viewer = await viewer_of(request)
    if viewer.may_edit:
        return
    check_rate(request, viewer)
    route = route_of(request)
    if route not in SHARED:
        raise Forbidden("This link doesn't show that.")
    run_id = request.path_params.get("run_id") or request.query_params.get("run")
    if route != "/api/v1/runs" and (run_id is None or not viewer.may_see(run_id)):
        raise NotFound("There is no such run. It may have been deleted.")


def check_rate(connection: HTTPConnection, viewer: Viewer) -> None:
    """Refuses what a share link asks beyond its share of the server.

    Raises:
        TooMany: so it is.
    """
    services = services_of(connection)
    if viewer.share_id and not services.link_rates.take(viewer.share_id, services.clock()):
        services.metrics.refuse("link")
        raise TooMany("This link is used too much at this moment. Wait a few seconds and try again.")


def route_of(request: Request) -> str:
    """The path of the API's route that was matched, with ``{...}`` for its parameters.

    Some versions of FastAPI give a route's path with the prefixes of its routers, others without.
    """
    return "/api/v1" + str(getattr(request.scope.get("route"), "path", "")).removeprefix("/api/v1")


def same_origin(connection: HTTPConnection) -> bool:
    """Whether the page that caused this is ours. True where no origin is given: then it is not a browser's page.

    A foreign page can set neither ``Host`` nor ``X-Forwarded-Host``, so either may name us.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    config = services_of(connection).config
    public = urlsplit(config.public_url)
    if origin in config.allowed_origins or (public.netloc and origin == f"{public.scheme}://{public.netloc}"):
        return True
    host = urlsplit(origin).netloc
    ours = (connection.headers.get("host"), connection.headers.get("x-forwarded-host"))
    return bool(host) and host in ours
